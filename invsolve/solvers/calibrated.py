"""Calibrated guidance: a consistent estimate of the guidance from draws of p(x0 | x_t).

The score of p(x_t | y) is the score of p(x_t) plus grad log E[l(x0) | x_t], with l = exp(-Phi). Methods that replace
the expectation by l(E[x0 | x_t]) do not converge to the posterior, however many steps they take. Here the expectation
is estimated with samples, by running the unguided sampler from x_t to the end.

The gradient does not have to pass through the sampler. By Bayes' rule
log p(x0 | x_t) = log p(x_t | x0) - log p(x_t) + log p(x0), so

    grad log p(x0 | x_t) = -(x_t - alpha x0) / sigma^2 + (x_t - alpha E[x0 | x_t]) / sigma^2
                         = alpha / sigma^2 (x0 - E[x0 | x_t])
    grad log E[l | x_t]  = E[l grad log p(x0 | x_t) | x_t] / E[l | x_t]
                         = alpha / sigma^2 (E_w[x0] - E[x0 | x_t]),    w ~ l

(gradients with respect to x_t). When this is added to the score, the clean estimate moves by sigma^2 / alpha times as
much: to E_w[x0], which is E[x0 | x_t, y].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from invsolve.core.linalg import per_sample
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import AtLeastZero, Count, FirstTime, Range, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.particles import RowNoise
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import Start, ddim, descent

__all__ = ["CalibratedGuidance"]


@dataclass(frozen=True)
class CalibratedGuidance(PathSolver):
    """Guide with M samples x0_m ~ p(x0 | x_t), weighted by w_m ~ exp(-Phi(x0_m)).

    Each sample is drawn by n_inner steps of ancestral sampling from x_t:

        x0  = x0(x_t) + weight (sum_m w_m x0_m - mean_m x0_m),    eps = (x_t - alpha_t x0) / sigma_t
        x_s = DDIM(x0, eps)

    The mean of the samples, whose expectation is x0(x_t), is subtracted so that a measurement without information gives
    no guidance. As M, n_inner and n_steps grow, the distribution of the result converges to the posterior, for any
    cost, differentiable or not. The weights are importance weights from the prior: if few samples come close to y (many
    dimensions, little noise), no affordable M is enough. `Info.extra["effective"]` is the effective number of samples.
    1 + M (n_inner - 1) forward passes per step, because the samples share their first call; no gradients. If a table
    has fewer indices left than n_inner, the samples take fewer steps.

    Args:
        n_steps: diffusion steps.
        n_draws: M, the number of samples.
        n_inner: sampling steps of each sample, at least 2.
        weight: weight of the guidance; 1 is calibrated, 0 is no guidance.
        eta: DDIM's eta.
        t_start: time of the first step.
        start: "random" or "guided".
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
    """

    n_steps: Count = 50
    n_draws: Count = 16
    n_inner: Annotated[int, Range(2)] = 10
    weight: AtLeastZero = 1.0
    eta: Share = 1.0
    t_start: FirstTime = 1.0
    start: Start = "random"
    times: Times | None = None

    name = "calibrated"
    cite = (
        'Geyfman, Draxler, Groeneveld, Lee, Karaletsos, Mandt 2026, "Calibrated Test-Time Guidance for '
        'Bayesian Inference", arXiv 2602.22428'
    )
    needs = Needs()

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now, n, size = self.path(problem)[state.k], len(state.x), self.n_draws
        prediction = problem.prior.predict(state.x, now.t)
        x0, eps = prediction.x0, prediction.eps
        extra = {}
        if self.weight > 0:
            many, noise = problem.repeated(n, size), RowNoise(rng, size)
            first, *rest = descent(problem.prior.schedule, self.n_inner, now.t)
            x = ddim(first, 1.0, x0.repeat_interleave(size, 0), eps.repeat_interleave(size, 0), noise)
            for inner in rest:
                ahead = many.prior.predict(x, inner.t)
                x = ddim(inner, 1.0, ahead.x0, ahead.eps, noise)
            weights = (-many.energy(x)).view(n, size).softmax(1)
            extra = {"effective": 1.0 / weights.square().sum(1)}
            tilt = (weights - 1.0 / size).flatten()
            guidance = self.weight * (per_sample(tilt, x) * x).unflatten(0, (n, size)).sum(1)
            x0, eps = x0 + guidance, eps - now.alpha_t / now.sigma_t * guidance
        x_s = ddim(now, self.eta, x0, eps, rng)
        return State(x_s, state.k + 1), Info(x0, extra=extra)
