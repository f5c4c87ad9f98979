"""Weight files: read without running anything in them, mapped into memory, and put into a network strictly.

Safetensors files and torch files are read; of a torch file tensors and plain containers only (`weights_only`), so that
nothing in it is executed. Tensors stay on the disk until they are used.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from invsolve.core.checks import InputError
from invsolve.core.files import written_whole

__all__ = ["Weights", "fill", "read_header", "read_weights", "save_weights"]

_WRAPPERS = ("ema", "model_ema", "params_ema", "ema_state_dict", "state_dict", "model", "model_state_dict", "params")
"""Names under which training scripts store the weights, the best ones first."""

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers of torch put before every name."""


_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""How a torch file begins that is older than torch 1.6."""


class Weights(NamedTuple):
    """The contents of a weight file.

    Attributes:
        tensors: by name.
        metadata: text beside them (safetensors), empty for a torch file.
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
    """The tensors of a .safetensors, .pt, .pth, .ckpt or .bin file, mapped into memory where the format allows it.

    Raises:
        InputError: no such file; a truncated file; a pickle with code in it (nothing of it runs); no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no weight file {path}")
    with path.open("rb") as file:
        start = file.read(16)
    if len(start) < 16:
        raise InputError(f"{path} is no weight file: it has {path.stat().st_size} bytes")
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start[:2] == b"PK" or start.startswith(_LEGACY):
        return _read_torch(path, mapped=start[:2] == b"PK")
    if start[:1] == b"\x80":
        raise InputError(_refusal(path, "a plain pickle"))
    raise InputError(f"{path} is neither a safetensors nor a torch file (or its beginning is damaged)")


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, {} for any other file; no tensor is read."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(path.stat().st_size, 100_000_000):
            return {}
        text = file.read(size)
    try:
        return json.loads(text).get("__metadata__", {}) if text[:1] == b"{" else {}
    except (ValueError, AttributeError):
        return {}


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file; `path` holds either what it held before or the whole new file."""
    from safetensors.torch import save_file

    with written_whole(path) as part:
        save_file(tensors, str(part), metadata=metadata)


def _read_safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Weights(tensors, file.metadata() or {}, path)
    except SafetensorError as error:
        raise InputError(f"{path} is a damaged or truncated safetensors file: {error}") from error


def _read_torch(path: Path, *, mapped: bool) -> Weights:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(_pickle_message(path, str(error))) from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is a damaged or truncated torch file: {reason}") from error
    return Weights(_unwrapped(content, path), {}, path)


def _pickle_message(path: Path, reason: str) -> str:
    line = next((part for part in reason.splitlines() if "GLOBAL" in part or "nsupported" in part), "")
    if line:
        return _refusal(path, line.strip()[:160])
    return f"{path} is a damaged or truncated torch file: {reason.splitlines()[0][:160]}"


def _refusal(path: Path, reason: str) -> str:
    return (
        f"{path} is a pickle that wants to run code, and is not loaded ({reason}): take a state dict or safetensors, "
        "or for an EDM network: invsolve priors convert"
    )


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside what a training script saved."""
    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        inner = next((content[k] for k in _WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path} holds no named weights (a state dict), but a {type(content).__name__}")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): v for name, v in tensors.items()}
    return tensors


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], source: object, *, device: torch.device | str = "cpu"
) -> None:
    """Put weights into a network built on the meta device; on the CPU float32 weights stay where they are mapped.

    Raises:
        InputError: missing or unexpected names, or another shape (both are named); nothing has been changed then.
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
