"""FTM: trajectory matching for flow matching priors.

Pandey, Sofian, Draxler, Karaletsos, Mandt 2025, "Variational Control for Guidance in Diffusion Models",
arXiv 2502.03686.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import AtLeastZero, Count, CountFromZero, FirstTime, Positive, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.gradients import BlindUpdate, Parameters
from invsolve.solvers.steps.inner import Trial, check_scaling, minimise, rule_for
from invsolve.solvers.steps.scales import ScaleRule
from invsolve.solvers.steps.time_path import ScaledPath
from invsolve.solvers.steps.updates import Start

__all__ = ["FTM"]


@dataclass(frozen=True)
class FTM(ScaledPath):
    """Euler steps of dx = v(x + gamma u, t) dt; at each step, u is found by n_inner updates from 0 of

        J(u) = w_T |y - A(clamp(p))|^2 + w |v(x') - v(x)|^2,    x' = x + gamma u
        x_s  = x_t - (t - s) v(x', t),                          p = x_t - t v(x', t)

    p is the clean estimate along the controlled velocity. It differs by gamma u from E[x0 | x'] = x' - t v(x', t):
    if the denoiser contracts (as it always does at high noise), a control that brings E[x0 | x'] closer to y moves the
    flow away from it.

    Any prior can be used: on schedules other than the straight line, x stands for x_t / (alpha_t + sigma_t) and t for
    sigma_t / (alpha_t + sigma_t), in which the path is a straight-line flow. A step takes n_inner + 1 forward passes
    and n_inner input gradients. The results minimise a cost at each step; they are not calibrated posterior samples.

    Args:
        n_steps: number of steps.
        n_inner: updates of the control at each step; with 0 there is no guidance.
        gamma: strength of the control.
        weight: w_T, weight of the terminal cost, in the prior's units.
        transient_weight: w, weight of the distance to the unguided velocity.
        optimizer, lr: optimizer of the control ("adam", "gradient" or "lbfgs", see NDTM) and its step size, constant
            over the steps.
        t_start: time of the first step.
        start: "guided" ((1 - t) A^+ y + t z) or "random".
        estimate: the estimate at which J is evaluated: "path" (above) or "control", x' - t v(x', t).
        clamp: clamp p to the prior's value range, if it has one (in J only; the flow itself follows v).
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
        blind: how unknown operator parameters are updated, "joint" or "alternating".
        scale: a rule of `invsolve.solvers.steps.scales` for the length of the "gradient" optimizer's updates:
            u - lr lambda(|dJ/du|) dJ/du.
    """

    n_steps: Count = 50
    n_inner: CountFromZero = 5
    gamma: float = 1.0
    weight: AtLeastZero = 50.0
    transient_weight: AtLeastZero = 1.0
    optimizer: Literal["adam", "gradient", "lbfgs"] = "adam"
    lr: Positive = 0.3
    t_start: FirstTime = 1.0
    start: Start = "random"
    estimate: Literal["path", "control"] = "path"
    clamp: bool = True
    times: Times | None = None
    blind: BlindUpdate = "joint"
    scale: ScaleRule | None = None

    name = "ftm"
    cite = (
        'Pandey, Sofian, Draxler, Karaletsos, Mandt 2025, "Variational Control for Guidance in Diffusion '
        'Models", arXiv 2502.03686'
    )
    needs = Needs(blind=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scaling(self.scale, self.optimizer)

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        state, first = super().init(problem, n, rng), self.path(problem)[0]
        return replace(state, x=state.x / (first.alpha_t + first.sigma_t))

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now, prior, x = self.path(problem)[state.k], problem.prior, state.x
        scale = now.alpha_t + now.sigma_t
        t, s = now.sigma_t / scale, now.sigma_s / (now.alpha_s + now.sigma_s)
        free = None

        def trial(u: Tensor) -> Trial:
            nonlocal free
            prediction = prior.predict(scale * (x + self.gamma * u), now.t)
            velocity = prediction.eps - prediction.x0
            free = velocity.detach() if free is None else free
            transient = [(velocity - free, self.transient_weight)] if self.transient_weight > 0 else []
            p = x - t * velocity if self.estimate == "path" else prediction.x0
            return Trial(p, transient)

        parameters = Parameters.of(state, self.n_inner)
        rule = rule_for(self.optimizer, self.lr, scaling=self.scaling(problem, state))
        start = torch.zeros_like(x)
        out = minimise(
            problem, start, trial, rule, self.n_inner, self.weight, parameters, clamp=self.clamp, blind=self.blind
        )
        last = prior.predict(scale * (x + self.gamma * out.u), now.t)
        x_s = x - (t - s) * (last.eps - last.x0)
        theta, info = out.parameters, Info(last.x0, out.misfit, {"control": out.u})
        return State(x_s, state.k + 1, theta.raw, {**theta.memory, **rule.memory}), info
