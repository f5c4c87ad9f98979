"""PnP-HQS: plug-and-play restoration by half-quadratic splitting, a deterministic point estimate.

Zhang et al. 2021 (DPIR), arXiv 2008.13751.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.prior import Prior
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import Count, Positive, Share
from invsolve.core.solver import Info, Needs, Solver, State

__all__ = ["PnPHQS"]

VISIBLE = 0.02
"""Error of an iterative data step, in units of the noise that the next denoising removes; too small to be visible."""

SMALLEST = 16
"""Smallest side of a downscaled image in a coarse denoising step, in pixels."""


@dataclass(frozen=True)
class PnPHQS(Solver):
    """Alternate a closed-form data step and a denoising at decreasing noise levels; z starts from a first estimate:

        rho_k = lam sigma_y^2 / sigma_k^2
        x     = argmin |y - A x|^2 + rho_k |x - z|^2 = z + (A^T A + rho_k I)^-1 A^T (y - A z)
        z     = D(x, sigma_k)                          sigma_k log-spaced from sigma_start to sigma_end

    The method draws no noise, so every sample is the same. One forward pass per step, no gradient through the network.
    Iterative data steps solve for the difference from z, so what they leave unsolved stays as the prior made it. If the
    items have different noise levels, each has its own sigma_k.

    Args:
        n_steps: number of denoisings.
        lam: weight of the prior (lambda).
        sigma_start: first denoising level, in the prior's units (for a [-1, 1] prior twice the value in [0, 1] units).
            It is at least sigma_end: with a small value all denoisings are at sigma_end.
        sigma_end: last denoising level; the noise level of the measurement if None.
        turns: rotate and mirror the image before each denoising, each time by another of the eight ways, and undo it
            afterwards. This averages out directional preferences of the network. Images [C, H, W] only.
        start: the first z, "smooth" (argmin |y - A x|^2 + (sigma / 0.1)^2 |grad x|^2 in [0, 1] units: unmeasured pixels
            are filled from their surroundings) or "guided" (A^+ y if the pseudo-inverse is well conditioned).
        average: the result is the mean of this many denoisings (or of all, if there are fewer) of the same x at the
            last level. If `turns` is set, each is rotated or mirrored differently (self-ensemble; Timofte, Rothe and
            Van Gool 2016, arXiv 1511.02228).
        scales: number of image sizes over which the decreasing levels are divided, from 2^(scales - 1) times smaller to
            the full size. D then downscales the image, denoises it at a level divided by the same factor, and upscales
            it again: at full size a network does not see across a wide hole. Sides stay at 16 pixels or more. Not for
            priors of one fixed size.
        momentum: the data step begins at z + momentum (z - z') with the previous z'. Unmeasured pixels are then filled
            from farther away in fewer steps.
    """

    n_steps: Count = 16
    lam: Positive = 0.23
    sigma_start: Positive = 0.3
    sigma_end: Positive | None = None
    turns: bool = False
    start: Literal["smooth", "guided"] = "smooth"
    average: Count = 1
    scales: Count = 1
    momentum: Share = 0.0

    name = "pnp-hqs"
    cite = (
        'Zhang, Li, Zuo, Zhang, Van Gool, Timofte 2020, "Plug-and-Play Image Restoration with Deep Denoiser '
        'Prior", arXiv 2008.13751'
    )
    needs = Needs(likelihood=True, linear=True)
    differentiates = False
    mode_seeking = True
    deterministic = True

    @property
    def averaged(self) -> int:
        """The number of denoisings that are averaged."""
        return min(self.average, self.n_steps)

    def steps(self, problem: Problem) -> int:
        return self.n_steps

    def levels(self, problem: Problem, n: int) -> Tensor:
        """The denoising levels of each row, [n, n_steps] in float64; they do not depend on the other rows."""
        sigma = torch.as_tensor(problem.linear_data.sigma, dtype=torch.float64).flatten().cpu().expand(n)
        return torch.tensor([self._falling(own) for own in sigma.tolist()], dtype=torch.float64)

    def _falling(self, sigma: float) -> list[float]:
        last = self.sigma_end or sigma
        first, falling = max(self.sigma_start, last), self.n_steps - self.averaged
        return [first * (last / first) ** (min(k / falling, 1.0) if falling else 1.0) for k in range(self.n_steps)]

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        first = problem.smooth_estimate if self.start == "smooth" else problem.initial_estimate
        z = first.to(problem.empty(n)).expand(n, *problem.state_shape).clone()
        return State(z, memory={"levels": self.levels(problem, n)})

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        levels, memory = state.memory["levels"][:, state.k].tolist(), dict(state.memory)
        x = memory["x"] if "x" in memory else self._data_step(problem, self._ahead(state), levels)
        z = problem.prior.clamp(self._denoise(problem.prior, x, levels, state.k))
        done = self.averaged - (self.n_steps - state.k)  # number of averaged denoisings so far
        if self.averaged > 1 and done >= 0:
            z = z if done == 0 else state.x + (z - state.x) / (done + 1)
            memory["x"] = x
        elif self.momentum:
            memory["before"] = state.x
        return State(z, state.k + 1, memory=memory), Info(z)

    def _ahead(self, state: State) -> Tensor:
        before = state.memory.get("before")
        return state.x if before is None else state.x + self.momentum * (state.x - before)

    def _data_step(self, problem: Problem, z: Tensor, levels: list[float]) -> Tensor:
        operator, y, sigma_y = problem.linear_data
        shared = levels[0] if len(set(levels)) == 1 else torch.tensor(levels, dtype=torch.float64)
        level = shared.to(z) if isinstance(shared, Tensor) else shared
        sigma = sigma_y.flatten() if isinstance(sigma_y, Tensor) else sigma_y
        return z + operator.ridge_within(y - operator(z), self.lam * sigma**2 / level**2, VISIBLE * level)

    def _denoise(self, prior: Prior, x: Tensor, levels: list[float], k: int) -> Tensor:
        """D(x, level) for each row; rows with the same level share one call."""
        different = sorted(set(levels))
        if len(different) == 1:
            return self._at_scale(prior, x, levels[0], k)
        z = torch.empty_like(x)
        for level in different:
            rows = torch.tensor([i for i, own in enumerate(levels) if own == level], device=x.device)
            z[rows] = self._at_scale(prior.select(rows), x[rows], level, k)
        return z

    def _at_scale(self, prior: Prior, x: Tensor, level: float, k: int) -> Tensor:
        """D(x, level); if there are several scales, the image is downscaled in the first steps."""
        falling = self.n_steps - self.averaged
        smaller = 2 ** max(self.scales - 1 - k * self.scales // max(falling, 1), 0)
        size = x.shape[-2:]
        if smaller == 1 or prior.shape is not None or min(size) < SMALLEST * smaller:
            return self._turned(prior, x, level, k)
        small = F.interpolate(x, size=[side // smaller for side in size], mode="area")
        z = self._turned(prior, small, level / smaller, k)
        return F.interpolate(z, size=size, mode="bicubic", align_corners=False)

    def _turned(self, prior: Prior, x: Tensor, level: float, k: int) -> Tensor:
        t = prior.schedule.time_of(level)
        alpha, _ = prior.schedule(t)
        quarter, mirror = (k % 4, k % 8 >= 4) if self.turns else (0, False)
        x = torch.rot90(x.flip(-1) if mirror else x, quarter, (-2, -1))
        z = torch.rot90(prior.denoise(alpha * x, t), -quarter, (-2, -1))
        return z.flip(-1) if mirror else z
