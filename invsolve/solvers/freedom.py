"""FreeDoM and universal guidance: any cost, with time travel and backward guidance.

Yu et al. 2023, arXiv 2303.09833 (FreeDoM); Bansal et al. 2023, arXiv 2302.07121 (universal guidance). The official
codes compute losses and norms over the batch. Here they are computed for each sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.operator import EMPTY
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import AtLeastZero, Count, CountFromZero, FirstTime, Positive, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.gradients import Parameters, descend
from invsolve.solvers.steps.scales import ScaleRule, check_length_rule
from invsolve.solvers.steps.time_path import ScaledPath
from invsolve.solvers.steps.updates import (
    Start,
    ddim,
    forward_variance,
    gradient_length,
    guided_ddim,
    limited,
    moved_back,
)

__all__ = ["FreeDoM"]


@dataclass(frozen=True)
class FreeDoM(ScaledPath):
    """At each step, repeat r times (r = 1 outside the window of time travel):

        g   = grad_x Phi(x0(x_t))                                        Phi = |y - A(x0)|, or the energy of other costs
        x0  = x0(x_t) + Delta,  eps = (x_t - alpha_t x0) / sigma_t       backward guidance: Delta by n_backward
                                                                         gradient steps of Phi(x0 + Delta) from 0
        x_s = DDIM(x0, eps) - zeta alpha_t g
        x_t = (alpha_t / alpha_s) x_s + sqrt(sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2) z    before the next round

    With zeta alone this is FreeDoM; with n_backward and a window of (0, 1) it is universal guidance. One forward pass
    per round, and one input gradient unless zeta is 0. Guidance weights are chosen by eye, so the samples are not
    calibrated.

    Args:
        n_steps: diffusion steps.
        zeta: forward guidance weight, in units of the prior's range for a Gaussian likelihood; 0 for none.
        rounds: r, number of rounds inside the window (with 1 there is no time travel).
        window: times (low, high) between which rounds are repeated; published: the middle of the path.
        n_backward: gradient steps on the clean estimate in each round (m); 0 for none.
        backward_lr: step size of these gradient steps, with Phi = |y - A(x0)|^2 / 2 for Gaussian likelihoods.
        eta: DDIM's eta.
        t_start: time of the first step.
        start: "random" or "guided".
        clamp: clamp x0 to the prior's value range, if it has one.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
        scale: a rule of `invsolve.solvers.steps.scales` for the length of the forward guidance in place of |r|:
            x_s = DDIM(x0, eps) - zeta alpha_t lambda(|g|) g with g = grad_x misfit.
    """

    n_steps: Count = 100
    zeta: AtLeastZero = 0.5
    rounds: Count = 1
    window: tuple[Share, Share] = (0.3, 0.7)
    n_backward: CountFromZero = 0
    backward_lr: Positive = 0.5
    eta: Share = 1.0
    t_start: FirstTime = 1.0
    start: Start = "random"
    clamp: bool = True
    times: Times | None = None
    scale: ScaleRule | None = None

    name = "freedom"
    cite = (
        'Yu, Wang, Zhao, Ghanem, Zhang 2023, "FreeDoM: Training-Free Energy-Guided Conditional Diffusion '
        'Model", arXiv 2303.09833; Bansal, Chu, Schwarzschild, Sengupta, Goldblum, Geiping, Goldstein 2023, '
        '"Universal Guidance for Diffusion Models", arXiv 2302.07121'
    )
    needs = Needs()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_length_rule(self.scale)
        if self.window[0] > self.window[1]:
            raise InputError(f"window must be (low, high), low <= high, got {self.window}")

    def rounds_at(self, step: Step) -> int:
        """How often the step is repeated; the last step, to time 0, is taken once."""
        low, high = self.window
        return self.rounds if low <= step.t <= high and step.s > 0.0 else 1

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now, x = self.path(problem)[state.k], state.x
        ratio, spread = now.alpha_t / now.alpha_s, math.sqrt(forward_variance(now))
        total = self.rounds_at(now)
        x_s, state, info = self._round(problem, x, now, state, rng)
        for _ in range(total - 1):
            x_s, state, info = self._round(problem, ratio * x_s + spread * rng.normal(x), now, state, rng)
        return State(x_s, state.k + 1, memory=state.memory), info

    def _round(
        self, problem: Problem, x: Tensor, now: Step, state: State, rng: NoiseSource
    ) -> tuple[Tensor, State, Info]:
        slope, misfit, length = None, None, 0.0
        if self.zeta > 0:
            with torch.enable_grad():
                x_t = x.detach().requires_grad_()
                prediction = problem.prior.predict(x_t, now.t)
                x0 = problem.prior.clamp(prediction.x0) if self.clamp else prediction.x0
                misfit, slope, *_ = descend(problem, x0, x_t, Parameters(EMPTY, {}))
            if self.scale is None:
                length = gradient_length(problem, misfit, now.alpha_t * self.zeta)
            else:
                lam, memory = self.scaled(problem, state, slope)
                length, state = now.alpha_t * self.zeta * lam, replace(state, memory=memory)
        else:
            prediction = problem.prior.predict(x, now.t)
            x0 = problem.prior.clamp(prediction.x0) if self.clamp else prediction.x0
        x0 = x0.detach()
        if self.n_backward:
            x0 = self._backward(problem, x0)
            x_s = guided_ddim(now, self.eta, x, x0, rng)
        else:
            free = prediction.detach()
            eps = limited(problem, now, free).eps if self.clamp else free.eps
            x_s = ddim(now, self.eta, x0, eps, rng)
        return (x_s if slope is None else moved_back(x_s, length, slope)), state, Info(x0, misfit)

    def _backward(self, problem: Problem, x0: Tensor) -> Tensor:
        """Compute x0 + Delta with the operator and the cost, without the network."""
        size = self.backward_lr * (0.5 if problem.quadratic else 1.0)
        for _ in range(self.n_backward):
            with torch.enable_grad():
                free = x0.detach().requires_grad_()
                slope = descend(problem, free, free, Parameters(EMPTY, {})).gradient
            x0 = torch.sub(x0, slope, alpha=size)
        return x0
