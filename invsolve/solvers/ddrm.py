"""DDRM: denoising in the coordinates of the operator's singular value decomposition.

Kawar, Elad, Ermon, Song 2022, arXiv 2201.11793.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.prior import Prediction
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import Count, FirstTime, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.time_path import PathSolver

__all__ = ["DDRM", "spectral_step"]


@dataclass(frozen=True)
class DDRM(PathSolver):
    """Denoise in the singular coordinates of the operator A = U diag(s) V^T.

    With c = V^T x / alpha, sig = sigma / alpha, y_ = U^T y, c0 = V^T x0(x_t), e = V^T eps(x_t):

        start       c ~ N(y_ / s, sig_T^2 - sigma_y^2 / s^2) where s sig_T > sigma_y, N(0, sig_T^2) elsewhere
        s = 0                  c = c0 + sqrt(1 - eta^2) sig_s e + eta sig_s z
        0 < s sig_s < sigma_y  c = c0 + sqrt(1 - eta^2) sig_s (y_ - s c0) / sigma_y + eta sig_s z
        s sig_s >= sigma_y     c = (1 - eta_b) c0 + eta_b y_ / s + sqrt(sig_s^2 - eta_b^2 sigma_y^2 / s^2) z

    One noise image per step, transformed by V^T, is used for the disjoint sets of coefficients. One forward pass per
    step, no gradient. If x0 were known, x_s would be distributed as N(alpha_s x0, sigma_s^2 I) at every step. With a
    real denoiser the samples are not calibrated: the spread of the measured directions is too small, and eta > 0 makes
    that of the unmeasured ones too small as well.

    The official scripts for inpainting treat missing pixels as measured with s = 0, which freezes their noise; this is
    not done here.

    Args:
        n_steps: network calls; published: 20.
        eta: fraction of new noise in the unmeasured and weakly measured directions, in [0, 1]; published: 0.85.
        eta_b: how far the measurement replaces the estimate in strongly measured directions, in [0, 1]; published: 1.
        t_start: time of the first call.
        start: scale of x_T: "exact" alpha_T V c, or "unit" V c / sig_T, times sqrt(alpha_T^2 + sigma_T^2), as in the
            official code (the same to 1e-4 near pure noise, too large elsewhere), or "auto": "unit" from t = 1 and
            "exact" from any other time.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
    """

    n_steps: Count = 20
    eta: Share = 0.85
    eta_b: Share = 1.0
    t_start: FirstTime = 1.0
    start: Literal["auto", "exact", "unit"] = "auto"
    times: Times | None = None

    name = "ddrm"
    cite = 'Kawar, Elad, Ermon, Song 2022, "Denoising Diffusion Restoration Models", arXiv 2201.11793'
    needs = Needs(likelihood=True, linear=True, svd=True)
    differentiates = False
    divides_by_alpha = True

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        data, first = problem.spectral_data, self.path(problem)[0]
        z, level = data.operator.Vt(rng.normal(problem.empty(n))), first.sigma_t / first.alpha_t
        known = (data.null == 0) & (data.variance < level**2)
        spread = (level**2 - torch.where(known, data.variance, 0.0)).sqrt()
        c = torch.addcmul(torch.where(known, data.solution, 0.0), spread, z)
        unit = self.start == "unit" or (self.start == "auto" and self.times is None and self.t_start == 1.0)
        scale = math.hypot(first.alpha_t, first.sigma_t) / level if unit else first.alpha_t
        return State(scale * data.operator.V(c))

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        prediction = problem.prior.predict(state.x, now.t)
        x = spectral_step(problem, now, self.eta, self.eta_b, prediction, rng)
        return State(x, state.k + 1), Info(prediction.x0)


def spectral_step(
    problem: Problem,
    step: Step,
    eta: float,
    eta_b: float,
    prediction: Prediction,
    rng: NoiseSource,
) -> Tensor:
    """Compute x_s by the three cases of `DDRM` from the prediction at x_t."""
    data, level = problem.spectral_data, step.sigma_s / step.alpha_s
    operator, rest = data.operator, math.sqrt(1.0 - eta**2) * level
    c0, noise = operator.Vt(prediction.x0), operator.Vt(prediction.eps)
    target = data.solution if eta_b == 1.0 else torch.lerp((1.0 - data.null) * c0, data.solution, eta_b)
    if level**2 >= data.largest_variance:  # every measured direction is strongly measured
        c = torch.add(c0, noise, alpha=rest).mul_(data.null).add_(target)
        if data.flat_variance is not None:
            known = math.sqrt(max(level**2 - eta_b**2 * data.flat_variance, 0.0))
            spread = torch.mul(data.null, eta * level - known).add_(known)
        else:
            free = (eta**2 - 1.0) * level**2 * data.null
            spread = torch.sub(free, data.variance, alpha=eta_b**2).add_(level**2).clamp_min_(0.0).sqrt_()
    else:
        strong = (1.0 - data.null) * (data.variance <= level**2)
        pull = torch.addcmul((data.y - data.s * c0) * data.precision, data.null, noise)
        weak = torch.add(c0, pull, alpha=rest)
        c = torch.addcmul(weak, strong, target - weak)
        variance = torch.lerp(torch.full_like(strong, (eta * level) ** 2), level**2 - eta_b**2 * data.variance, strong)
        spread = variance.clamp_min_(0.0).sqrt_()
    if level > 0.0:
        c.addcmul_(spread, operator.Vt(rng.normal(prediction.x0)))
    return operator.V(c).mul_(step.alpha_s)
