"""TDS: twisted sequential Monte Carlo.

Wu et al. 2023, arXiv 2306.17775.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import AtLeastZero, Count, FirstTime, Range, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.particles import RowNoise, choose, pick, systematic
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import ddim_coefficients, start_state

__all__ = ["TDS"]


@dataclass(frozen=True)
class TDS(PathSolver):
    """P particles per sample with the twist psi_t(x) = exp(-lam_t Phi(x0(x))), Phi the energy in nats:

        weight     w = p(x_t | x_r) psi_t(x_t) / (q(x_t | x_r) psi_r(x_r)),  x_r the state before; w = psi at the start
        resample   systematically, if the effective sample size is at most `threshold` P
        propose    q(x_s | x_t) = N(alpha_s x0 + c2 eps + c1^2 grad log psi_t(x_t), c1^2 I);  p is q without psi_t

    For every twist, psi_0 is the likelihood itself, so the weights correct all errors of the twist. As P grows, the
    distribution of the returned sample becomes the likelihood times the distribution of the unguided sampler; this is
    the posterior as n_steps grows. With few particles the distribution is biased, and in many dimensions strongly
    biased: see the effective sample size in `Info.extra`. One forward pass and one input gradient per step for each
    particle.

    The published twist has lam_t = 1 and is overconfident at high noise. With a Gaussian likelihood

        lam_t = sigma_y^2 / (sigma_y^2 + r_t^2),    r_t = v w sigma_t / sqrt((v w alpha_t)^2 + sigma_t^2)

    (w is the width of the range) is closer to p(y | x_t) and wastes fewer particles. With `spread` 0, or another cost,
    lam_t = 1.

    Args:
        n_steps: diffusion steps.
        n_particles: P, the number of particles per sample.
        eta: DDIM's eta, above 0; 1 is ancestral sampling.
        spread: v, standard deviation of clean pixels as a fraction of the range; 0 for the published twist.
        threshold: see above; 0 never resamples.
        t_start: time of the first step, where particles are pure noise.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
    """

    n_steps: Count = 100
    n_particles: Count = 16
    eta: Annotated[float, Range(0, 1, above=True)] = 1.0
    spread: AtLeastZero = 0.25
    threshold: Share = 0.5
    t_start: FirstTime = 1.0
    times: Times | None = None

    name = "tds"
    cite = (
        'Wu, Trippe, Naesseth, Blei, Cunningham 2023, "Practical and Asymptotically Exact Conditional '
        'Sampling in Diffusion Models", arXiv 2306.17775'
    )
    needs = Needs()

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        size = self.n_particles
        many, noise = problem.repeated(n, size), RowNoise(rng, size)
        x = start_state(many, n * size, noise, self.path(problem)[0], "random").unflatten(0, (n, size))
        return State(x[:, 0], memory={"particles": x, "log_weights": x.new_zeros(n, size)})

    def sharpness(self, problem: Problem, step: Step) -> Tensor | float:
        """lam_t, one number or one per row."""
        cost = problem.cost
        sigma = getattr(cost, "gaussian_sigma", None)
        if sigma is None or self.spread == 0.0:
            return 1.0
        v = self.spread * problem.width
        radius = v * step.sigma_t / math.hypot(v * step.alpha_t, step.sigma_t)
        variance = (problem.width * sigma) ** 2
        return variance / (variance + radius**2)

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now, size, n = self.path(problem)[state.k], self.n_particles, len(state.x)
        many = problem.repeated(n, size)
        with torch.enable_grad():
            x_t = state.memory["particles"].flatten(0, 1).requires_grad_()
            prediction = many.prior.predict(x_t, now.t)
            energy = many.energy(prediction.x0)
            twist = -self.sharpness(many, now) * energy
            (slope,) = torch.autograd.grad(twist.sum(), x_t)
        energy, twist = energy.detach().view(n, size), twist.detach().view(n, size)
        x0, eps, slope = (v.detach().unflatten(0, (n, size)) for v in (prediction.x0, prediction.eps, slope))
        log_weights = state.memory["log_weights"] + twist
        estimate = (log_weights.softmax(1).view(n, size, *[1] * (x0.ndim - 2)) * x0).sum(1)
        effective = 1.0 / log_weights.softmax(1).square().sum(1)
        if now.sigma_s == 0.0:
            index = choose(log_weights - twist - energy, rng)
            memory = {**state.memory, "log_weights": log_weights - twist - energy}
            return State(pick(x0, index), state.k + 1, memory=memory), Info(estimate, extra={"effective": effective})
        kept, log_weights = systematic(log_weights, rng, self.threshold)
        x0, eps, slope, twist = (pick(v, kept) for v in (x0, eps, slope, twist))
        c1, c2 = ddim_coefficients(now, self.eta)
        z = rng.normal(x0)
        x_s = torch.add(torch.add(now.alpha_s * x0, eps, alpha=c2), z, alpha=c1) + c1**2 * slope
        # log(p / q) at x_s, with p = N(mean, c1^2 I) and q = N(mean + c1^2 slope, c1^2 I)
        ratio = -(c1 * z * slope + 0.5 * c1**2 * slope.square()).flatten(2).sum(2)
        memory = {"particles": x_s, "log_weights": log_weights - twist + ratio}
        return State(estimate, state.k + 1, memory=memory), Info(estimate, extra={"effective": effective})
