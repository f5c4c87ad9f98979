"""Find weight files of learned metrics in the usual caches or under INVSOLVE_WEIGHTS; nothing is downloaded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invsolve.core.weight_files import VARIABLE, find_weight_file, weight_folders
from invsolve.metrics.base import WeightsMissing

__all__ = ["find_weights", "offline_hub"]


def find_weights(name: str) -> Path:
    """Return the path of a weight file, given its usual name.

    Raises:
        WeightsMissing: the file is in none of the folders.
    """
    found = find_weight_file(name)
    if found is None:
        raise WeightsMissing(
            f"weights missing: put {name} into {weight_folders()[-1]}, or name its folder in the variable {VARIABLE}"
        )
    return found


@contextmanager
def offline_hub(*names: str) -> Iterator[None]:
    """Let libraries that download weights through torch.hub find these local files, and download nothing.

    Raises:
        WeightsMissing: one of the files is not on this machine.
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
