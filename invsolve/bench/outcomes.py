"""Files of a store: outcomes and measurements as safetensors, each checked by its digest."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from invsolve.core.boundary import foreign, parse_json, read_bytes
from invsolve.core.checks import InputError, InvsolveError
from invsolve.core.files import write_whole

__all__ = [
    "Damaged", "StoreFull", "StoredFiles", "digest_of", "guarded", "hash_files", "locked", "read_checked", "record_of",
    "stamp_of", "tensors_of",
]  # fmt: skip

logger = logging.getLogger(__name__)

LARGEST_FILE = 4 << 30
"""Largest size, in bytes, of a stored file that is read."""

FIELDS = {"unit": str, "status": str, "environment": str, "started": (int, float), "finished": (int, float)}


class StoreFull(InvsolveError):
    """The results cannot be written, for example because the disk is full; finished results are kept."""


class Damaged(InputError):
    """A stored file is missing, unreadable, or has changed since it was written."""


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Convert errors when writing to the disk into `StoreFull`."""
    try:
        yield
    except OSError as error:
        raise StoreFull(
            f"results cannot be written to {folder} ({error.strerror}); what was finished is kept: "
            "make room and run the same command again"
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the write lock of a store; the lock ends with the process.

    Raises:
        InputError: if another process writes to the store, or the folder cannot be used.
    """
    from filelock import FileLock, Timeout

    try:
        for part in ("outputs", "measurements"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        who = (folder / "writer").read_text() if (folder / "writer").is_file() else "its name is not known"
        raise InputError(f"another run ({who}) is writing to {folder}: wait for it, or stop it") from error
    except OSError as error:
        raise InputError(f"{folder} cannot be used for results: {error.strerror or error}") from error
    try:
        with guarded(folder):
            write_whole(folder / "writer", f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        lock.release()


def stamp_of(path: Path) -> str:
    """Return the size and modification time of a file; while they are unchanged, its digest is not checked again."""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of the content of a file."""
    return hashlib.sha256(content).hexdigest()


def hash_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (hash, file) for each FOLDER/ab/HASH.safetensors; all other files are ignored."""
    for part in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not re.fullmatch("[0-9a-f]{2}", part.name) or not part.is_dir():
            continue
        for path in sorted(part.iterdir()):
            found = re.fullmatch(r"([0-9a-f]{32})\.safetensors", path.name)
            if found and found[1].startswith(part.name):
                yield found[1], path


def read_checked(path: Path, digest: str | None) -> bytes:
    """Read a stored file.

    Raises:
        Damaged: if it cannot be read, or has another digest.
    """
    try:
        content = read_bytes(path, "stored file", LARGEST_FILE)
    except InputError as error:
        raise Damaged(str(error)) from error
    if digest is not None and digest_of(content) != digest:
        raise Damaged(f"{path} was changed after it was written: its SHA-256 differs")
    return content


def tensors_of(content: bytes, path: Path) -> dict[str, Tensor]:
    """Parse the tensors of a stored file.

    Raises:
        Damaged: if it is not a safetensors file.
    """
    from safetensors.torch import load

    try:
        with foreign(path):
            return load(content)
    except InputError as error:
        raise Damaged(str(error)) from error


def record_of(content: bytes, unit: str | None = None) -> dict[str, Any]:
    """Read the record in the header of an outcome, without reading its tensors.

    Args:
        content: the content of the file.
        unit: the unit to which the outcome must belong; not checked if None.

    Raises:
        Damaged: if there is no valid record, the file is truncated, or the outcome belongs to another unit.
    """
    size = int.from_bytes(content[:8], "little")
    try:
        if not 2 <= size <= len(content) - 8:
            raise InputError("the outcome is truncated")
        header = parse_json(content[8 : 8 + size], "the outcome's header")
        metadata = header.get("__metadata__")
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        record = parse_json(str(metadata["record"]), "the outcome's record") if isinstance(metadata, Mapping) else {}
    except (InputError, KeyError, TypeError, IndexError) as error:
        raise Damaged(f"no record of a run: {error}") from error
    if max(ends, default=0) != len(content) - 8 - size:
        raise Damaged("the outcome is truncated")
    wrong = [name for name, kind in FIELDS.items() if not isinstance(record.get(name), kind)]
    if wrong or (unit is not None and record["unit"] != unit):
        raise Damaged("it is the outcome of another unit" if not wrong else f"its record has no {wrong[0]}")
    return record


class StoredFiles(ABC):
    """The files of a store, each checked against the digest recorded when it was written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def digest(self, table: str, name: str) -> str | None:
        """Return the recorded digest of a file in "outcomes" or "measurements"; None if it is not known."""

    def output_path(self, unit: str) -> Path:
        """Return the path of the outcome of a unit."""
        return self.folder / "outputs" / unit[:2] / f"{unit}.safetensors"

    def output(self, unit: str) -> dict[str, Tensor]:
        """Read the tensors of the outcome of a unit.

        Raises:
            Damaged: if the file is missing or has changed.
        """
        path = self.output_path(unit)
        return tensors_of(read_checked(path, self.digest("outcomes", unit)), path)

    def measurement_path(self, measurement: str) -> Path:
        """Return the path of a measurement."""
        return self.folder / "measurements" / measurement[:2] / f"{measurement}.safetensors"

    def measurement(self, measurement: str) -> dict[str, Tensor]:
        """Read the tensors of a measurement.

        Raises:
            Damaged: if the file is missing or has changed.
        """
        path = self.measurement_path(measurement)
        return tensors_of(read_checked(path, self.digest("measurements", measurement)), path)

    def move_aside(self, path: Path) -> None:
        """Move a damaged file, if it exists, to the folder `aside`."""
        with guarded(self.folder):
            (self.folder / "aside").mkdir(exist_ok=True)
            if os.path.lexists(path):
                path.replace(self.folder / "aside" / f"{path.name}.{secrets.token_hex(4)}")

    def measured(self, measurement: str) -> bytes | None:
        """Read the file of a measurement; return None if it is missing, or damaged and then set aside."""
        path = self.measurement_path(measurement)
        try:
            self.measurement(measurement)
            return path.read_bytes()
        except Damaged as error:
            if os.path.lexists(path):
                logger.warning("a measurement is set aside and drawn again: %s", error)
                self.move_aside(path)
            return None
