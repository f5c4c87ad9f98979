"""DDRM: denoising in the coordinates of the operator's singular value decomposition.

Kawar, Elad, Ermon, Song 2022, arXiv 2201.11793.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from invsolve.core.linalg import per_sample
from invsolve.core.operator import SVDOperator
from invsolve.core.prior import Prediction
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import Count, FirstTime, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.linear_gaussian import flat_variance
from invsolve.solvers.steps.time_path import PathSolver

__all__ = ["DDRM", "spectral_step", "svd_operator"]


def _inverse(s: Tensor, seen: Tensor) -> Tensor:
    """1 / s where `seen` is 1, and 0 where it is 0."""
    return seen / torch.lerp(torch.ones_like(s), s, seen)


def svd_operator(problem: Problem) -> SVDOperator:
    """The operator of a problem that was found to have a singular value decomposition."""
    operator = problem.linear_data.operator
    assert isinstance(operator, SVDOperator)
    return operator


@dataclass(frozen=True)
class DDRM(PathSolver):
    """With A = U diag(s) V^T, c = V^T x / alpha, sig = sigma / alpha, y_ = U^T y, c0 = V^T x0(x_t), e = V^T eps(x_t):

        start       c ~ N(y_ / s, sig_T^2 - sigma_y^2 / s^2) where s sig_T > sigma_y, N(0, sig_T^2) elsewhere
        s = 0                  c = c0 + sqrt(1 - eta^2) sig_s e + eta sig_s z
        0 < s sig_s < sigma_y  c = c0 + sqrt(1 - eta^2) sig_s (y_ - s c0) / sigma_y + eta sig_s z
        s sig_s >= sigma_y     c = (1 - eta_b) c0 + eta_b y_ / s + sqrt(sig_s^2 - eta_b^2 sigma_y^2 / s^2) z

    One noise image a step, turned by V^T, serves the disjoint sets of coefficients. One forward a step, no gradient.
    Were x0 known, x_s would have the law N(alpha_s x0, sigma_s^2 I) at every step; with a real denoiser the samples are
    not calibrated: measured directions end with too little spread, and eta > 0 narrows the unmeasured ones too.

    The official scripts for inpainting treat missing pixels as measured with s = 0, which freezes their noise; that is
    not done here.

    Args:
        n_steps: network calls; published: 20.
        eta: noise of the unmeasured and weakly measured directions, in [0, 1]; published: 0.85.
        eta_b: how far the measurement replaces the estimate in the strongly measured ones, in [0, 1]; published: 1.
        t_start: time of the first call.
        start: scale of x_T: "exact" alpha_T V c, or "unit" V c / sig_T, times sqrt(alpha_T^2 + sigma_T^2), as in the
            official code (the same to 1e-4 near pure noise, too large elsewhere), or "auto": "unit" from t = 1 and
            "exact" from any other time.
        times: a falling grid of one's own instead of n_steps and t_start.
    """

    n_steps: Count = 20
    eta: Share = 0.85
    eta_b: Share = 1.0
    t_start: FirstTime = 1.0
    start: Literal["auto", "exact", "unit"] = "auto"
    times: Times | None = None

    name = "ddrm"
    cite = "Kawar, Elad, Ermon, Song 2022, arXiv 2201.11793"
    needs = Needs(likelihood=True, linear=True, svd=True)
    differentiates = False
    signal = True

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        operator, first = svd_operator(problem), self.path(problem)[0]
        z = operator.Vt(rng.normal(problem.empty(n)))
        y_ = operator.Ut(problem.linear_data.y)
        s, level = operator.spectrum(problem.empty(n)), first.sigma_t / first.alpha_t
        variance = per_sample(flat_variance(problem), y_)
        inverse = _inverse(s, (s**2 * level**2 > variance).to(s))
        spread = (level**2 - variance * inverse**2).clamp_min(0.0).sqrt()
        c = torch.addcmul(spread * z, inverse, y_)
        unit = self.start == "unit" or (self.start == "auto" and self.times is None and self.t_start == 1.0)
        scale = math.hypot(first.alpha_t, first.sigma_t) / level if unit else first.alpha_t
        return State(scale * operator.V(c), memory={"y": y_})

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        prediction = problem.prior.predict(state.x, now.t)
        x = spectral_step(problem, now, self.eta, self.eta_b, state.x, prediction, state.memory["y"], rng)
        return State(x, state.k + 1, memory=state.memory), Info(prediction.x0)


class _Spectrum(NamedTuple):
    """What `spectral_step` needs of a problem besides the state; rows [1, n] or [N, n].

    Attributes:
        s: singular values.
        y: y_ where s > 0, else 0.
        precision: 1 / sigma_y, 0 where sigma_y = 0; a number or [N, 1].
        null: 1 where s = 0, else 0.
        kept: share (1 - eta_b) of c0 in measured directions, 1 in the others.
        data: eta_b y_ / s, 0 where s = 0.
        threshold: sigma_y / s, the noise-to-signal ratio from which a direction is strongly measured; inf where s = 0.
        loss: -eta_b^2 sigma_y^2 / s^2, 0 where s = 0.
        free: 1 where s > 0, eta^2 elsewhere.
        level: the largest threshold of a measured direction.
    """

    s: Tensor
    y: Tensor
    precision: Tensor | float
    null: Tensor
    kept: Tensor
    data: Tensor
    threshold: Tensor
    loss: Tensor
    free: Tensor
    level: float

    @classmethod
    def of(cls, problem: Problem, eta: float, eta_b: float, y_: Tensor) -> _Spectrum:
        operator = svd_operator(problem)
        s = torch.atleast_2d(operator.spectrum(problem.empty(len(y_))))
        variance = per_sample(flat_variance(problem), y_)
        sigma = torch.as_tensor(variance, dtype=s.dtype, device=s.device).sqrt()
        null = (s == 0).to(s)
        inverse = _inverse(s, 1.0 - null)
        return cls(
            s=s,
            y=(1.0 - null) * y_,
            precision=_inverse(sigma, (sigma > 0).to(s)),
            null=null,
            kept=(1.0 - eta_b) + eta_b * null,
            data=eta_b * inverse * y_,
            threshold=torch.where(null > 0, torch.inf, sigma * inverse),
            loss=-(eta_b**2) * variance * inverse**2,
            free=1.0 - (1.0 - eta**2) * null,
            level=float(sigma.max() * inverse.max()),
        )


def spectral_step(
    problem: Problem,
    step: Step,
    eta: float,
    eta_b: float,
    x_t: Tensor,
    prediction: Prediction,
    y_: Tensor,
    rng: NoiseSource,
) -> Tensor:
    """x_s by the three cases of `DDRM`; `y_` = U^T y, [N, n]."""
    operator, level = svd_operator(problem), step.sigma_s / step.alpha_s
    own = problem.once((_Spectrum, eta, eta_b), lambda: _Spectrum.of(problem, eta, eta_b, y_))
    c0, rest = operator.Vt(prediction.x0), (1.0 - eta**2) ** 0.5 * level
    if level >= own.level:
        c = _strong(own, step, operator, c0, rest, x_t, prediction)
        spread = torch.add(own.loss, own.free, alpha=level**2).clamp_min_(0.0).sqrt_()
    else:
        pull = (own.y - own.s * c0).mul_(own.precision)
        weak = torch.add(c0, torch.addcmul(pull, own.null, operator.Vt(prediction.eps)), alpha=rest)
        strong = (own.threshold <= level).to(own.s)
        c = torch.addcmul(weak, strong, torch.addcmul(own.data, own.kept, c0) - weak)
        spread = (own.loss + level**2).clamp_min_(0.0).sqrt_().sub_(eta * level).mul_(strong).add_(eta * level)
    if level > 0.0:
        c.addcmul_(spread, operator.Vt(rng.normal(x_t)))
    return operator.V(c).mul_(step.alpha_s)


def _strong(
    own: _Spectrum, step: Step, operator: SVDOperator, c0: Tensor, rest: float, x_t: Tensor, prediction: Prediction
) -> Tensor:
    """The mean of c where all measured directions are strongly measured."""
    if not prediction.derived:
        c = torch.addcmul(own.data, own.kept, c0)
        return c.addcmul_(own.null, operator.Vt(prediction.eps), value=rest)
    share = rest / step.sigma_t  # e = (V^T x_t - alpha_t c0) / sigma_t, put in without being worked out
    c = torch.addcmul(own.data, torch.sub(own.kept, own.null, alpha=share * step.alpha_t), c0)
    return c.addcmul_(own.null, operator.Vt(x_t), value=share)
