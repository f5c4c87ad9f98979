"""Hostile checkpoints: files that lie at the checkpoint's path when a run continues."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from invsolve.core.checkpoint import _digest

__all__ = ["HOSTILE"]


class _Code:
    """An object whose pickle runs code when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def _pickled(path: Path, rng: random.Random) -> None:
    path.write_bytes(pickle.dumps(_Code(path.with_name("ran"))))


def _pickled_by_torch(path: Path, rng: random.Random) -> None:
    torch.save({"mark": _Code(path.with_name("ran")), "finished": [], "pending": None}, path)


def _flipped(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 3, 50))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _truncated(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def _bomb(path: Path, rng: random.Random) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("run/data.pkl", bytes(64 << 20))
        archive.writestr("run/version", "3")


def _noise(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(rng.choice((0, 1, 100, 100_000))))


def _pipe(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _circle(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, random.Random], None]:
    """Write a changed content with a matching digest."""

    def write(path: Path, rng: random.Random) -> None:
        content = torch.load(path, weights_only=True)
        change(content)
        if "finished" in content and "pending" in content:
            content["digest"] = _digest(content["finished"], content["pending"])
        torch.save(content, path)

    return write


PENDING = {
    "x": torch.zeros(1, 3, 4, 4), "k": 3, "theta": {}, "memory": {}, "estimate": torch.zeros(1, 3, 4, 4),
    "failed": torch.zeros(2), "rng": torch.zeros(1), "forwards": 0, "backwards": 0, "seconds": 0.0,
}  # fmt: skip

HOSTILE: dict[str, Callable[[Path, random.Random], None]] = {
    "bits flipped": _flipped,
    "truncated": _truncated,
    "noise": _noise,
    "a pickle with code": _pickled,
    "a pickle with code inside": _pickled_by_torch,
    "a packed bomb": _bomb,
    "a pipe": _pipe,
    "a folder": _folder,
    "a link to itself": _circle,
    "another mark": _changed(lambda c: c.update(mark="0" * 32)),
    "no mark": _changed(lambda c: c.pop("mark")),
    "chunks of another size": _changed(lambda c: c["finished"][0].update(samples=torch.zeros(7, 3, 4, 4))),
    "more chunks": _changed(lambda c: c["finished"].extend(c["finished"])),
    "chunks that are none": _changed(lambda c: c.update(finished=[1, 2, 3])),
    "something in flight that does not fit": _changed(lambda c: c.update(finished=[], pending=dict(PENDING))),
    "something in flight without names": _changed(lambda c: c.update(finished=[], pending={"x": torch.zeros(1)})),
    "a number for what is in flight": _changed(lambda c: c.update(pending=3)),
}
"""Each is called with the path of an intact checkpoint of the run, and a random generator."""
