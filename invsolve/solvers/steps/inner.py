"""The inner problem of trajectory matching: how a control u is optimised at one diffusion step.

All rules work on each row separately: step size and stopping of a sample do not depend on the other samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.linalg import conjugate_gradient, per_sample, row_dot, row_norm
from invsolve.core.problem import Problem
from invsolve.solvers.steps.gradients import AdamState, BlindUpdate, Parameters, Terms, adam, descend, keep
from invsolve.solvers.steps.scales import ScaleRule, check_length_rule
from invsolve.solvers.steps.time_path import Scaling
from invsolve.solvers.steps.updates import noise_floor

__all__ = ["InnerRule", "Outcome", "Trial", "check_scaling", "minimise", "rule_for"]

Optimizer = Literal["adam", "gradient", "lbfgs", "gauss-newton"]


class Trial(NamedTuple):
    """The clean estimate and transient cost for one control u, with their graph.

    Attributes:
        x0: the clean estimate, connected to u.
        transient: cost of leaving the unguided path, the sum of w |d|^2 over pairs (d, w); d is connected to u.
        carry: any value; returned in `Outcome.carry` if this trial is the last.
        curvature: v -> H v, a positive semi-definite approximation of d^2 J / du^2, if there is one.
    """

    x0: Tensor
    transient: Terms
    carry: Any = None
    curvature: Callable[[Tensor], Tensor] | None = None


class Outcome(NamedTuple):
    """The optimised control.

    Attributes:
        u: the control [N, ...].
        carry: `Trial.carry` of the last trial; None if there was no trial.
        fresh: whether the last trial was made at exactly this u.
        misfit: the misfit of the last trial, [N]; None if there was no trial.
        parameters: the operator's unknown parameters.
    """

    u: Tensor
    carry: Any
    fresh: bool
    misfit: Tensor | None
    parameters: Parameters


class InnerRule(ABC):
    """An optimiser of u; a new instance is made for each diffusion step."""

    second_order = False
    """Whether `update` uses `curvature`."""
    needs_cost = False
    """Whether `update` uses the value of J; if not, it receives the misfit, which needs no extra computation."""
    memory: Mapping[str, Tensor] = {}
    """Tensors kept in the solver's state from one diffusion step to the next."""

    @abstractmethod
    def update(
        self, u: Tensor, value: Tensor, gradient: Tensor, curvature: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        """Compute the next u from J [N] and dJ/du at this u."""


@dataclass
class _Adam(InnerRule):
    """Adam from zero moments, as published."""

    lr: float
    moments: AdamState | None = None

    def update(self, u: Tensor, value: Tensor, gradient: Tensor, curvature: Any) -> Tensor:
        u, self.moments = adam(u, gradient, self.moments, self.lr)
        return u


@dataclass
class _Gradient(InnerRule):
    """u - lr dJ/du."""

    lr: float

    def update(self, u: Tensor, value: Tensor, gradient: Tensor, curvature: Any) -> Tensor:
        return u - self.lr * gradient


class _ScaledGradient(InnerRule):
    """u - lr lambda(|dJ/du| / unit) dJ/du."""

    def __init__(self, lr: float, scaling: Scaling) -> None:
        self.lr, self.scaling = lr, scaling
        self.memory = {key: value for key, value in scaling.memory.items() if key.startswith("scale.")}

    def update(self, u: Tensor, value: Tensor, gradient: Tensor, curvature: Any) -> Tensor:
        norm = row_norm(gradient) / self.scaling.unit
        lam, self.memory = self.scaling.rule(norm, self.scaling.at, self.memory)
        return u - self.lr * per_sample(lam, gradient) * gradient


class _LBFGS(InnerRule):
    """u - H dJ/du with H from the last pairs (Nocedal 1980, Math. Comp. 35); the first step is lr dJ/du.

    There is no line search: a row whose J has increased goes back to its best control and halves its next steps.
    """

    history = 6
    needs_cost = True

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # s, y, 1 / <s, y> (0 if a row does not use the pair)
        self.best: tuple[Tensor, Tensor, Tensor] | None = None  # u, J, gradient
        self.scale: Tensor | None = None

    def update(self, u: Tensor, value: Tensor, gradient: Tensor, curvature: Any) -> Tensor:
        if self.best is None or self.scale is None:
            self.best, self.scale = (u, value, gradient), torch.ones_like(value)
            return u - self.lr * gradient
        s, y = u - self.best[0], gradient - self.best[2]
        product = row_dot(s, y)
        useful = product > 1e-10 * row_norm(s) * row_norm(y)
        self.pairs = [*self.pairs, (s, y, torch.where(useful, 1 / torch.where(useful, product, 1.0), 0.0))]
        self.pairs = self.pairs[-self.history :]
        fell = value <= self.best[1]
        self.scale = torch.where(fell, 1.0, 0.5 * self.scale)
        u0, j0, g0 = self.best
        self.best = (keep(fell, u, u0), torch.where(fell, value, j0), keep(fell, gradient, g0))
        return self.best[0] - per_sample(self.scale, u) * self._direction(self.best[2])

    def _direction(self, gradient: Tensor) -> Tensor:
        """Compute H gradient by the two-loop recursion."""
        q, sums = gradient, []
        size = torch.full_like(self.pairs[0][2], self.lr)
        for _, y, inverse in self.pairs:
            size = torch.where(inverse > 0, 1 / (inverse * row_dot(y, y)).clamp_min(torch.finfo(y.dtype).tiny), size)
        for s, y, inverse in reversed(self.pairs):
            sums.append(inverse * row_dot(s, q))
            q = q - per_sample(sums[-1], q) * y
        q = per_sample(size, q) * q
        for (s, y, inverse), total in zip(self.pairs, reversed(sums), strict=True):
            q = q + per_sample(total - inverse * row_dot(y, q), q) * s
        return q


@dataclass
class _GaussNewton(InnerRule):
    """u - lr H^-1 dJ/du with the Gauss-Newton matrix H, by a few conjugate gradient iterations."""

    lr: float
    iterations: int
    second_order = True

    def update(
        self, u: Tensor, value: Tensor, gradient: Tensor, curvature: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        assert curvature is not None
        return u - self.lr * conjugate_gradient(curvature, gradient, max_iter=self.iterations, tol=1e-10).x


def check_scaling(rule: ScaleRule | None, optimizer: str) -> None:
    """Raise `InputError` if the optimizer cannot use the scale rule, or if no optimizer can."""
    check_length_rule(rule)
    if rule is not None and optimizer != "gradient":
        raise InputError(f"a scale rule needs optimizer='gradient', got {optimizer!r}")


def rule_for(optimizer: Optimizer, lr: float, iterations: int = 8, scaling: Scaling | None = None) -> InnerRule:
    """Make the rule with this name; `iterations` is for "gauss-newton", `scaling` the step lengths of "gradient"."""
    if scaling is not None:
        return _ScaledGradient(lr, scaling)
    if optimizer == "gauss-newton":
        return _GaussNewton(lr, iterations)
    return {"adam": _Adam, "gradient": _Gradient, "lbfgs": _LBFGS}[optimizer](lr)


def minimise(
    problem: Problem,
    u: Tensor,
    trial: Callable[[Tensor], Trial],
    rule: InnerRule,
    n: int,
    weight: float,
    parameters: Parameters,
    *,
    clamp: bool,
    blind: BlindUpdate = "joint",
    stop: float | None = None,
) -> Outcome:
    """Update u `n` times to minimise J(u) = weight misfit(x0(u), theta) + transient(u), and theta by its own Adam.

    With `clamp`, the misfit is taken at the estimate clamped to the prior's value range.

    With `stop`, u and theta of a row stay fixed as soon as |y - A(x0)|^2 <= stop^2 m sigma^2. The loop ends when all
    rows have stopped.
    """
    floor = None if stop is None else stop**2 * noise_floor(problem)
    active, misfit, carry = None, None, None
    for _ in range(n):
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            tried = trial(leaf)
            if floor is not None:
                with torch.no_grad():  # with the parameters used to compute the image
                    seen = problem.prior.clamp(tried.x0) if clamp else tried.x0
                    reached = problem.residual_sq(seen, parameters.raw)
                active = reached > floor if active is None else active & (reached > floor)
                if not bool(active.any()):
                    return Outcome(u, tried.carry, True, reached, parameters)
            misfit, gradient, parameters, _ = descend(
                problem,
                tried.x0,
                leaf,
                parameters,
                weight,
                tried.transient,
                clamp=clamp,
                blind=blind,
                active=active,
                retain=rule.second_order,
            )
        carry = tried.carry
        value = misfit
        if rule.needs_cost:
            value = weight * misfit + sum(w * row_dot(d.detach(), d.detach()) for d, w in tried.transient)
        u = keep(active, rule.update(u, value, gradient, tried.curvature), u)
    return Outcome(u, carry, False, misfit, parameters)
