"""DAPS: decoupled annealing.

Zhang et al. 2024, arXiv 2407.01521.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from invsolve.core.linalg import per_sample
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource, normal_like
from invsolve.core.schedule import Step
from invsolve.core.settings import Count, CountFromZero, FirstTime, Positive, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.gradients import energy_gradient
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import ddim, descent, start_state

__all__ = ["DAPS"]


@dataclass(frozen=True)
class DAPS(PathSolver):
    """At each noise level, approximate p(x0 | x_t) by N(m, r_t^2 I), draw x0, and add new noise to it (Phi in nats):

        m    = end of the probability-flow ODE from x_t, by n_ode DDIM steps with eta = 0
        x0   ~ exp(-Phi(x0) - |x0 - m|^2 / (2 r_t^2)),    r_t^2 = 1 / (1/(v w)^2 + alpha_t^2 / sigma_t^2)
        x_s  = alpha_s x0 + sigma_s z

    w is the width of the prior's range. n_ode forward passes per level (fewer if a table has fewer indices left), no
    gradient through the network. The samples follow the posterior only as far as the Gaussian equals p(x0 | x_t). It is
    exact for a prior N(., (v w)^2 I) with n_ode = 1 and the exact sampler. The end of an ODE is a sample, not a mean,
    so more ODE steps make the samples too widely spread. The official code uses r_t = sigma_t / alpha_t. At high noise
    its short chains, which have a fixed step size and start at m, never reach this spread.

    Args:
        n_steps: noise levels.
        n_ode: network calls at each level.
        sampler: how x0 is drawn. "langevin", a chain that starts at a sample of N(m, r_t^2 I):
                    x0 += -h (grad Phi + (x0 - m) / r_t^2) + sqrt(2 h) z,  h = lr / (1/r_t^2 + 1/sigma_y^2), or lr r_t^2
                    for costs other than Gaussian likelihoods; its bias is of the order of lr;
                 "exact", a closed-form sample: linear operators with Gaussian noise.
        n_langevin: steps of the chain, each with one gradient of the cost.
        lr: step size of the chain, see above; below 2.
        spread: v, standard deviation of clean pixels as a fraction of the range; None for the published r_t.
        t_start: time of the first level, at which x is pure noise.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
    """

    n_steps: Count = 50
    n_ode: Count = 5
    sampler: Literal["langevin", "exact"] = "langevin"
    n_langevin: CountFromZero = 50
    lr: Positive = 0.1
    spread: Positive | None = 0.25
    t_start: FirstTime = 1.0
    times: Times | None = None

    name = "daps"
    cite = (
        'Zhang, Chu, Berner, Meng, Anandkumar, Song 2024, "Improving Diffusion Inverse Problem Solving with '
        'Decoupled Noise Annealing", arXiv 2407.01521'
    )
    needs = Needs()
    differentiates = False

    @property
    def _divides_by_alpha(self) -> bool:
        return self.spread is None  # r_t = sigma_t / alpha_t

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        if self.sampler == "exact":
            _ = problem.linear_data  # raises an error unless the problem is linear and Gaussian
        return State(start_state(problem, n, rng, self.path(problem)[0], "random"))

    def precision(self, problem: Problem, step: Step) -> float:
        """1 / r_t^2."""
        flat = 0.0 if self.spread is None else (self.spread * problem.width) ** -2
        return flat + (step.alpha_t / step.sigma_t) ** 2

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now, m = self.path(problem)[state.k], state.x
        for inner in descent(problem.prior.schedule, self.n_ode, now.t):
            prediction = problem.prior.predict(m, inner.t)
            m = ddim(inner, 0.0, prediction.x0, prediction.eps, rng)
        precision = self.precision(problem, now)
        draw = self._exact if self.sampler == "exact" else self._langevin
        x0 = draw(problem, m, precision, rng)
        x = x0 if now.sigma_s == 0.0 else now.alpha_s * x0 + now.sigma_s * rng.normal(x0)
        return State(x, state.k + 1), Info(x0)

    def _exact(self, problem: Problem, m: Tensor, precision: float, rng: NoiseSource) -> Tensor:
        """(A^T A + lam)^-1 [A^T (y + sigma n) + lam (m + r n')], lam = sigma^2 / r^2."""
        operator, y, sigma = problem.linear_data
        noise = normal_like(rng, y)
        lam = sigma**2 * precision
        flat = lam.flatten() if isinstance(lam, Tensor) else lam
        centre = m + rng.normal(m) / math.sqrt(precision)
        right = operator.adjoint(y + sigma * noise) + per_sample(flat, m) * centre
        return operator.solve_normal(right, flat)

    def _langevin(self, problem: Problem, m: Tensor, precision: float, rng: NoiseSource) -> Tensor:
        sigma = getattr(problem.cost, "gaussian_sigma", None)
        sharpness = 0.0 if sigma is None else (problem.width * sigma) ** -2
        size = per_sample(self.lr / (precision + sharpness), m)
        root = size.sqrt() if isinstance(size, Tensor) else math.sqrt(size)
        x = m + rng.normal(m) / math.sqrt(precision)
        for _ in range(self.n_langevin):
            x = x - size * (energy_gradient(problem, x) + precision * (x - m)) + math.sqrt(2.0) * root * rng.normal(x)
        return x
