"""Updates shared by solvers: pure functions of x0, eps and coefficients; all but `multistep` allow alpha_t = 0."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError
from invsolve.core.cost import Likelihood
from invsolve.core.linalg import per_sample
from invsolve.core.prior import Prediction
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import DDPMSchedule, Schedule, Step, path

__all__ = [
    "Start",
    "ancestral_mean",
    "ddim",
    "ddim_coefficients",
    "descent",
    "forward_variance",
    "gradient_length",
    "guided_ddim",
    "limited",
    "moved_back",
    "multistep",
    "noise_floor",
    "posterior_variance",
    "score_shift",
    "start_state",
]

REACH = 2.0
"""Largest extrapolation of a second-order step, as a multiple of the growth in the last step."""

Start: TypeAlias = Literal["random", "guided", "smooth"]


def forward_variance(step: Step) -> float:
    """Var[x_t | x_s] = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2, the noise added between s and t."""
    return step.sigma_t**2 - (step.alpha_t / step.alpha_s) ** 2 * step.sigma_s**2


def posterior_variance(step: Step) -> float:
    """Var[x_s | x_t, x_0] = sigma_s^2 / sigma_t^2 Var[x_t | x_s]."""
    return max(0.0, (step.sigma_s / step.sigma_t) ** 2 * forward_variance(step))


def ddim_coefficients(step: Step, eta: float) -> tuple[float, float]:
    """(c1, c2) of x_s = alpha_s x0 + c1 z + c2 eps: c1^2 = eta^2 Var[x_s | x_t, x_0], c2^2 = sigma_s^2 - c1^2.

    Song et al. 2021, arXiv 2010.02502.
    """
    c1 = eta * math.sqrt(posterior_variance(step))
    return c1, math.sqrt(max(0.0, step.sigma_s**2 - c1 * c1))


def ddim(step: Step, eta: float, x0: Tensor, eps: Tensor, rng: NoiseSource) -> Tensor:
    """x_s = alpha_s x0 + c1 z + c2 eps; z is drawn only where c1 > 0."""
    c1, c2 = ddim_coefficients(step, eta)
    if c2 == 0.0 and c1 == 0.0:
        return x0 if step.alpha_s == 1.0 else step.alpha_s * x0
    x_s = (step.alpha_s * x0).add_(eps, alpha=c2)
    return x_s.add_(rng.normal(x_s), alpha=c1) if c1 > 0.0 else x_s


def guided_ddim(step: Step, eta: float, x_t: Tensor, x0: Tensor, rng: NoiseSource) -> Tensor:
    """A DDIM step with a guided estimate and the matching noise, eps = (x_t - alpha_t x0) / sigma_t."""
    c1, c2 = ddim_coefficients(step, eta)
    if c2 == 0.0 and c1 == 0.0:
        return x0 if step.alpha_s == 1.0 else step.alpha_s * x0
    rest = c2 / step.sigma_t
    x_s = ((step.alpha_s - rest * step.alpha_t) * x0).add_(x_t, alpha=rest)
    return x_s.add_(rng.normal(x_s), alpha=c1) if c1 > 0.0 else x_s


def limited(problem: Problem, step: Step, prediction: Prediction) -> Prediction:
    """Clamp x0 to the prior's value range and adjust the noise to match: eps + (alpha_t / sigma_t) (x0 - clamp).

    A guided x0 overshoots the range at high noise. If only x0 were clamped, the overshoot would stay in eps with the
    opposite sign, and many small steps would move samples away from the guidance.
    """
    x0 = problem.prior.clamp(prediction.x0)
    if x0 is prediction.x0:
        return prediction
    eps = torch.add(prediction.eps, prediction.x0 - x0, alpha=step.alpha_t / step.sigma_t)
    return prediction.replace(x0=x0, eps=eps)


def score_shift(step: Step, eta: float) -> float:
    """How far a DDIM step moves per unit added to the score: x0 changes by sigma_t^2 / alpha_t, eps by -sigma_t.

    0 if alpha_t = 0: x_t then contains no information about x0, and the guidance itself vanishes.
    """
    if step.alpha_t == 0.0:
        return 0.0
    c2 = ddim_coefficients(step, eta)[1]
    return step.sigma_t * (step.alpha_s * step.sigma_t / step.alpha_t - c2)


def descent(schedule: Schedule, n: int, t: float) -> tuple[Step, ...]:
    """At most `n` steps from `t` to 0: the schedule's grid, or for a table the indices nearest to equal spacing."""
    if isinstance(schedule, DDPMSchedule):
        end = t * schedule.n_times
        below = {max(1, round(end * (n - i) / n)) / schedule.n_times for i in range(1, n)}
    else:
        below = set(schedule.grid(n, t)[1:-1])
    times = sorted((time for time in below if time < t), reverse=True)
    return path(schedule, n, t, (t, *times, 0.0))


