"""The interface of all executors, and the simplest one, which runs jobs in this process."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from invsolve.core.checks import InvsolveError

__all__ = ["DEATHS", "HOPELESS", "Event", "Executor", "Here", "Run", "outcomes"]

logger = logging.getLogger(__name__)

DEATHS = 3
"""Number of workers that may die on a job before it counts as failed."""

HOPELESS = 12
"""Number of workers that may die before any job has finished; then the run stops."""

Run = Callable[[Any], bytes]
"""A module-level function that takes a job (any picklable object), returns bytes and raises no exception."""


@dataclass(frozen=True)
class Event:
    """A job returned its outcome, or its worker died (then `content` is None and `reason` says how)."""

    job: Any
    content: bytes | None
    reason: str = ""


class Executor(ABC):
    """Runs jobs. `room` returns how many more can be submitted; `wait` blocks until at least one event is ready."""

    @abstractmethod
    def room(self) -> int: ...

    @abstractmethod
    def submit(self, job: Any) -> None: ...

    @abstractmethod
    def wait(self) -> list[Event]: ...

    @abstractmethod
    def close(self) -> None: ...


class Here(Executor):
    """Runs jobs in this process, one after the other."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._jobs: list[Any] = []

    def room(self) -> int:
        return 1 - len(self._jobs)

    def submit(self, job: Any) -> None:
        self._jobs.append(job)

    def wait(self) -> list[Event]:
        return [Event(job, self._run(job)) for job in (self._jobs.pop(),)]

    def close(self) -> None:
        self._jobs.clear()


def outcomes(executor: Executor, jobs: Iterable[Any]) -> Iterator[tuple[int, bytes | None, str]]:
    """Run jobs and yield (index, content, reason) of each one when it finishes.

    A job is taken from `jobs` when a worker is free for it. A job whose worker died runs again. After `DEATHS` deaths
    its content is None, and the reason is a message.

    Raises:
        InvsolveError: if `HOPELESS` workers have died before any job has finished.
    """
    ahead = iter(enumerate(jobs))
    again: deque[tuple[int, Any]] = deque()
    out: dict[int, tuple[int, Any]] = {}
    deaths: Counter[int] = Counter()
    alive = False
    while True:
        while executor.room() and (entry := again.popleft() if again else next(ahead, None)) is not None:
            out[id(entry[1])] = entry
            executor.submit(entry[1])
        if not out:
            return
        for event in executor.wait():
            index, job = out.pop(id(event.job))
            alive = alive or event.content is not None
            if event.content is None:
                deaths[index] += 1
                if not alive and deaths.total() >= HOPELESS:
                    raise InvsolveError(
                        f"{HOPELESS} workers died before any had finished anything; the last one: {event.reason}. Run "
                        "one job in this process to see why, or with fewer workers if the memory is too small"
                    )
                if deaths[index] < DEATHS:
                    logger.warning("a worker died (%s); its job runs again", event.reason)
                    again.appendleft((index, job))
                    continue
                yield index, None, f"{DEATHS} workers died while they ran it; the last one: {event.reason}"
                continue
            yield index, event.content, ""
