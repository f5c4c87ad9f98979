"""Weight files of third-party networks: found by name in the usual folders, never downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from invsolve.core.lazy import torch

__all__ = ["VARIABLE", "find_weight_file", "weight_folders"]

VARIABLE = "INVSOLVE_WEIGHTS"
"""The environment variable with the folders to search first, separated as in PATH."""


def weight_folders() -> list[Path]:
    """The folders in which to look for weight files: those of INVSOLVE_WEIGHTS, then torch's cache."""
    own = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [*own, Path(torch.hub.get_dir()) / "checkpoints"]


def find_weight_file(name: str | Path) -> Path | None:
    """Find the file with this path, or with this name in one of the folders; None if there is none.

    Args:
        name: a path, or the usual name of a file, with its usual folder if it has one.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_absolute():
        return None
    return next((folder / path for folder in weight_folders() if (folder / path).is_file()), None)
