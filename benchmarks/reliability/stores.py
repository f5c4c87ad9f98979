"""Damage to the files of a store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["DAMAGE", "flipped", "flipped_behind_its_back", "stored"]


def stored(folder: Path, part: str = "outputs") -> list[Path]:
    return sorted((folder / part).glob("??/*.safetensors"))


def flipped(path: Path, at: int = -100) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def flipped_behind_its_back(path: Path) -> None:
    status = path.stat()
    flipped(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swapped(path: Path) -> None:
    shutil.copy(next(other for other in stored(path.parents[2]) if other != path), path)


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "empty": lambda path: path.write_bytes(b""),
    "a flipped bit": flipped,
    "a flipped bit of the header": lambda path: flipped(path, 40),
    "a huge header": lambda path: path.write_bytes(b"\xff" * 7 + b"\x7f" + path.read_bytes()[8:]),
    "gone": Path.unlink,
    "another unit's": swapped,
    "text": lambda path: path.write_text("hello"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}
