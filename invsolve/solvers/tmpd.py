"""TMPD: Tweedie moment projected diffusion, guidance with the row sums of the denoiser's covariance.

Boys, Girolami, Pidstrigach, Reich, Mosca, Akyildiz 2023, arXiv 2310.06721.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import Count, FirstTime, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.linear_gaussian import Tangent
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import Start, guided_ddim

__all__ = ["TMPD"]


@dataclass(frozen=True)
class TMPD(PathSolver):
    """Guide the estimate x0 with the row sums of the denoiser's covariance.

    The covariance is C = (sigma_t^2 / alpha_t) J^T with J = d x0 / d x_t (Cov[x0 | x_t], by Tweedie's formula):

        d = A C A^T 1                      row sums in place of the matrix; negative sums are set to 0
        u = C A^T (y - A x0) / (d + sigma_y^2)
        x_s = DDIM step of the estimate x0 + u and its noise (x_t - alpha_t (x0 + u)) / sigma_t

    The step is exact if the prior is Gaussian and A C A^T is diagonal (independent pixels that are kept or lost, block
    means of independent blocks); the samples then converge to the posterior to first order in the number of steps. If
    the measurements are correlated it is not calibrated: `MMPS` solves the full system instead. One forward pass and
    two input gradients per step.

    Args:
        n_steps: diffusion steps, each with one forward pass.
        eta: DDIM's eta; 1 is ancestral sampling.
        t_start: time of the first call.
        start: "random" or "guided" (from the noised A^+ y).
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
    """

    n_steps: Count = 100
    eta: Share = 1.0
    t_start: FirstTime = 1.0
    start: Start = "random"
    times: Times | None = None

    name = "tmpd"
    cite = (
        'Boys, Girolami, Pidstrigach, Reich, Mosca, Akyildiz 2023, "Tweedie Moment Projected Diffusions for '
        'Inverse Problems", arXiv 2310.06721'
    )
    needs = Needs(likelihood=True, linear=True)
    divides_by_alpha = True

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        operator, y, sigma = problem.linear_data
        tangent = Tangent(problem.prior, state.x, now.t)
        ratio = now.sigma_t**2 / now.alpha_t
        residual = y - operator(tangent.x0)
        sums = operator(ratio * tangent.pull(operator.adjoint(torch.ones_like(residual))))
        variance = (sums.real if sums.is_complex() else sums).clamp_min(0.0) + sigma**2
        x0 = torch.add(tangent.x0, tangent.pull(operator.adjoint(residual / variance), last=True), alpha=ratio)
        return State(guided_ddim(now, self.eta, state.x, x0, rng), state.k + 1), Info(x0)
