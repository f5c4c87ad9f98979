"""MPGD: guidance of the clean estimate itself.

He et al. 2023, arXiv 2311.16424. The official code steps along grad |y - A(x0)| with step sizes tuned for each task.
Here the gradient is that of the squared residual, so that one weight works for all noise-free operators of norm one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import AtLeastZero, Count, FirstTime, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.scales import ScaleRule, check_length_rule
from invsolve.solvers.steps.time_path import ScaledPath
from invsolve.solvers.steps.updates import Start, ddim, limited, moved_back

__all__ = ["MPGD"]


@dataclass(frozen=True)
class MPGD(ScaledPath):
    """Set x0 = x0(x_t) - c_t grad Phi(x0), then x_s = alpha_s x0 + c1 z + c2 eps(x_t), with Phi = |y - A(x0)|^2 / 2.

    The gradient is taken with respect to the clean estimate: one forward pass per step, no gradient through the
    network. For costs other than Gaussian likelihoods Phi is the energy. The step approximates the posterior mean
    without a model of the covariance, so the samples are not calibrated.

    Args:
        n_steps: network calls.
        zeta: guidance weight; with 1 and an operator that keeps or drops pixels, the observed pixels are set to y's
            values.
        weighting: c_t = zeta ("constant") or zeta alpha_t ("alpha").
        eta: DDIM's eta.
        projection: function that maps estimates [N, ...] back to the data manifold after the gradient step, for example
            decode(encode(x0)) of an autoencoder; None for no projection.
        t_start: time of the first call.
        start: "random" or "guided".
        clamp: clamp x0 to the prior's value range, if it has one, before the gradient step.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
        scale: a rule of `invsolve.solvers.steps.scales` for the length of the guidance:
            x0(x_t) - c_t lambda(|g|) g with g = grad Phi(x0).
    """

    n_steps: Count = 100
    zeta: AtLeastZero = 1.0
    weighting: Literal["constant", "alpha"] = "constant"
    eta: Share = 0.5
    projection: Callable[[Tensor], Tensor] | None = None
    t_start: FirstTime = 1.0
    start: Start = "random"
    clamp: bool = True
    times: Times | None = None
    scale: ScaleRule | None = None

    name = "mpgd"
    cite = (
        'He, Murata, Lai, Takida, Uesaka, Kim, Liao, Mitsufuji, Kolter, Salakhutdinov, Ermon 2023, "Manifold '
        'Preserving Guided Diffusion", arXiv 2311.16424'
    )
    needs = Needs()
    differentiates = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_length_rule(self.scale)

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        prediction = problem.prior.predict(state.x, now.t)
        prediction = limited(problem, now, prediction) if self.clamp else prediction
        x0 = prediction.x0
        with torch.enable_grad():
            free = x0.detach().requires_grad_()
            misfit = problem.misfit(free)
            (gradient,) = torch.autograd.grad(misfit.sum(), free)
        gradient = 0.5 * gradient if problem.quadratic else gradient
        length, memory = self.zeta * (now.alpha_t if self.weighting == "alpha" else 1.0), {}
        if self.scale is not None:
            lam, memory = self.scaled(problem, state, gradient)
            length = length * lam
        x0 = moved_back(x0, length, gradient)
        if self.projection is not None:
            x0 = self.projection(x0)
        x = ddim(now, self.eta, x0, prediction.eps, rng)
        return State(x, state.k + 1, memory=memory), Info(x0, misfit.detach())
