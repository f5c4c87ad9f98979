"""DiffPIR: plug-and-play restoration inside the sampling path of a diffusion prior.

Zhu, Zhang, Liang, Cao, Wen, Timofte, Van Gool 2023, arXiv 2305.08995.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import Count, FirstTime, Positive, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.linear_gaussian import flat_variance, signal_path
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import Start

__all__ = ["DiffPIR"]


@dataclass(frozen=True)
class DiffPIR(PathSolver):
    """Alternate a denoising and a regularised least-squares step; x0 is the denoiser's estimate at x_t:

        rho = lam sigma_y^2 alpha_t^2 / sigma_t^2
        p   = argmin |y - A x|^2 + rho |x - x0|^2 = x0 + A^T (A A^T + rho I)^-1 (y - A x0)
        e   = (x_t - alpha_t p) / sigma_t
        x_s = alpha_s p + sigma_s (sqrt(1 - zeta) e + sqrt(zeta) z)

    p equals E[x0 | x_t, y] if the covariance of the denoiser is sigma_t^2 / (lam alpha_t^2) I: with lam = 1, this holds
    for a prior much wider than the noise of y. In this case and with zeta = 0, the samples converge to the posterior.
    In other cases they are not calibrated, and zeta > 0 makes their spread smaller. One forward pass per step, no
    gradient.

    The official code takes sigma_y in [0, 1] units but sigma_t in those of [-1, 1]: its lambda equals 4 lam.

    Args:
        n_steps: network calls; published: 100 (20 for inpainting).
        lam: weight of the prior (lambda).
        zeta: fraction of new noise, in [0, 1]; published: 0.1 (1 for inpainting).
        spacing: how the times are spaced: "quadratic", t_start (1 - sqrt(i / n)), as published, or "own", the
            schedule's own grid.
        t_start: time of the first call.
        start: "guided" (from the noised A^+ y) or "random".
        times: explicit times, decreasing to 0, in place of n_steps, spacing and t_start.
    """

    n_steps: Count = 100
    lam: Positive = 1.0
    zeta: Share = 0.1
    spacing: Literal["quadratic", "own"] = "quadratic"
    t_start: FirstTime = 1.0
    start: Start = "guided"
    times: Times | None = None

    name = "diffpir"
    cite = (
        'Zhu, Zhang, Liang, Cao, Wen, Timofte, Van Gool 2023, "Denoising Diffusion Models for Plug-and-Play '
        'Image Restoration", arXiv 2305.08995'
    )
    needs = Needs(likelihood=True, linear=True)
    differentiates = False
    divides_by_alpha = True

    def path(self, problem: Problem) -> tuple[Step, ...]:
        times, n = self.times, self.n_steps
        if times is None and self.spacing == "quadratic":
            times = _quadratic(n, self.t_start)
        return signal_path(problem.prior.schedule, n, self.t_start, times)

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        operator, y, _ = problem.linear_data
        x0 = problem.prior.denoise(state.x, now.t)
        rho = (self.lam * (now.alpha_t / now.sigma_t) ** 2) * flat_variance(problem)
        p = x0 + operator.ridge(y - operator(x0), rho)
        if now.sigma_s == 0.0:
            return State(now.alpha_s * p, state.k + 1), Info(p)
        kept = now.sigma_s * math.sqrt(1.0 - self.zeta) / now.sigma_t  # coefficient of x_t that comes from e
        x = torch.add((now.alpha_s - kept * now.alpha_t) * p, state.x, alpha=kept)
        if self.zeta > 0.0:
            x = torch.add(x, rng.normal(p), alpha=now.sigma_s * math.sqrt(self.zeta))
        return State(x, state.k + 1), Info(p)


@lru_cache(maxsize=64)
def _quadratic(n: int, t_start: float) -> tuple[float, ...]:
    """t_start (1 - sqrt(i / n)) for i = 0 to n."""
    return tuple(t_start * (1.0 - math.sqrt(i / n)) for i in range(n + 1))
