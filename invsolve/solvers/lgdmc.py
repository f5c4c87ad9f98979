"""LGD-MC: loss guidance with a Monte-Carlo estimate about the clean estimate.

Song et al. 2023, ICML, "Loss-guided diffusion models for plug-and-play controllable generation".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from invsolve.core.linalg import per_sample
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import AtLeastZero, Count, FirstTime, Positive, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.scales import ScaleRule, check_length_rule
from invsolve.solvers.steps.time_path import ScaledPath
from invsolve.solvers.steps.updates import Start, ddim, score_shift

__all__ = ["LGDMC"]


@dataclass(frozen=True)
class LGDMC(ScaledPath):
    """Replace p(x0 | x_t) by N(x0(x_t), r_t^2 I) and estimate the guidance with samples.

    With xi_m ~ N(0, I), the score is moved by the gradient of

        log p(y | x_t) ~ log (1/M) sum_m exp(-Phi(x0(x_t) + r_t xi_m))
        r_t = w v sigma_t / sqrt((w v alpha_t)^2 + sigma_t^2)

    w is the width of the prior's range and Phi the energy in nats. A DDIM step with the moved score follows. More draws
    do not correct the error of the Gaussian approximation: as M grows, the samples do not converge to the posterior.
    One forward pass and one input gradient per step, M evaluations of the cost.

    Args:
        n_steps: network calls.
        n_draws: M, the number of draws.
        weight: weight of the guidance; 1 is the score's own scale.
        spread: v, standard deviation of clean pixels as a fraction of the range (published: 0.5, that is 1 in [-1, 1]).
        eta: DDIM's eta.
        t_start: time of the first call.
        start: "random" or "guided".
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
        scale: a rule of `invsolve.solvers.steps.scales` for lambda, which multiplies `weight`; 1 if None.
    """

    n_steps: Count = 100
    n_draws: Count = 10
    weight: AtLeastZero = 1.0
    spread: Positive = 0.5
    eta: Share = 1.0
    t_start: FirstTime = 1.0
    start: Start = "random"
    times: Times | None = None
    scale: ScaleRule | None = None

    name = "lgd-mc"
    cite = (
        'Song, Zhang, Yin, Mardani, Liu, Kautz, Chen, Vahdat 2023, "Loss-Guided Diffusion Models for '
        'Plug-and-Play Controllable Generation", ICML, PMLR 202'
    )
    needs = Needs()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_length_rule(self.scale)

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now, n = self.path(problem)[state.k], len(state.x)
        size = problem.width * self.spread
        radius = size * now.sigma_t / math.hypot(size * now.alpha_t, now.sigma_t)
        xi = rng.normal(state.x[:, None].expand(-1, self.n_draws, *state.x.shape[1:]))
        many = problem.repeated(n, self.n_draws)
        with torch.enable_grad():
            x_t = state.x.detach().requires_grad_()
            prediction = problem.prior.predict(x_t, now.t)
            draws = prediction.x0[:, None] + radius * xi
            energies = many.energy(draws.flatten(0, 1)).unflatten(0, (n, self.n_draws))
            log_mean = (-energies).logsumexp(1) - math.log(self.n_draws)
            (slope,) = torch.autograd.grad(log_mean.sum(), x_t)
        x0, eps = prediction.x0.detach(), prediction.eps.detach()
        memory = {}
        if self.scale is not None:
            lam, memory = self.scaled(problem, state, slope)
            slope = per_sample(lam, slope) * slope
        x = ddim(now, self.eta, x0, eps, rng) + self.weight * score_shift(now, self.eta) * slope
        return State(x, state.k + 1, memory=memory), Info(x0, -log_mean.detach())
