"""Run mutants in a separate process and record its exceptions, seconds, memory and crashes."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.fuzz.mutate import mutant
from benchmarks.fuzz.seeds import Seed

__all__ = ["MEMORY", "SECONDS", "Outcome", "failures", "run"]

SECONDS, MEMORY = 2.0, 1 << 30
"""Limits for a file of some kilobytes."""

_PATIENCE = 60.0


class Outcome(NamedTuple):
    """The outcome of a mutant.

    Attributes:
        seed, number: name of the intact file and number of the mutant; the same values give the same mutant.
        error: "" if it was read or refused by an InvsolveError, else the exception or how the process ended.
        refused: whether an InvsolveError refused the file.
        seconds, memory: processor time, and bytes by which the process grew.
    """

    seed: str
    number: int
    error: str
    refused: bool
    seconds: float
    memory: int


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """Sentences about other exceptions and exceeded limits."""
    found = []
    for one in outcomes:
        what = one.error or (f"{one.seconds:.1f} s" if one.seconds > SECONDS else "")
        what = what or (f"{one.memory / 2**20:.0f} MiB" if one.memory > MEMORY else "")
        if what:
            found.append(f"{one.seed} {one.number}: {what}")
    return found


def run(seeds: Sequence[Seed], mutants: int, seed: int, folder: Path) -> Iterator[Outcome]:
    """Run `mutants` damaged files, made from the seeds in turn."""
    numbers = list(range(mutants))
    while numbers:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_work, args=(seeds, numbers, seed, folder, sender))
        process.start()
        sender.close()
        for number in list(numbers):
            name = seeds[number % len(seeds)].name
            try:
                outcome = receiver.recv() if receiver.poll(_PATIENCE) else None
            except EOFError:
                outcome = Outcome(name, number, "the process ended", False, 0.0, 0)
            numbers.remove(number)
            if outcome is None:
                process.kill()
                outcome = Outcome(name, number, f"no end within {_PATIENCE:.0f} s", False, _PATIENCE, 0)
            yield outcome
            if outcome.error.startswith(("no end", "the process")):
                break
        process.join()
        receiver.close()


def _work(seeds: Sequence[Seed], numbers: Sequence[int], seed: int, folder: Path, sender: Connection) -> None:
    from invsolve.core.checks import InvsolveError

    for number in numbers:
        one = seeds[number % len(seeds)]
        path = folder / f"mutant{Path(one.name).suffix}"
        path.unlink(missing_ok=True)
        path.write_bytes(mutant(one.content, np.random.default_rng((seed, number))))
        before, began, error, refused = _peak(), time.process_time(), "", False
        try:
            one.read(path)
        except InvsolveError:
            refused = True
        except BaseException as caught:
            error = f"{type(caught).__name__}: {str(caught)[:200]}"
        seconds = time.process_time() - began
        sender.send(Outcome(one.name, number, error, refused, seconds, _peak() - before))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
