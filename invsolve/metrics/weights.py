"""Weight files of learned metrics: found in the usual caches or under INVSOLVE_WEIGHTS, never downloaded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invsolve.core.weight_files import VARIABLE, find_weight_file, weight_folders
from invsolve.metrics.base import WeightsMissing

__all__ = ["find_weights", "offline_hub"]


def find_weights(name: str) -> Path:
    """The path of a weight file by its usual name.

    Raises:
        WeightsMissing: it is in none of the folders.
    """
    found = find_weight_file(name)
    if found is None:
        raise WeightsMissing(
            f"weights missing: put {name} into {weight_folders()[-1]}, or name its folder in the variable {VARIABLE}"
        )
    return found


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
