"""Weight files of learned metrics: found in the usual caches or under INVSOLVE_WEIGHTS, never downloaded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invsolve.metrics.base import WeightsMissing

__all__ = ["find_weights", "offline_hub"]

VARIABLE = "INVSOLVE_WEIGHTS"
"""Folders searched first, separated as in PATH."""


def _folders() -> list[Path]:
    import torch

    own = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [*own, Path(torch.hub.get_dir()) / "checkpoints"]


def find_weights(name: str) -> Path:
    """The path of a weight file by its usual name.

    Raises:
        WeightsMissing: it is in none of the folders.
    """
    folders = _folders()
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise WeightsMissing(
        f"weights missing: put {name} into {folders[-1]}, or name its folder in the variable {VARIABLE}"
    )


@contextmanager
def offline_hub(*names: str) -> Iterator[None]:
    """Let libraries that fetch weights through torch.hub find these files, wherever they lie, and fetch nothing.

    Raises:
        WeightsMissing: one of them is on this machine nowhere.
    """
    import torch

    found = [find_weights(name) for name in names]
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        for path in found:
            (checkpoints / path.name).symlink_to(path.resolve())
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)
