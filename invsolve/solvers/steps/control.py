"""Where the control u of a trajectory-matching step acts: the network's input, the transition's mean, or the estimate.

A control defines two things: the clean estimate for a trial u (`trial`), and the step for the optimised u
(`transition`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from invsolve.core.checks import InputError, nearest
from invsolve.core.prior import Prediction
from invsolve.core.problem import Problem
from invsolve.core.schedule import Step
from invsolve.solvers.steps.gradients import Terms
from invsolve.solvers.steps.inner import Outcome, Trial

__all__ = [
    "Control",
    "ControlName",
    "ControlledStep",
    "EstimateControl",
    "LinearControl",
    "NetworkControl",
    "Transition",
    "control_of",
]

ControlName = Literal["network", "linear", "estimate"]


class Transition(NamedTuple):
    """A DDIM step: its clean estimate and noise [N, ...], and an optional shift that is added to x_s."""

    x0: Tensor
    eps: Tensor
    shift: Tensor | None = None


@dataclass(eq=False)
class ControlledStep:
    """One diffusion step as seen by its control.

    Attributes:
        problem: the problem.
        x: the state x_t, [N, ...].
        step: times and coefficients.
        gamma: strength of the control, a number or a tensor that broadcasts against x.
        aggregate: function (x_t, gamma u) -> c that replaces the sum, or None.
        weight: w_T, weight of the terminal cost.
        weights: w_s, w_c and the power of gamma that multiplies c - x_t in the transient cost.
        starts_unguided: whether the first trial is at c = x_t, so that it is also the unguided call.
        unguided: the prediction at x_t, when it is known; detached from the graph.
    """

    problem: Problem
    x: Tensor
    step: Step
    gamma: float | Tensor
    aggregate: Callable[[Tensor, Tensor], Tensor] | None
    weight: float
    weights: tuple[float, float, int]
    starts_unguided: bool
    unguided: Prediction | None = None

    def state(self, u: Tensor) -> Tensor:
        """The state c under the control."""
        if self.aggregate is not None:
            return self.aggregate(self.x, self.gamma * u)
        return self.x + self.gamma * u

    def free(self) -> Prediction:
        """The prediction at x_t; calls the network if it is not known yet."""
        if self.unguided is None:
            with torch.no_grad():
                self.unguided = self.problem.prior.predict(self.x, self.step.t)
        return self.unguided

    def moved(self, u: Tensor, c: Tensor | None = None) -> Terms:
        """The transient cost w_c |gamma^power (c - x_t)|^2, with c - x_t = gamma u if `c` is not given."""
        _, w_c, power = self.weights
        if w_c == 0.0:
            return []
        moved = self.gamma * u if c is None or self.aggregate is None else c - self.x
        return [(self.gamma * moved if power else moved, w_c)]


class Control(ABC):
    """Where u acts. Stateless: one object can be used for any number of steps."""

    @abstractmethod
    def trial(self, at: ControlledStep, u: Tensor) -> Trial:
        """The clean estimate and transient cost for u, connected to u."""

    @abstractmethod
    def transition(self, at: ControlledStep, out: Outcome) -> Transition:
        """The step for the optimised control."""


@dataclass(frozen=True)
class NetworkControl(Control):
    """u moves the network's input, c = x_t + gamma u: p = x0(c), eps(c)."""

    def trial(self, at: ControlledStep, u: Tensor) -> Trial:
        w_s, c = at.weights[0], at.state(u)
        prediction = at.problem.prior.predict(c, at.step.t)
        detached = prediction.detach()
        if at.starts_unguided and at.unguided is None:
            at.unguided, terms = detached, []  # u = 0: nothing has moved yet
        else:
            terms = [*at.moved(u, c)]
            if w_s > 0:
                terms.append((prediction.eps - at.free().eps, w_s))
        return Trial(prediction.x0, terms, detached, lambda v: self._curvature(at, c, prediction.x0, v))

    def transition(self, at: ControlledStep, out: Outcome) -> Transition:
        last = out.carry if out.fresh else at.problem.prior.predict(at.state(out.u), at.step.t)
        return Transition(last.x0, last.eps)

    def _curvature(self, at: ControlledStep, c: Tensor, x0: Tensor, v: Tensor) -> Tensor:
        """2 gamma [w_T J A^T A J + w_s E^2 + w_c gamma^(2 power)] gamma v, J = dx0/dc, E = (1 - alpha J) / sigma."""
        alpha, sigma, (w_s, w_c, power) = at.step.alpha_t, at.step.sigma_t, at.weights

        def jacobian(direction: Tensor) -> Tensor:
            return torch.autograd.grad(x0, c, direction, retain_graph=True)[0]

        w = at.gamma * v
        moved = jacobian(w)
        noise = w_s / sigma**2 * (w - alpha * moved)
        back = jacobian(at.weight * at.problem.linear_data.operator.normal(moved) - alpha * noise)
        near = w_c * (at.gamma**2 * w if power else w)
        return 2.0 * at.gamma * (back + noise + near)


@dataclass(frozen=True)
class LinearControl(Control):
    """u moves the transition's mean by gamma u; the cost is taken at x0(x_t + gamma u)."""

    def trial(self, at: ControlledStep, u: Tensor) -> Trial:
        c = at.state(u)
        prediction = at.problem.prior.predict(c, at.step.t)
        if at.starts_unguided and at.unguided is None:
            at.unguided = prediction.detach()
            return Trial(prediction.x0, [])
        return Trial(prediction.x0, at.moved(u, c))

    def transition(self, at: ControlledStep, out: Outcome) -> Transition:
        last = at.free()
        return Transition(last.x0, last.eps, at.gamma * out.u)


@dataclass(frozen=True)
class EstimateControl(Control):
    """u moves the clean estimate itself, p = x0(x_t) + gamma u: no gradient passes through the network."""

    def trial(self, at: ControlledStep, u: Tensor) -> Trial:
        return Trial(at.free().x0 + at.gamma * u, at.moved(u))

    def transition(self, at: ControlledStep, out: Outcome) -> Transition:
        last = at.free()
        return Transition(last.x0 + at.gamma * out.u, last.eps)


_CONTROLS: dict[str, Control] = {
    "network": NetworkControl(),
    "linear": LinearControl(),
    "estimate": EstimateControl(),
}


def control_of(control: Control | str) -> Control:
    """Return the control itself, or the control with this name.

    Raises:
        InputError: neither a control nor the name of a control.
    """
    if isinstance(control, Control):
        return control
    if control not in _CONTROLS:
        raise InputError(f"unknown control {control!r}; {nearest(str(control), _CONTROLS)}")
    return _CONTROLS[control]
