"""How many rows run together on a GPU: as many as its free memory has room for."""

from __future__ import annotations

from collections.abc import Callable

import torch

from invsolve.core.problem import Problem
from invsolve.core.rng import Rng
from invsolve.core.solver import Solver

__all__ = ["rows_that_fit"]

ROOM = 0.8
"""Share of the free memory that is used: memory is also lost to fragments."""


def rows_that_fit(problem: Problem, solver: Solver, rows: int) -> int:
    """Rows, at most `rows`, of which a GPU holds a step, by the memory that the first step of one row takes.

    All of them on a CPU, where networks run no faster for larger batches but restorations are cut by `--memory`.
    """
    device = problem.prior.device
    if device.type != "cuda" or rows == 1:
        return rows
    one = problem.select(torch.tensor([0]))

    @torch.no_grad()
    def step() -> None:
        rng = Rng(0)
        solver.step(one, solver.init(one, 1, rng), rng)

    return _fitting(*_memory(step, device), rows)


def _fitting(free: int, taken: int, rows: int) -> int:
    """Rows that fit into the free bytes where one takes `taken`; at least one."""
    return max(1, min(rows, int(ROOM * free / max(taken, 1))))


def _memory(run: Callable[[], None], device: torch.device) -> tuple[int, int]:
    """Bytes that are free on a GPU, those that torch keeps for itself included, and those that `run` takes at most."""
    run()  # what is made once, such as spectra and workspaces, counts as there
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    taken = torch.cuda.max_memory_allocated(device) - before
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), taken
