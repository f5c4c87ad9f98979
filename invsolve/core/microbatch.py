"""The number of rows that run together on a GPU: as many as fit into its free memory."""

from __future__ import annotations

from collections.abc import Callable

import torch

from invsolve.core.problem import Problem
from invsolve.core.rng import Rng
from invsolve.core.solver import Solver

__all__ = ["rows_that_fit"]

ROOM = 0.8
"""Share of the free memory that is used; some memory is lost to fragmentation."""


def rows_that_fit(problem: Problem, solver: Solver, rows: int) -> int:
    """The number of rows, at most `rows`, whose step fits into a GPU, estimated from the first step of one row.

    On a CPU it is `rows`: larger batches do not make networks faster there, and `--memory` splits restorations.
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
    """The number of rows that fit into the free bytes if one takes `taken`; at least one."""
    return max(1, min(rows, int(ROOM * free / max(taken, 1))))


def _memory(run: Callable[[], None], device: torch.device) -> tuple[int, int]:
    """The free bytes of a GPU, including those that torch keeps for itself, and the most that `run` takes."""
    run()  # what is made only once, such as spectra and workspaces, is not counted
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    taken = torch.cuda.max_memory_allocated(device) - before
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), taken
