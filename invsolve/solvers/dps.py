"""DPS: diffusion posterior sampling.

Chung et al. 2023, arXiv 2209.14687. The official code computes the norm over the whole batch, so that samples influence
each other. Here the norm is computed for each sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError
from invsolve.core.prior import Prediction
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import AtLeastZero, Count, FirstTime, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.gradients import BlindUpdate, Parameters, descend
from invsolve.solvers.steps.scales import ScaleRule, check_length_rule
from invsolve.solvers.steps.time_path import ScaledPath
from invsolve.solvers.steps.updates import (
    Start,
    ancestral_mean,
    ddim,
    gradient_length,
    guided_ddim,
    moved_back,
    posterior_variance,
)

__all__ = ["DPS"]


@dataclass(frozen=True)
class DPS(ScaledPath):
    """Make a step of the prior, then a step along the gradient of the misfit, with r = y - A(x0(x_t)):

        form "ancestral"     x_s = ancestral(x_t) - zeta grad_x |r|           x0 clamped to the prior's value range
        form "ddim-clamped"  x_s = DDIM(x_t)      - zeta grad_x |r|           x0 clamped, eps recomputed from it
        form "ddim"          x_s = DDIM(x_t)      - zeta / |r| grad_x |r|^2   x0 not clamped

    The gradient passes through the denoiser. In the third form zeta has twice the effect. The first two forms are the
    samplers "ddpm" and "ddim" of the original code (the latter with eta = 0), the third is that of the code of RED-diff
    and NDTM. For costs other than Gaussian likelihoods the step is zeta grad_x Phi(x0(x_t)). One forward pass and one
    input gradient per step.

    Args:
        form: see above. Published: 1000 steps, ancestral, zeta 0.3 to 1; or ddim with eta 0.5, a guided start, zeta 1
            (0.3 for non-linear deblurring).
        n_steps: network calls.
        zeta: guidance weight, in units of the prior's range.
        length: length of the guidance step: "residual" as above; without |r|, "plain" zeta grad_x |r|^2, or "signal"
            zeta alpha_s alpha_t grad_x |r|^2 (the code of RED-diff and NDTM with `original: false`).
        eta: noise of the ddim forms.
        variance: noise variance of the ancestral form: "small" Var[x_s | x_t, x_0], "large" 1 - (alpha_t / alpha_s)^2,
            "learned" by the network, or "auto": learned if the network provides it, otherwise small.
        t_start: time of the first call.
        start: "random", "guided", or "auto": guided for ddim, random for the other forms.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
        scale: a rule of `invsolve.solvers.steps.scales` for the length of the guidance, in place of the division by
            |r|: x_s - zeta lambda(|g|) g with g = grad_x misfit. With an adaptive scale the length is about
            zeta lam f(t).
        blind: how unknown operator parameters are updated, with one Adam update of the same misfit per step: "joint"
            together with the state's gradient, or "alternating" before it, at the fixed estimate.
    """

    form: Literal["ancestral", "ddim-clamped", "ddim"] = "ancestral"
    n_steps: Count = 1000
    zeta: AtLeastZero = 1.0
    length: Literal["residual", "plain", "signal"] = "residual"
    eta: Share = 0.5
    variance: Literal["auto", "small", "large", "learned"] = "auto"
    t_start: FirstTime = 1.0
    start: Literal["auto", "random", "guided"] = "auto"
    times: Times | None = None
    blind: BlindUpdate = "joint"
    scale: ScaleRule | None = None

    name = "dps"
    cite = (
        'Chung, Kim, McCann, Klasky, Ye 2022, "Diffusion Posterior Sampling for General Noisy Inverse '
        'Problems", arXiv 2209.14687'
    )
    needs = Needs(blind=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_length_rule(self.scale)

    @property
    def _start(self) -> Start:
        auto = "guided" if self.form == "ddim" else "random"
        return auto if self.start == "auto" else self.start

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        with torch.enable_grad():
            x_t = state.x.detach().requires_grad_()
            prediction = problem.prior.predict(x_t, now.t)
            misfit, gradient, theta, x0 = descend(
                problem, prediction.x0, x_t, Parameters.of(state), clamp=self.form != "ddim", blind=self.blind
            )
        prediction = prediction.detach()
        if self.form == "ddim":
            x = ddim(now, self.eta, x0, prediction.eps, rng)
        elif self.form == "ddim-clamped":
            x = guided_ddim(now, self.eta, state.x, x0, rng)
        else:
            x = _ancestral(now, state.x, x0, self._variance(now, prediction), rng)
        if self.scale is None:
            length, memory = self._length(problem, now, misfit), {}
        else:
            lam, memory = self.scaled(problem, state, gradient)
            length = self.zeta * lam
        x = moved_back(x, length, gradient)
        return State(x, state.k + 1, theta.raw, {**theta.memory, **memory}), Info(x0, misfit)

    def _length(self, problem: Problem, step: Step, misfit: Tensor) -> Tensor | float:
        """The factor of grad_x |r|^2, or of grad_x Phi."""
        if self.length == "residual":
            weight = 2 * self.zeta if self.form == "ddim" and problem.quadratic else self.zeta
            return gradient_length(problem, misfit, weight)
        return self.zeta * step.alpha_s * step.alpha_t if self.length == "signal" else self.zeta

    def _variance(self, step: Step, prediction: Prediction) -> float | Tensor:
        """The noise variance of the ancestral step, a number or [N, *shape]."""
        small, large = posterior_variance(step), 1.0 - (step.alpha_t / step.alpha_s) ** 2
        learned = prediction.variance
        if self.variance == "learned" and learned is None:
            raise CapabilityError("this network learned no variance: use variance='small' or 'large'")
        if small == 0.0:
            return 0.0  # the last step draws no noise
        if learned is None or self.variance in ("small", "large"):
            return large if self.variance == "large" else small
        fraction = (learned + 1.0) / 2.0
        return (fraction * math.log(large) + (1.0 - fraction) * math.log(small)).exp()


def _ancestral(step: Step, x_t: Tensor, x0: Tensor, variance: float | Tensor, rng: NoiseSource) -> Tensor:
    """Draw from p(x_s | x_t) with the mean for x_0 = x0; no noise is drawn if the variance is the number 0."""
    mean = ancestral_mean(step, x_t, x0)
    if isinstance(variance, Tensor):
        return mean + variance.sqrt() * rng.normal(mean)
    return mean if variance == 0.0 else mean.add_(rng.normal(mean), alpha=math.sqrt(variance))
