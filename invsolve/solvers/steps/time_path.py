"""Base classes of solvers that follow a path of decreasing times, with one state per time and one step between two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from invsolve.core.linalg import row_norm
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step, check_times, path
from invsolve.core.solver import Solver, State
from invsolve.solvers.steps.gradients import start_parameters
from invsolve.solvers.steps.linear_gaussian import signal_path
from invsolve.solvers.steps.scales import At, ScaleRule
from invsolve.solvers.steps.updates import Start, start_state

__all__ = ["PathSolver", "ScaledPath", "Scaling"]

GUIDED_TIME = 0.4
"""Default start time of guided paths, as published for NDTM on FFHQ super-resolution."""


class PathSolver(Solver):
    """A solver whose k-th step follows the k-th step of `path(problem)`.

    Subclasses declare the fields.

    Attributes:
        n_steps: number of steps.
        t_start: time of the first step; if None, 1 for random starts and GUIDED_TIME for starts from an estimate.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
        start: where the path begins, see `start_state`.
        noisy_end: whether explicit times may end above 0, so that the sample keeps some noise.
        divides_by_alpha: whether the update divides by alpha_t. If it or the prior does, the path on a schedule with
            alpha_1 = 0 (flow matching, cosine) begins at sigma_t / alpha_t = 1000 instead of t = 1.
    """

    n_steps: int
    t_start: Any
    times: tuple[float, ...] | None
    start: Any
    noisy_end: ClassVar[bool] = False
    divides_by_alpha: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.times is not None:
            check_times(self.times, self.noisy_end)

    def path(self, problem: Problem) -> tuple[Step, ...]:
        """The steps of the path on the problem's schedule."""
        schedule, t_start = problem.prior.schedule, self.t_start
        if t_start is None:
            t_start = 1.0 if self.start == "random" else GUIDED_TIME
        if self._divides_by_alpha:
            return signal_path(schedule, self.n_steps, t_start, self.times, self.noisy_end)
        steps = path(schedule, self.n_steps, t_start, self.times, self.noisy_end)
        if steps[0].alpha_t == 0 and problem.prior.divides_by_alpha:
            return signal_path(schedule, self.n_steps, t_start, self.times, self.noisy_end)
        return steps

    @property
    def _divides_by_alpha(self) -> bool:
        return self.divides_by_alpha

    def steps(self, problem: Problem) -> int:
        return len(self.path(problem))

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        return State(start_state(problem, n, rng, self.path(problem)[0], self._start))

    @property
    def _start(self) -> Start:
        return self.start


class Scaling(NamedTuple):
    """A guidance scale rule for the lengths of control updates.

    Attributes:
        rule: the rule for lambda.
        at: time and step of the run.
        memory: the state's memory, which contains the rule's.
        unit: unit of the gradient: the rule receives |dJ/du| / unit.
    """

    rule: ScaleRule
    at: At
    memory: Mapping[str, Tensor]
    unit: float = 1.0


class ScaledPath(PathSolver):
    """A path solver that steps along a gradient; a guidance scale rule can set the length of the step.

    The memory of the rule is kept in the state's memory, next to the solver's own entries.

    Attributes:
        scale: the rule; None for the solver's own length.
    """

    scale: ScaleRule | None

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        x = super().init(problem, n, rng).x
        theta = start_parameters(problem, n, rng, x)
        memory = {} if self.scale is None else self.scale.start(len(x), x)
        return State(x, theta=theta.raw, memory={**theta.memory, **memory})

    def scaled(self, problem: Problem, state: State, gradient: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return lambda [N] for this step's gradient [N, ...], and the rule's new memory."""
        scaling = self.scaling(problem, state)
        assert scaling is not None
        return scaling.rule(row_norm(gradient), scaling.at, scaling.memory)

    def scaling(self, problem: Problem, state: State, unit: float = 1.0) -> Scaling | None:
        """The rule at this step for an inner optimizer; None if there is no rule."""
        if self.scale is None:
            return None
        steps = self.path(problem)
        return Scaling(self.scale, At(steps[state.k].t, state.k, len(steps)), state.memory, unit)
