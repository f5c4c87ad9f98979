"""Files of a store: outcomes and measurements as safetensors, each known by its digest, damaged ones named."""

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
"""Bytes of a stored file that are read."""

FIELDS = {"unit": str, "status": str, "environment": str, "started": (int, float), "finished": (int, float)}


class StoreFull(InvsolveError):
    """The disk took no more: nothing that was finished is lost."""


class Damaged(InputError):
    """A stored file is not what was written."""


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Turn what a disk refuses into `StoreFull`."""
    try:
        yield
    except OSError as error:
        raise StoreFull(
            f"results cannot be written to {folder} ({error.strerror}); what was finished is kept: "
            "make room and run the same command again"
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the one process that writes to a store; the lock ends with the process.

    Raises:
        InputError: another process writes to it, or the folder cannot be used.
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
    """Size and time of a file: while they stay, its digest is not read again."""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def digest_of(content: bytes) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def hash_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(hash, file) of FOLDER/ab/HASH.safetensors; whatever else lies there is somebody's and left alone."""
    for part in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not re.fullmatch("[0-9a-f]{2}", part.name) or not part.is_dir():
            continue
        for path in sorted(part.iterdir()):
            found = re.fullmatch(r"([0-9a-f]{32})\.safetensors", path.name)
            if found and found[1].startswith(part.name):
                yield found[1], path


def read_checked(path: Path, digest: str | None) -> bytes:
    """The content of a stored file.

    Raises:
        Damaged: it cannot be read, or has another digest.
    """
    try:
        content = read_bytes(path, "stored file", LARGEST_FILE)
    except InputError as error:
        raise Damaged(str(error)) from error
    if digest is not None and digest_of(content) != digest:
        raise Damaged(f"{path} is not what was written there: its SHA-256 has changed")
    return content


def tensors_of(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a stored file.

    Raises:
        Damaged: it is no safetensors file.
    """
    from safetensors.torch import load

    try:
        with foreign(path):
            return load(content)
    except InputError as error:
        raise Damaged(str(error)) from error


def record_of(content: bytes, unit: str | None = None) -> dict[str, Any]:
    """The record in an outcome's header, without reading its tensors.

    Args:
        content: of the file.
        unit: whose outcome it has to be.

    Raises:
        Damaged: there is no such record, or it is another unit's.
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
    """The files of a store, each checked against the digest that was noted when it was written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def digest(self, table: str, name: str) -> str | None:
        """Of a file in "outcomes" or "measurements", as it was written; None where it is not known."""

    def output_path(self, unit: str) -> Path:
        """The file of a unit's outcome."""
        return self.folder / "outputs" / unit[:2] / f"{unit}.safetensors"

    def output(self, unit: str) -> dict[str, Tensor]:
        """The tensors of a unit's outcome.

        Raises:
            Damaged: the file is not what was written.
        """
        path = self.output_path(unit)
        return tensors_of(read_checked(path, self.digest("outcomes", unit)), path)

    def measurement_path(self, measurement: str) -> Path:
        """The file of a measurement."""
        return self.folder / "measurements" / measurement[:2] / f"{measurement}.safetensors"

    def measurement(self, measurement: str) -> dict[str, Tensor]:
        """The tensors of a measurement.

        Raises:
            Damaged: the file is gone, or not what was written.
        """
        path = self.measurement_path(measurement)
        return tensors_of(read_checked(path, self.digest("measurements", measurement)), path)

    def move_aside(self, path: Path) -> None:
        """Move a damaged file, if it is there, to where it is in nobody's way."""
        with guarded(self.folder):
            (self.folder / "aside").mkdir(exist_ok=True)
            if os.path.lexists(path):
                path.replace(self.folder / "aside" / f"{path.name}.{secrets.token_hex(4)}")

    def measured(self, measurement: str) -> bytes | None:
        """The file of a measurement; None where there is none, or a damaged one, which is then set aside."""
        path = self.measurement_path(measurement)
        try:
            self.measurement(measurement)
            return path.read_bytes()
        except Damaged as error:
            if os.path.lexists(path):
                logger.warning("a measurement is set aside and drawn again: %s", error)
                self.move_aside(path)
            return None
