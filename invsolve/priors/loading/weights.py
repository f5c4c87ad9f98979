"""Weight files: read without executing their contents, memory-mapped, and loaded strictly into a network.

Safetensors files and torch files are supported. From a torch file only tensors and plain containers are read
(`weights_only`), so nothing in it is executed. Tensors stay on the disk until they are used.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from invsolve.core.boundary import MAX_TEXT_BYTES, foreign, load_torch, open_file, parse_json
from invsolve.core.checks import InputError
from invsolve.core.files import written_whole
from invsolve.priors.loading.wrappers import bare, named_weights

__all__ = ["Weights", "blank", "file_stamp", "fill", "read_header", "read_weights", "save_weights"]


_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""First bytes of a torch file written before torch 1.6."""


class Weights(NamedTuple):
    """The contents of a weight file.

    Attributes:
        tensors: tensors by name.
        metadata: text entries of a safetensors file; empty for a torch file.
        path: the file.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    path: Path

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def read_weights(path: str | Path) -> Weights:
    """Read the tensors of a .safetensors, .pt, .pth, .ckpt or .bin file, memory-mapped if the format allows it.

    Raises:
        InputError: missing file; truncated file; a pickle with code (it is not run); no tensors.
    """
    path = Path(path)
    with open_file(path, "weight file") as file:
        start = file.read(16)
    if len(start) < 16:
        raise InputError(f"{path} is not a weight file: it has {len(start)} bytes")
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start[:2] == b"PK" or start.startswith(_LEGACY):
        return _read_torch(path)
    if start[:1] == b"\x80":
        raise InputError(_refusal(path, "a plain pickle"))
    raise InputError(f"{path} is neither a safetensors nor a torch file (or its beginning is damaged)")


def read_header(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file, {} for any other file; no tensor is read.

    Raises:
        InputError: the file cannot be read, or it is a safetensors file with a damaged header.
    """
    with open_file(path, "weight file") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(path.stat().st_size, MAX_TEXT_BYTES) or (text := file.read(size))[:1] != b"{":
            return {}
    metadata = parse_json(text, f"the header of {path}").get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InputError(f"{path} is damaged: its metadata is not a table of names and texts")
    return metadata


def file_stamp(path: Path) -> tuple[int, int]:
    """Modification time and size of a file, to detect changes."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically: `path` has either its old contents or the complete new file."""
    from safetensors.torch import save_file

    with written_whole(path) as part:
        save_file(tensors, str(part), metadata=metadata)


def _read_safetensors(path: Path) -> Weights:
    from safetensors import safe_open

    metadata = read_header(path)
    with foreign(f"the safetensors file {path}"), safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    own = metadata.get("format", "").startswith("invsolve")
    return Weights(tensors if own else bare(tensors, path), metadata, path)


def _read_torch(path: Path) -> Weights:
    try:
        content = load_torch(path, "weight file", mapped=True)
    except InputError as error:
        if isinstance(error.__cause__, pickle.UnpicklingError):
            raise InputError(_pickle_message(path, str(error.__cause__))) from error
        raise
    with foreign(f"the weight file {path}"):
        tensors = named_weights(content, path)
    _check_storages(tensors, path)
    return Weights(tensors, {}, path)


def _check_storages(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise `InputError` if tensors exceed the file, because torch would fill them with uninitialised memory."""
    for name, t in tensors.items():
        if t.layout != torch.strided or t.is_quantized or t.is_nested or t.is_meta:
            raise InputError(f"{path} holds {name} as a sparse, quantised or empty tensor: save plain ones")
    storages = {storage.data_ptr(): storage.nbytes() for storage in (t.untyped_storage() for t in tensors.values())}
    size = path.stat().st_size
    if sum(storages.values()) > size or any(t.nbytes > t.untyped_storage().nbytes() for t in tensors.values()):
        raise InputError(f"{path} is damaged: its tensors reach beyond the {size} bytes that it has for them")


def _pickle_message(path: Path, reason: str) -> str:
    line = next((part for part in reason.splitlines() if "GLOBAL" in part or "nsupported" in part), "")
    if line:
        return _refusal(path, line.strip()[:160])
    return f"{path} is a damaged or truncated torch file: {reason.splitlines()[0][:160]}"


def _refusal(path: Path, reason: str) -> str:
    return (
        f"{path} is a pickle that would run code, so it is not loaded ({reason}): use a state dict or safetensors, or "
        "for an EDM network, invsolve priors convert"
    )


@contextmanager
def blank() -> Iterator[None]:
    """Build networks without weights, in single precision for any default dtype of torch."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(before)


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], source: object, *, device: torch.device | str = "cpu"
) -> None:
    """Load weights into a network built on the meta device; on the CPU, float32 weights stay memory-mapped.

    Raises:
        InputError: missing or unexpected names, or other shapes; the message names them, and the network is unchanged.
    """
    expected = {**dict(module.named_parameters()), **_persistent_buffers(module)}
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        parts = [f"{word} {_some(names)}" for word, names in (("missing", missing), ("unexpected", extra)) if names]
        raise InputError(f"the weights of {source} do not fit {type(module).__name__}: {'; '.join(parts)}")
    wrong = [
        f"{name} is {list(tensors[name].shape)}, {list(slot.shape)} expected"
        for name, slot in expected.items()
        if tensors[name].shape != slot.shape
    ]
    if wrong:
        raise InputError(f"the weights of {source} do not fit {type(module).__name__}: {_some(wrong)}")
    ready = {}
    for name, slot in expected.items():
        tensor = tensors[name]
        ready[name] = tensor.to(device, slot.dtype if slot.is_floating_point() else tensor.dtype)
    module.load_state_dict(ready, strict=True, assign=True)
    module.eval().requires_grad_(False)


def _persistent_buffers(module: nn.Module) -> dict[str, Tensor]:
    kept = module.state_dict().keys()
    return {name: buffer for name, buffer in module.named_buffers() if name in kept}


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"
