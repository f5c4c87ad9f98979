"""Weight files of the package's own small networks: safetensors with the name of the format and the configuration."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.core.boundary import parse_json
from invsolve.core.checks import InputError
from invsolve.core.files import written_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["read_network", "write_network"]


def write_network(network: nn.Module, config: Any, form: str, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write weights (float16) and configuration to a safetensors file, completely or not at all.

    Args:
        network: the module.
        config: a dataclass of plain values from which the network can be built.
        form: name of the format.
        path: path of the file.
        notes: additional metadata.
    """
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().half().contiguous() for k, v in network.state_dict().items()}
    metadata = {"format": form, "config": json.dumps(asdict(config)), **(notes or {})}
    with written_whole(path) as part:
        save_file(tensors, part, metadata)


def read_network(form: str, path: Path, written_by: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the configuration and float32 weights of a file of `write_network`.

    Args:
        form: name of the format.
        path: path of the file.
        written_by: the command that writes such files.

    Raises:
        InputError: the file does not exist, is not such a file of this format, or has a damaged configuration.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error
    if metadata.get("format") != form:
        raise InputError(f"{path} was not written by `{written_by}`")
    return parse_json(metadata.get("config", ""), f"the configuration in {path}"), tensors
