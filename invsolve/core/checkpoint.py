"""The file from which an interrupted run resumes."""

from __future__ import annotations

import io
import logging
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.files import destination, write_whole
from invsolve.core.identity import identify

__all__ = ["Checkpoint", "atomic_save", "peak_memory"]

logger = logging.getLogger(__name__)

_FINISHED = {"samples", "failed", "energy", "calls", "seconds"}
_PENDING = {"x", "k", "theta", "memory", "estimate", "failed", "rng", "forwards", "backwards", "seconds"}


def atomic_save(content: Any, path: Path) -> None:
    """Write `content` so that `path` holds either the old file or the whole new one."""
    packed = io.BytesIO()
    torch.save(content, packed)
    write_whole(destination(path), packed.getvalue())


class Checkpoint:
    """The checkpoint of one run; without a path, nothing is saved.

    Args:
        path: path of the file; None for no checkpoint.
        mark: the `run_identity` of the run.
        seconds: time between two writes of the file.
        rows: number of rows of each chunk.

    Raises:
        InputError: the file belongs to another run or cannot be read, or there is no folder for it.
    """

    def __init__(self, path: str | Path | None, mark: str, seconds: float, rows: Sequence[int]) -> None:
        self._path = None if path is None else Path(path)
        self._mark, self._seconds, self._rows = mark, seconds, rows
        self._last, self._warned = time.monotonic(), False
        self.finished: list[dict[str, Tensor]] = []
        self._pending: dict[str, Any] | None = None
        if self._path is None:
            return
        if self._path.exists():
            self._load(self._path)
        elif not self._path.parent.is_dir():
            raise InputError(f"the folder {self._path.parent} of the checkpoint does not exist: make it first")

    def _load(self, path: Path) -> None:
        other = f"{path} is not a checkpoint of invsolve: delete it or name another file"
        if not path.is_file():
            raise InputError(other)
        try:
            _check_archive(path)
            content = torch.load(path, map_location=None if torch.cuda.is_available() else "cpu", weights_only=True)
            mark, digest = content["mark"], content["digest"]
            finished, pending = content["finished"], content["pending"]
        except Exception as error:
            raise InputError(other) from error
        if mark != self._mark:
            raise InputError(
                f"{path} is the checkpoint of another run (another prior, cost, measurement, solver, seed, size or "
                "version): delete it or name another file"
            )
        if digest != _digest(finished, pending) or not self._fits(finished, pending):
            raise InputError(f"{path} is a damaged checkpoint: delete it or name another file")
        self.finished, self._pending = finished, pending

    def _fits(self, finished: Any, pending: Any) -> bool:
        """Whether the content has the form of a run with these chunks."""
        if not isinstance(finished, list) or len(finished) > len(self._rows):
            return False
        for chunk, rows in zip(finished, self._rows, strict=False):
            if not _tensors(chunk) or not chunk.keys() >= _FINISHED:
                return False
            if any(chunk[name].shape[:1] != (rows,) for name in ("samples", "failed", "energy")):
                return False
        if pending is None:
            return True
        if not isinstance(pending, dict) or pending.keys() != _PENDING or len(finished) == len(self._rows):
            return False
        rows = self._rows[len(finished)]
        numbers = (pending[name] for name in ("k", "forwards", "backwards", "seconds"))
        parts = {name: pending[name] for name in ("x", "estimate", "failed", "rng")}
        return (
            all(isinstance(value, int | float) and value >= 0 for value in numbers)
            and _tensors(parts)
            and _tensors(pending["theta"])
            and _tensors(pending["memory"])
            and parts["x"].shape == parts["estimate"].shape
            and parts["failed"].shape == (rows,)
            and all(part.shape[:1] == (rows,) for part in (parts["x"], *pending["theta"].values()))
        )

    def pending(self) -> dict[str, Any] | None:
        """The interrupted chunk, if there is one; only the first call returns it."""
        pending, self._pending = self._pending, None
        return pending

    def due(self) -> bool:
        """Whether it is time to save."""
        return self._path is not None and time.monotonic() - self._last >= self._seconds

    def save(self, **pending: Any) -> None:
        """Write the finished chunks and the running one."""
        self._write(pending)

    def finish_chunk(self, finished: list[dict[str, Tensor]]) -> None:
        """Write only the finished chunks."""
        self.finished = finished
        self._write(None)

    def _write(self, pending: dict[str, Any] | None) -> None:
        """Write the file. If that fails, warn once and continue."""
        if self._path is None:
            return
        digest = _digest(self.finished, pending)
        content = {"mark": self._mark, "digest": digest, "finished": self.finished, "pending": pending}
        try:
            atomic_save(content, self._path)
        except OSError as error:
            if not self._warned:
                reason = error.strerror or str(error)
                logger.warning("the checkpoint %s cannot be written (%s): the run continues", self._path, reason)
            self._warned = True
        self._last = time.monotonic()


def _digest(finished: Any, pending: Any) -> str:
    return identify((finished, pending), "the checkpoint")


def _tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(v, Tensor) and isinstance(k, str) for k, v in value.items())


def _check_archive(path: Path) -> None:
    """Raise `ValueError` unless the file is what `torch.save` writes: an archive without compression."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("compressed")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("overlapping")


def peak_memory(device: torch.device) -> int:
    """The most memory held, in bytes: of the GPU if it is used, else of the process since its start.

    0 if the system does not report it (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:
        return 0
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
