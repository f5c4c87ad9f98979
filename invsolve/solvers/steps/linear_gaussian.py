"""Parts shared by solvers of linear-Gaussian problems: regularised solves, and the denoiser of a guided path.

With y = A x + sigma_y n and the denoiser's estimate x0 = E[x0 | x_t] with covariance C, the guided estimate is

    E[x0 | x_t, y] = x0 + u,  u = C A^T (A C A^T + sigma_y^2 I)^-1 (y - A x0),  C = (sigma_t^2 / alpha_t) d x0 / d x_t

exactly if p(x0 | x_t) is Gaussian. Methods differ in how they approximate C.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from invsolve.core.prior import Prior
from invsolve.core.problem import Problem
from invsolve.core.schedule import Schedule, Step, path

__all__ = ["Tangent", "flat_variance", "isotropic_variance", "signal_path"]

LONGEST = 1000.0
"""Noise-to-signal ratio above which a state is treated as pure noise."""


def flat_variance(problem: Problem) -> Tensor | float:
    """The noise variance sigma_y^2 in the prior's units, one number or one for each row [N]."""
    sigma = problem.linear_data.sigma
    return (sigma**2).flatten() if isinstance(sigma, Tensor) else sigma**2


def isotropic_variance(step: Step, prior_std: float) -> float:
    """r_t^2 = tau^2 sigma_t^2 / (tau^2 alpha_t^2 + sigma_t^2): Var[x0 | x_t] of a pixel with standard deviation tau."""
    tau = prior_std**2
    return tau * step.sigma_t**2 / (tau * step.alpha_t**2 + step.sigma_t**2)


@lru_cache(maxsize=64)
def signal_path(
    schedule: Schedule, n: int, t_start: float, times: tuple[float, ...] | None, noisy_end: bool = False
) -> tuple[Step, ...]:
    """The steps of a path with every alpha_t above 0.

    On a schedule that ends in pure noise (alpha_1 = 0: flow, cosine) the path begins where sigma_t / alpha_t = 1000.
    """
    steps = path(schedule, n, t_start, times, noisy_end)
    first = steps[0]
    if first.alpha_t * LONGEST >= first.sigma_t:
        return steps
    entry = max(schedule.time_of(LONGEST) - 1e-9, (first.t + first.s) / 2)
    return path(schedule, n, t_start, (entry, *(step.s for step in steps)), noisy_end)


class Tangent:
    """One forward call of the denoiser at (x_t, t), and products with its transposed Jacobian.

    Attributes:
        x0: the clean estimate, detached from the graph.
    """

    def __init__(self, prior: Prior, x_t: Tensor, t: float) -> None:
        with torch.enable_grad():
            self._x_t = x_t.detach().requires_grad_()
            self._prediction = prior.predict(self._x_t, t)
        self.x0 = self._prediction.x0.detach()

    @property
    def eps(self) -> Tensor:
        """The noise prediction, detached from the graph."""
        return self._prediction.detach().eps

    def pull(self, v: Tensor, *, last: bool = False) -> Tensor:
        """(d x0 / d x_t)^T v for each row; `last` frees the graph."""
        (gradient,) = torch.autograd.grad(self._prediction.x0, self._x_t, v, retain_graph=not last)
        return gradient
