"""The file from which an interrupted run goes on, and the marks that tell one run from another."""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.cost import Likelihood
from invsolve.core.files import written_whole
from invsolve.core.problem import Problem
from invsolve.core.solver import Solver

__all__ = ["Checkpoint", "atomic_save", "fingerprint", "peak_memory"]


def fingerprint(
    problem: Problem, solver: Solver, seed: int, keys: Sequence[tuple[Hashable, int]], microbatch: int
) -> str:
    """A hash of everything that decides a run's outcome, as far as it can be told."""
    prior, cost = problem.prior, problem.cost
    parts = [repr(solver), seed, list(keys), microbatch, repr(prior), repr(prior.schedule), prior.dtype]
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=16)
    digest.update(type(cost).__name__.encode())
    if isinstance(cost, Likelihood) and cost.y is not None:
        digest.update(f"{cost.operator!r} {cost.gaussian_sigma}".encode())
        y = cost.y.detach().cpu().contiguous()
        digest.update(y.view(torch.uint8).numpy().tobytes() if y.numel() else b"")
    return digest.hexdigest()


def atomic_save(content: Any, path: Path) -> None:
    """Write `content` so that `path` holds either the old file or the whole new one."""
    with written_whole(path) as part:
        torch.save(content, part)


class Checkpoint:
    """The checkpoint of one run; without a path it remembers nothing.

    Raises:
        InputError: the file belongs to another run or cannot be read.
    """

    def __init__(self, path: str | Path | None, mark: str, seconds: float) -> None:
        self._path = None if path is None else Path(path)
        self._mark, self._seconds = mark, seconds
        self._last = time.monotonic()
        self.finished: list[dict[str, Tensor]] = []
        self._pending: dict[str, Any] | None = None
        if self._path is not None and self._path.exists():
            self._load(self._path)

    def _load(self, path: Path) -> None:
        try:
            content = torch.load(path, weights_only=True)
            mark = content["mark"]
        except Exception as error:
            raise InputError(f"{path} is not a checkpoint of invsolve: delete it or name another file") from error
        if mark != self._mark:
            raise InputError(
                f"{path} is the checkpoint of another run (other data, solver, seed or sizes): "
                "delete it or name another file"
            )
        self.finished, self._pending = content["finished"], content["pending"]

    def pending(self) -> dict[str, Any] | None:
        """The chunk that was interrupted, once."""
        pending, self._pending = self._pending, None
        return pending

    def due(self) -> bool:
        """Whether it is time to save."""
        return self._path is not None and time.monotonic() - self._last >= self._seconds

    def save(self, **pending: Any) -> None:
        """Write the finished chunks and the one in flight."""
        if self._path is not None:
            atomic_save({"mark": self._mark, "finished": self.finished, "pending": pending}, self._path)
            self._last = time.monotonic()

    def finish_chunk(self, finished: list[dict[str, Tensor]]) -> None:
        """Write the finished chunks alone."""
        self.finished = finished
        if self._path is not None:
            atomic_save({"mark": self._mark, "finished": finished, "pending": None}, self._path)
            self._last = time.monotonic()


def peak_memory(device: torch.device) -> int:
    """The most memory held, in bytes: of the GPU if there is one, else of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
