"""PiGDM: pseudo-inverse guidance, the measurement's score under an isotropic guess of the denoiser's covariance.

Song, Vahdat, Mardani, Kautz 2023, "Pseudoinverse-guided diffusion models for inverse problems", ICLR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import AtLeastZero, Count, FirstTime, Positive, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.linear_gaussian import Tangent, flat_variance, isotropic_variance
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import Start, ddim, ddim_coefficients, guided_ddim

__all__ = ["PiGDM"]

Form = Literal["noisy", "noiseless", "noiseless-ddim", "noiseless-mcg"]


@dataclass(frozen=True)
class PiGDM(PathSolver):
    """Guide the estimate x0, with J = d x0 / d x_t and r^2 = tau^2 sigma_t^2 / (tau^2 alpha_t^2 + sigma_t^2):

        form "noisy"           u = (sigma_t^2 / alpha_t) J^T A^T (r^2 A A^T + sigma_y^2 I)^-1 (y - A x0)
                               x_s = DDIM step of the estimate x0 + u and its noise (x_t - alpha_t (x0 + u)) / sigma_t
        form "noiseless"       x_s = DDIM(x_t) + alpha_s alpha_t J^T (A^+ y - A^+ A x0)
        form "noiseless-ddim"  x_s = DDIM(x_t) + (alpha_s - c2 alpha_t / sigma_t) alpha_t J^T (A^+ y - A^+ A x0)
        form "noiseless-mcg"   x_s = DDIM(x_t) + alpha_t J^T (A^+ y - A^+ A x0)

    The noisy form makes exact DDIM steps with the guided score. It converges to the posterior, to first order in the
    number of steps, if r^2 I is the covariance of the denoiser: for a prior of covariance tau^2 I and every linear
    operator. Otherwise it is not calibrated. The noiseless forms are those of the official code. They differ from the
    noisy form by powers of alpha_t that replace r^2. One forward pass and one input gradient per step; the inner system
    is solved for each sample, in closed form or by conjugate gradients.

    Args:
        n_steps: network calls.
        eta: DDIM's eta; published: 1.
        form: see above.
        weight: factor of the guidance in the noiseless forms.
        replace: hard replacement, for the noiseless forms: the measured part of the estimate is replaced by the
            measurement, x0 + A^+ (y - A x0), the guidance acts only on the null space of A, and "noiseless-ddim"
            recomputes eps from the replaced estimate. Published for inpainting.
        prior_std: tau, the standard deviation of clean pixels around their mean, in the prior's units; 1 in the paper.
        t_start: time of the first call.
        start: "random", "guided" (from the noised A^+ y), or "auto": random for the noisy form, guided for the others.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
    """

    n_steps: Count = 100
    eta: Share = 1.0
    form: Form = "noisy"
    weight: AtLeastZero = 1.0
    replace: bool = False
    prior_std: Positive = 1.0
    t_start: FirstTime = 1.0
    start: Literal["auto", "random", "guided"] = "auto"
    times: Times | None = None

    name = "pigdm"
    cite = (
        'Song, Vahdat, Mardani, Kautz 2023, "Pseudoinverse-Guided Diffusion Models for Inverse Problems", '
        "ICLR, openreview.net/forum?id=9_gsMA8MRKQ"
    )
    needs = Needs(likelihood=True, linear=True)
    divides_by_alpha = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "noisy" and (self.replace or self.weight != 1.0):
            raise InputError("weight and replace belong to the noiseless forms: choose form='noiseless' or another")

    @property
    def _start(self) -> Start:
        auto = "random" if self.form == "noisy" else "guided"
        return auto if self.start == "auto" else self.start

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        tangent = Tangent(problem.prior, state.x, now.t)
        if self.form == "noisy":
            r2 = self.variance(now)
            pulled = tangent.pull(self.gain(problem, tangent.x0, r2), last=True)
            x0 = torch.add(tangent.x0, pulled, alpha=now.sigma_t**2 / (now.alpha_t * r2))
            return State(guided_ddim(now, self.eta, state.x, x0, rng), state.k + 1), Info(x0)
        operator, y, _ = problem.linear_data
        missing = operator.pinv(y - operator(tangent.x0))
        gradient, x0 = tangent.pull(missing, last=True), tangent.x0
        if self.replace:
            x0, gradient = x0 + missing, gradient - operator.pinv(operator(gradient))
        if self.replace and self.form == "noiseless-ddim":
            x = guided_ddim(now, self.eta, state.x, x0, rng)
        else:
            x = ddim(now, self.eta, x0, tangent.eps, rng)
        return State(torch.add(x, gradient, alpha=self.weight * self._signal(now)), state.k + 1), Info(x0)

    def variance(self, step: Step) -> float:
        """The variance r^2."""
        return isotropic_variance(step, self.prior_std)

    def gain(self, problem: Problem, x0: Tensor, r2: float) -> Tensor:
        """r^2 A^T (r^2 A A^T + sigma_y^2 I)^-1 (y - A x0)."""
        operator, y, _ = problem.linear_data
        return operator.ridge(y - operator(x0), flat_variance(problem) / r2)

    def _signal(self, step: Step) -> float:
        """The powers of alpha that multiply J^T v in the noiseless forms."""
        if self.form == "noiseless":
            return step.alpha_s * step.alpha_t
        if self.form == "noiseless-mcg":
            return step.alpha_t
        c2 = ddim_coefficients(step, self.eta)[1]
        return (step.alpha_s - c2 * step.alpha_t / step.sigma_t) * step.alpha_t
