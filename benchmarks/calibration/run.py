"""Cells of the calibration table: one solver on one problem, measured and compared with the exact posterior."""

from __future__ import annotations

import fnmatch
import math
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor

from benchmarks.calibration.problems import PROBLEMS, Case
from benchmarks.calibration.settings import Row, rows
from benchmarks.common import SharedNoise
from invsolve import CapabilityError, InvsolveError, solve
from invsolve.bench.peers import PEERS, Peer, Unable, run_peer
from invsolve.diagnostics import calibrate, resolution

__all__ = ["EXACT", "names", "run", "run_cell"]

EXACT = "exact samples"
"""The row that shows the statistics of exact posterior samples."""


@lru_cache
def case(problem: str, samples: int | None) -> Case:
    """The built problem; it is built once per process."""
    return PROBLEMS[problem].build(samples)


@lru_cache
def entries() -> dict[str, Row | Peer]:
    """The rows of invsolve and of other libraries, by name."""
    return {row.name: row for row in rows()} | {peer.name: peer for peer in PEERS}


def names(problems: str = "*", pattern: str = "*") -> Iterator[tuple[str, str]]:
    """(problem, row) of all cells whose names match the comma-separated patterns."""
    for problem in PROBLEMS:
        if _matches(problem, problems):
            for row in (EXACT, *entries()):
                if _matches(row, pattern):
                    yield problem, row


def run_cell(problem: str, row: str, samples: int | None = None) -> dict[str, Any]:
    """One cell as a flat record; if it cannot be run, the status is the reason."""
    torch.set_num_threads(1)
    built = case(problem, samples)
    if row == EXACT:
        bands = resolution(built.reference, built.samples)
        statistics = {name: [band.mean, band.low, band.high] for name, band in bands.items()}
        return {"problem": problem, "row": row, "family": "exact", "bands": statistics, "status": "ok"}
    entry = entries()[row]
    family = "ours" if isinstance(entry, Row) else "peer"
    record: dict[str, Any] = {"problem": problem, "row": row, "family": family, "settings": entry.settings}
    if isinstance(entry, Row) and entry.largest < PROBLEMS[problem].dimension:
        return record | {"status": f"not run: so many calls are for at most {entry.largest} dimensions"}
    try:
        draws, cost = _ours(entry, built) if isinstance(entry, Row) else _theirs(entry, built)
    except (CapabilityError, Unable) as error:
        return record | {"status": f"not applicable: {error}"}
    except InvsolveError as error:
        return record | {"status": f"refused: {error}"}
    report = calibrate(draws, built.reference)
    status = "ok" if report.failed == 0 else f"{report.failed} samples are not finite"
    return record | cost | {"status": status, "samples": report.samples} | report.numbers()


def _ours(row: Row, built: Case) -> tuple[Tensor, dict[str, float]]:
    began = time.process_time()
    result = solve(built.problem, row.solver, samples=built.samples, rng=SharedNoise(0))
    seconds = time.process_time() - began
    ended = torch.tensor([[sentence != "ok" for sentence in item] for item in result.status])
    draws = torch.where(ended[(...,) + (None,) * (result.samples.ndim - 2)], math.nan, result.samples)
    stats = result.stats
    return draws, {"forwards": stats.network_forwards, "backwards": stats.network_backwards, "seconds": seconds}


def _theirs(peer: Peer, built: Case) -> tuple[Tensor, dict[str, float]]:
    result = run_peer(peer, built.problem, built.samples)
    return result.samples, {"forwards": result.forwards, "backwards": result.backwards, "seconds": result.seconds}


def run(cells: Iterable[tuple[str, str]], jobs: int = 2, samples: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of many cells when they are ready; they run in processes with one thread each."""
    cells = list(cells)
    if jobs == 1:
        yield from (run_cell(problem, row, samples) for problem, row in cells)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_cell, problem, row, samples) for problem, row in cells]
        for future in futures:
            yield future.result()


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern.strip()) for pattern in patterns.split(","))
