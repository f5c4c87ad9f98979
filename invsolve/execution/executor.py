"""What every place where jobs run has in common, and the simplest one: this process."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from invsolve.core.checks import InvsolveError

__all__ = ["DEATHS", "HOPELESS", "Event", "Executor", "Here", "Run", "outcomes"]

logger = logging.getLogger(__name__)

DEATHS = 3
"""Workers that may die over a job before it counts as failed."""

HOPELESS = 12
"""Workers that may die before anything has come back at all."""

Run = Callable[[Any], bytes]
"""A function of a module that turns a job, anything that can be pickled, into bytes and raises nothing."""


@dataclass(frozen=True)
class Event:
    """A job came back with its outcome, or its worker died (`content` None, `reason` says how)."""

    job: Any
    content: bytes | None
    reason: str = ""


class Executor(ABC):
    """Where jobs run. `room` says how many more can be given; `wait` returns when something has come back."""

    @abstractmethod
    def room(self) -> int: ...

    @abstractmethod
    def submit(self, job: Any) -> None: ...

    @abstractmethod
    def wait(self) -> list[Event]: ...

    @abstractmethod
    def close(self) -> None: ...


class Here(Executor):
    """In this process, one after the other."""

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


def outcomes(executor: Executor, jobs: Sequence[Any]) -> Iterator[tuple[int, bytes | None, str]]:
    """Run jobs and give (index, content, reason) of each as it comes back.

    A job whose worker died is run again; after `DEATHS` of them its content is None and the reason a sentence.

    Raises:
        InvsolveError: `HOPELESS` workers have died, and none has finished anything.
    """
    waiting, out, deaths = deque(range(len(jobs))), {}, [0] * len(jobs)
    alive = False
    while waiting or out:
        while waiting and executor.room():
            index = waiting.popleft()
            out[id(jobs[index])] = index
            executor.submit(jobs[index])
        for event in executor.wait():
            index = out.pop(id(event.job))
            alive = alive or event.content is not None
            if event.content is None:
                deaths[index] += 1
                if not alive and sum(deaths) >= HOPELESS:
                    raise InvsolveError(
                        f"{HOPELESS} workers died before any had finished anything, the last: {event.reason}; run one "
                        "job in this process to see why, or with fewer workers if the memory is too small"
                    )
                if deaths[index] < DEATHS:
                    logger.warning("a worker died (%s); its job runs again", event.reason)
                    waiting.appendleft(index)
                    continue
                yield index, None, f"{DEATHS} workers died over it, the last: {event.reason}"
                continue
            yield index, event.content, ""
