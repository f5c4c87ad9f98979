"""The base of solvers that walk a path: falling times, one network state on each, one step between two of them."""

from __future__ import annotations

from typing import ClassVar

from invsolve.core.checks import check_share
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step, path
from invsolve.core.solver import Solver, State
from invsolve.solvers.linear import signal_path
from invsolve.solvers.updates import start_state

__all__ = ["PathSolver"]


class PathSolver(Solver):
    """A solver whose k-th step goes along the k-th step of `path(problem)`.

    Subclasses declare the fields.

    Attributes:
        n_steps: number of steps.
        t_start: time of the first.
        times: a falling grid of one's own instead of n_steps and t_start.
        start: where the path begins, see `start_state`.
        eta: share of fresh noise in a step, from 0 to 1; for those that have such a setting.
        signal: whether the equations divide by alpha_t, so that a schedule ending in pure noise is entered below it.
    """

    n_steps: int
    t_start: float
    times: tuple[float, ...] | None
    start: str
    eta: float = 0.0
    signal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.eta, "eta")

    def path(self, problem: Problem) -> tuple[Step, ...]:
        """The steps of the descent on the problem's schedule."""
        walk = signal_path if self.signal else path
        return walk(problem.prior.schedule, self.n_steps, self.t_start, self.times)

    def steps(self, problem: Problem) -> int:
        return len(self.path(problem))

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        return State(start_state(problem, n, rng, self.path(problem)[0], self.start))
