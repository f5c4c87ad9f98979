"""RED-diff: a variational mode seeker regularised by denoising.

Mardani et al. 2024, arXiv 2305.04391.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import AtLeastZero, Count, FirstTime, Positive, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.gradients import AdamState, BlindUpdate, Parameters, adam, descend, start_parameters
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import Start

__all__ = ["REDdiff"]

Weighting = Literal["linear", "sqrt", "square", "two-thirds", "log", "clipped", "constant"]


@dataclass(frozen=True)
class REDdiff(PathSolver):
    """Adam on mu along decreasing t, with n0, n1 ~ N(0, I), p = mu + sigma_x0 n0, x_t = alpha_t p + sigma_t n1:

        J = lam w(t) mean((eps(x_t, t) - n1) p) + v mean(|y - A(p)|^2) / 2,    w = sigma_t / alpha_t or a function of it

    The network is not differentiated: one forward pass per step, no gradient. The method seeks a mode: its results are
    point estimates, and their spread says nothing about the posterior. As in the official code, the result is the last
    p, before the last update. Costs other than Gaussian likelihoods enter as Phi / (entries of x).

    Args:
        n_steps: network calls.
        lam: weight of the regulariser (lambda); published 0.25 for inpainting and non-linear deblurring, 1 for
            super-resolution on FFHQ, 0.4 on ImageNet.
        lr: Adam's step size, with betas (0.9, 0.99).
        data_weight: v, weight of the data misfit.
        sigma_x0: standard deviation around mu; published 0 for inpainting and FFHQ non-linear deblurring, else 1e-4.
        weighting: w = r, sqrt(r), r^2, r^(2/3), log(1 + r), min(r, 1) or 1, with r = sigma_t / alpha_t.
        t_start: time of the first call.
        start: the first mu, "guided" (A^+ y, as published) or "random" (standard normal, if the measurement gives no
            image estimate).
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
        blind: how unknown operator parameters are updated, with one Adam update of their own per step: "joint" together
            with that of mu, or "alternating" before it.
    """

    n_steps: Count = 50
    lam: AtLeastZero = 0.25
    lr: Positive = 0.5
    data_weight: AtLeastZero = 1.0
    sigma_x0: AtLeastZero = 1e-4
    weighting: Weighting = "linear"
    t_start: FirstTime = 1.0
    start: Start = "guided"
    times: Times | None = None
    blind: BlindUpdate = "joint"

    name = "red-diff"
    cite = (
        'Mardani, Song, Kautz, Vahdat 2023, "A Variational Perspective on Solving Inverse Problems with '
        'Diffusion Models", arXiv 2305.04391'
    )
    needs = Needs(blind=True)
    differentiates = False
    mode_seeking = True
    divides_by_alpha = True

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        empty = problem.empty(n)
        first = rng.normal(empty) if self.start == "random" else problem.initial_estimate.to(empty)
        mu = first.expand_as(empty).clone()
        theta = start_parameters(problem, n, rng, mu)
        memory = {"mu": mu, "m": torch.zeros_like(mu), "v": torch.zeros_like(mu), **theta.memory}
        return State(mu, theta=theta.raw, memory=memory)

    def weight(self, step: Step) -> float:
        """The weight w(t)."""
        r = step.sigma_t / step.alpha_t
        powers = {"linear": 1.0, "sqrt": 0.5, "square": 2.0, "two-thirds": 2 / 3, "constant": 0.0}
        if self.weighting in powers:
            return r ** powers[self.weighting]
        return math.log1p(r) if self.weighting == "log" else min(r, 1.0)

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now, mu = self.path(problem)[state.k], state.memory["mu"]
        p = torch.add(mu, rng.normal(mu), alpha=self.sigma_x0)
        noise = rng.normal(mu)
        prediction = problem.prior.predict(torch.add(now.alpha_t * p, noise, alpha=now.sigma_t), now.t)
        with torch.enable_grad():
            free = p.detach().requires_grad_()
            misfit, pull, theta, _ = descend(problem, free, free, Parameters.of(state), blind=self.blind)
        entries = p[0].numel()
        scale = self.data_weight * (0.5 / problem.entries if problem.quadratic else 1.0 / entries)
        prior_weight = self.lam * self.weight(now) / entries
        gradient = torch.add(prior_weight * (prediction.eps - noise), pull, alpha=scale)
        moments = AdamState(state.memory["m"], state.memory["v"], state.k)
        mu, moments = adam(mu, gradient, moments, self.lr, (0.9, 0.99))
        memory = {"mu": mu, "m": moments.m, "v": moments.v, **theta.memory}
        return State(p, state.k + 1, theta.raw, memory), Info(p, misfit)
