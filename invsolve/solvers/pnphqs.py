"""PnP-HQS: plug-and-play restoration by half-quadratic splitting, a deterministic point estimate.

Zhang et al. 2021 (DPIR), arXiv 2008.13751.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import Count, Positive
from invsolve.core.solver import Info, Needs, Solver, State

__all__ = ["PnPHQS"]


@dataclass(frozen=True)
class PnPHQS(Solver):
    """Alternate a closed-form data step and one denoising while the noise level falls, z from A^+ y:

        rho_k = lam sigma_y^2 / sigma_k^2
        x     = argmin |y - A x|^2 + rho_k |x - z|^2 = z + (A^T A + rho_k I)^-1 A^T (y - A z)
        z     = D(x, sigma_k)                          sigma_k log-spaced from sigma_start to sigma_end

    It draws no noise: one forward a step, no gradient through the network, and every sample is the same. Iterative data
    steps look for the difference from z, so that what they leave open stays as the prior made it.

    Args:
        n_steps: denoisings.
        lam: weight of the prior (lambda).
        sigma_start: first denoising level, in the prior's units (twice those of [0, 1] for a [-1, 1] prior).
        sigma_end: last one; the measurement's own noise level where None.
        turns: turn and mirror the image before each denoising, by another of the eight ways every time, and back
            after it: evens out what a network prefers in one direction. Images [C, H, W] only.
    """

    n_steps: Count = 16
    lam: Positive = 0.23
    sigma_start: Positive = 0.3
    sigma_end: Positive | None = None
    turns: bool = False

    name = "pnp-hqs"
    cite = "Zhang, Li, Zuo, Zhang, Van Gool, Timofte 2021, arXiv 2008.13751"
    needs = Needs(likelihood=True, linear=True)
    differentiates = False
    mode_seeking = True
    deterministic = True

    def steps(self, problem: Problem) -> int:
        return self.n_steps

    def levels(self, problem: Problem) -> list[float]:
        """sigma_k, k = 0 to n_steps - 1; the batch shares them, so several noise levels share their mean."""
        sigma = problem.linear_data.sigma
        own = float(sigma.mean()) if isinstance(sigma, Tensor) else sigma
        last = min(self.sigma_end or own, self.sigma_start)
        ratio = last / self.sigma_start
        return [self.sigma_start * ratio ** (k / max(self.n_steps - 1, 1)) for k in range(self.n_steps)]

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        z = problem.initial_estimate.to(problem.empty(n)).expand(n, *problem.state_shape).clone()
        levels = torch.tensor([self.levels(problem)], dtype=torch.float64).expand(n, -1)
        return State(z, memory={"levels": levels.cpu()})

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        operator, y, sigma_y = problem.linear_data
        level = float(state.memory["levels"][0, state.k])
        rho = self.lam * sigma_y**2 / level**2
        flat = rho.flatten() if isinstance(rho, Tensor) else rho
        x = state.x + operator.ridge(y - operator(state.x), flat)
        z = problem.prior.clamp(self._denoise(problem, x, level, state.k))
        return State(z, state.k + 1, memory=state.memory), Info(z)

    def _denoise(self, problem: Problem, x: Tensor, level: float, k: int) -> Tensor:
        prior = problem.prior
        t = prior.schedule.time_of(level)
        alpha, _ = prior.schedule(t)
        quarter, mirror = (k % 4, k % 8 >= 4) if self.turns else (0, False)
        x = torch.rot90(x.flip(-1) if mirror else x, quarter, (-2, -1))
        z = torch.rot90(prior.denoise(alpha * x, t), -quarter, (-2, -1))
        return z.flip(-1) if mirror else z
