"""DPS: diffusion posterior sampling.

Chung et al. 2023, arXiv 2209.14687. The official code takes the norm over the whole batch, so that samples steer each
other; here every norm is a sample's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import AtLeastZero, Count, FirstTime, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.gradients import BlindUpdate, Parameters, descend, start_parameters
from invsolve.solvers.steps.scales import ScaleRule, check_length_rule
from invsolve.solvers.steps.time_path import ScaledPath
from invsolve.solvers.steps.updates import (
    ancestral_mean,
    ddim,
    gradient_length,
    moved_back,
    posterior_variance,
    start_state,
)

__all__ = ["DPS"]


@dataclass(frozen=True)
class DPS(ScaledPath):
    """A step of the prior, then one along the gradient of the misfit through the denoiser, r = y - A(x0(x_t)):

        form "ancestral"  x_s = ancestral(x_t) - zeta grad_x |r|          x0 clamped; learned variance where known
        form "ddim"       x_s = DDIM(x_t)      - zeta / |r| grad_x |r|^2

    so that zeta counts twice in the second form. For costs other than Gaussian likelihoods the step is
    zeta grad_x Phi(x0(x_t)). One forward and one input-gradient a step.

    Args:
        form: see above. Published: 1000 steps, ancestral, zeta 0.3 to 1; or ddim with eta 0.5, a guided start, zeta 1
            (0.3 for non-linear deblurring).
        n_steps: network calls.
        zeta: guidance weight, in units of the prior's range.
        eta: noise of the ddim form.
        t_start: time of the first call.
        start: "random", "guided", or "auto": random for ancestral, guided for ddim.
        times: a falling grid of one's own instead of n_steps and t_start.
        scale: a rule of `invsolve.solvers.steps.scales` for the length of the guidance in place of the division by |r|:
            x_s - zeta lambda(|g|) g with g = grad_x misfit. An adaptive scale moves by about zeta lam f(t).
        blind: unknown operator parameters make one Adam update a step down the same misfit, "joint" with the state's
            gradient or "alternating" before it, at the fixed estimate.
    """

    form: Literal["ancestral", "ddim"] = "ancestral"
    n_steps: Count = 1000
    zeta: AtLeastZero = 1.0
    eta: Share = 0.5
    t_start: FirstTime = 1.0
    start: Literal["auto", "random", "guided"] = "auto"
    times: Times | None = None
    blind: BlindUpdate = "joint"
    scale: ScaleRule | None = None

    name = "dps"
    cite = "Chung, Kim, McCann, Klasky, Ye 2023, arXiv 2209.14687"
    needs = Needs(blind=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_length_rule(self.scale)

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        auto = "guided" if self.form == "ddim" else "random"
        start = auto if self.start == "auto" else self.start
        x = start_state(problem, n, rng, self.path(problem)[0], start)
        theta = start_parameters(problem, n, rng, x)
        return State(x, theta=theta.raw, memory={**theta.memory, **self.scale_memory(x)})

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        with torch.enable_grad():
            x_t = state.x.detach().requires_grad_()
            prediction = problem.prior.predict(x_t, now.t)
            misfit, gradient, theta, x0 = descend(
                problem, prediction.x0, x_t, Parameters.of(state), clamp=self.form == "ancestral", blind=self.blind
            )
        prediction = prediction.detach()
        if self.form == "ddim":
            x = ddim(now, self.eta, x0, prediction.eps, rng)
        else:
            x = _ancestral(now, state.x, x0, prediction.variance, rng)
        if self.scale is None:
            weight = 2 * self.zeta if self.form == "ddim" and problem.quadratic else self.zeta
            length, memory = gradient_length(problem, misfit, weight), {}
        else:
            lam, memory = self.scaled(problem, state, gradient)
            length = self.zeta * lam
        x = moved_back(x, length, gradient)
        return State(x, state.k + 1, theta.raw, {**theta.memory, **memory}), Info(x0, misfit)


def _ancestral(step: Step, x_t: Tensor, x0: Tensor, learned: Tensor | None, rng: NoiseSource) -> Tensor:
    """x_s ~ p(x_s | x_t) with the posterior variance, or the learned one between it and beta_t."""
    mean = ancestral_mean(step, x_t, x0)
    variance = posterior_variance(step)
    if variance == 0.0:
        return mean
    noise = rng.normal(mean)
    if learned is None:
        return mean.add_(noise, alpha=math.sqrt(variance))
    upper = math.log(1.0 - (step.alpha_t / step.alpha_s) ** 2)
    fraction = (learned + 1.0) / 2.0
    return mean + (0.5 * (fraction * upper + (1.0 - fraction) * math.log(variance))).exp() * noise
