"""Atomic file writes: a file is either complete or absent, whoever else writes into the same folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from invsolve.core.checks import InputError

__all__ = ["destination", "new_file", "write_whole", "written_whole"]


def destination(path: Path) -> Path:
    """The file that is written when writing to `path`: the target of a link, otherwise `path` itself.

    Raises:
        InputError: the link cannot be resolved, or the links form a circle.
    """
    if not path.is_symlink():
        return path
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} is a link that leads nowhere: name another file") from error
    if target.is_symlink():
        raise InputError(f"{path} is a link that leads in a circle: name another file")
    return target


@contextmanager
def written_whole(path: Path) -> Generator[Path]:
    """Yield a temporary file beside `path`, which replaces it if the block succeeds and is deleted otherwise.

    The file has a random name and is newly created, so nothing that somebody else put there is written to. A link at
    `path` stays, and its target is replaced. New files have the permissions that the umask leaves; a replaced file
    passes on its own permissions.

    with written_whole(path) as part:
        part.write_text(text)
    """
    target = destination(path)
    part = new_file(target)
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes, *, replace: bool = True) -> bool:
    """Write a file and flush it to the disk; without `replace`, keep an existing file and return False.

    A link at `path` is replaced, so pass `destination(path)` for a path that a user gives.
    """
    part = new_file(path)
    try:
        with part.open("r+b") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            part.replace(path)
            return True
        try:
            path.hardlink_to(part)
        except FileExistsError:
            return False
        return True
    finally:
        part.unlink(missing_ok=True)


def new_file(target: Path) -> Path:
    """Create an empty file with a random name next to `target`, with its permissions; to be removed or renamed."""
    import secrets

    part = target.with_name(f".{secrets.token_hex(8)}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(part, flags, 0o666))
    if target.is_file():
        part.chmod(stat.S_IMODE(target.stat().st_mode) & 0o777)
    return part
