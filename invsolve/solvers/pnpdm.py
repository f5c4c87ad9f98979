"""PnP-DM: a split Gibbs sampler with a diffusion prior.

Wu, Sun, Chen, Zhang, Yue, Bouman 2024, arXiv 2405.18782.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource, normal_like
from invsolve.core.schedule import Schedule, Step, path
from invsolve.core.settings import Count, Positive, Range
from invsolve.core.solver import Info, Needs, Solver, State
from invsolve.solvers.steps.linear_gaussian import flat_variance
from invsolve.solvers.steps.updates import ancestral_mean, forward_variance

__all__ = ["PnPDM"]


@dataclass(frozen=True)
class PnPDM(Solver):
    """Draw alternately from the two conditionals of p(x, z) ~ p(y | x) exp(-|x - z|^2 / (2 rho^2)) p(z):

        x | z  ~  N of precision A^T A / sigma_y^2 + I / rho^2, exactly, by perturb and solve:
                  z' = z + rho n,  y' = y + sigma_y n',  x = z' + A^T (A A^T + (sigma_y / rho)^2 I)^-1 (y' - A z')
        z | x  ~  p(x0 | x_t) at x_t = alpha_t x, sigma_t / alpha_t = rho, by `n_inner` steps of the reverse process,
                  equal in sigma / alpha:  x_s = E[x_s | x_t, x0] + G z,
                  G^2 = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2 (the diffusion's own noise, exact for a prior
                  much wider than rho; none on the last step)

    while rho decreases, rho_k = max(rho_start decay^k, rho_end). The result is z. For a constant rho the stationary
    distribution is p(z) N(y; A z, sigma_y^2 I + rho^2 A A^T), up to the error of the inner steps, which decreases as 1
    / n_inner. This is the posterior as rho_end goes to 0, but the chain then mixes more slowly (about (rho / width of
    the posterior)^2 per iteration). At rho_end = 0.3 of a [-1, 1] range, as published, it is visibly wider than the
    posterior if sigma_y is small. n_steps * n_inner forward passes, no gradient.

    The official code enters the reverse path at the grid time next below rho and spends fewer steps at small rho.

    Args:
        n_steps: Gibbs iterations; published: 100.
        n_inner: steps of the reverse process in each iteration (the published grid has 100 from pure noise, entered at
            rho).
        rho_start, rho_end: first and last rho, in the prior's units; published: 10 and 0.3 for linear problems. Values
            above the largest noise of the schedule are reduced to it.
        decay: factor of rho per iteration, in (0, 1]; published: 0.9.
    """

    n_steps: Count = 100
    n_inner: Count = 10
    rho_start: Positive = 10.0
    rho_end: Positive = 0.3
    decay: Annotated[float, Range(0, 1, above=True)] = 0.9

    name = "pnp-dm"
    cite = (
        'Wu, Sun, Chen, Zhang, Yue, Bouman 2024, "Principled Probabilistic Imaging using Diffusion Models as '
        'Plug-and-Play Priors", arXiv 2405.18782'
    )
    needs = Needs(likelihood=True, linear=True)
    differentiates = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rho_start < self.rho_end:
            raise InputError(f"rho_start must be at least rho_end, got {self.rho_start} and {self.rho_end}")

    def steps(self, problem: Problem) -> int:
        return self.n_steps

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        estimate = problem.initial_estimate.to(problem.empty(n))
        return State(estimate.expand(n, *problem.state_shape).clone())

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        rho = max(self.rho_start * self.decay**state.k, self.rho_end)
        descent = _descent(problem.prior.schedule, self.n_inner, rho)
        rho = descent[0].sigma_t / descent[0].alpha_t
        z = descent[0].alpha_t * self.likelihood_draw(problem, state.x, rho, rng)
        for now in descent:
            x0 = problem.prior.denoise(z, now.t)
            z = ancestral_mean(now, z, x0)
            if now.sigma_s > 0.0:
                z = z + math.sqrt(max(0.0, forward_variance(now))) * rng.normal(z)
        return State(z, state.k + 1), Info(z)

    def likelihood_draw(self, problem: Problem, z: Tensor, rho: float, rng: NoiseSource) -> Tensor:
        """Draw x | z, y."""
        operator, y, sigma = problem.linear_data
        noise = normal_like(rng, y)
        shifted = z + rho * rng.normal(z)
        return shifted + operator.ridge(y + sigma * noise - operator(shifted), flat_variance(problem) / rho**2)


@lru_cache(maxsize=512)
def _descent(schedule: Schedule, n: int, rho: float) -> tuple[Step, ...]:
    """n steps that decrease sigma_t / alpha_t equally from rho, or the schedule's largest ratio if smaller, to 0."""
    alpha, sigma = schedule(1.0)
    top = min(rho, sigma / alpha) if alpha > 0.0 else rho
    return path(schedule, n, 1.0, (*(schedule.time_of(top * (n - i) / n) for i in range(n)), 0.0))