def multistep(step: Step, x_t: Tensor, x0: Tensor, before: tuple[Step, Tensor] | None) -> Tensor:
    """A deterministic step of second order from two estimates, DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095).

    With h the growth of log(alpha / sigma) over this step and h' over the previous one,

        D = x0 + min(h / h', 2) (x0 - x0') / 2,    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - exp(-h)) D

    and D = x0 if there is no previous step. At sigma_s = 0 the result is alpha_s x0. The paper uses h / h' without the
    limit, which gives the same result on grids that change smoothly. On a uniform grid with few times, h / h' exceeds
    four at the end; the difference of two estimates was then amplified until samples of learned priors diverged.

    Args:
        step: the step; both its alphas above 0.
        x_t, x0: state and clean estimate.
        before: the previous step with its estimate x0'.
    """
    if step.sigma_s == 0.0:
        return step.alpha_s * x0
    h = _growth(step)
    slope = 0.0 if before is None else 0.5 * min(h / _growth(before[0]), REACH)
    mixed = x0 if before is None else x0 + slope * (x0 - before[1])
    return (step.sigma_s / step.sigma_t) * x_t - step.alpha_s * math.expm1(-h) * mixed


def _growth(step: Step) -> float:
    """How much log(alpha / sigma) grows over a step."""
    return math.log(step.alpha_s * step.sigma_t / (step.sigma_s * step.alpha_t))


def ancestral_mean(step: Step, x_t: Tensor, x0: Tensor) -> Tensor:
    """E[x_s | x_t, x_0] of the forward process; Ho et al. 2020, arXiv 2006.11239, in general coefficients."""
    of_x0 = step.alpha_s * forward_variance(step) / step.sigma_t**2
    of_x_t = step.alpha_t / step.alpha_s * step.sigma_s**2 / step.sigma_t**2
    return (of_x0 * x0).add_(x_t, alpha=of_x_t)


def start_state(problem: Problem, n: int, rng: NoiseSource, step: Step, start: Start) -> Tensor:
    """x_T: for "random" pure noise at the scale of the marginal, otherwise alpha_T x + sigma_T z with an estimate x.

    The estimate x is A^+ y for "guided" (see `Problem.initial_estimate`). For "smooth" it takes the noise into account
    and fills unmeasured pixels from their surroundings (`Problem.smooth_estimate`).

    Raises:
        CapabilityError: a start from an estimate, but no image estimate follows from the measurement.
    """
    empty = problem.empty(n)
    if start == "random":
        return math.hypot(step.alpha_t, step.sigma_t) * rng.normal(empty)
    estimate = (problem.smooth_estimate if start == "smooth" else problem.initial_estimate).to(empty)
    return step.alpha_t * estimate + step.sigma_t * rng.normal(empty)


def noise_floor(problem: Problem) -> Tensor:
    """The expected |y - A(x)|^2 at the true image, in the prior's units: m (w sigma)^2 for m measured entries, [N].

    Raises:
        CapabilityError: the noise is not Gaussian, so it has no single level.
    """
    cost = problem.cost
    if not isinstance(cost, Likelihood) or cost.gaussian_sigma is None:
        raise CapabilityError("stopping at the noise level needs a Gaussian likelihood: use another stopping rule")
    return cost.measured * (problem.width * cost.gaussian_sigma) ** 2


def gradient_length(problem: Problem, misfit: Tensor, weight: float) -> Tensor | float:
    """The factor of grad misfit that gives a step `weight` grad |y - A(x0)|: weight / (2 |r|), one per sample [N].

    For costs other than Gaussian likelihoods, whose misfit is not a square, it is `weight` itself.
    """
    if not problem.quadratic:
        return weight
    return 0.5 * weight * misfit.clamp_min(torch.finfo(misfit.dtype).tiny).rsqrt()


def moved_back(x: Tensor, length: Tensor | float, gradient: Tensor) -> Tensor:
    """Return x - length gradient; length is one number or one per row [N]."""
    if isinstance(length, Tensor):
        return torch.addcmul(x, gradient, torch.as_tensor(per_sample(length, x)), value=-1.0)
    return torch.sub(x, gradient, alpha=length)
