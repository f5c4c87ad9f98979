"""CT-DTM: trajectory matching in continuous time, on the reverse SDE or the probability-flow ODE.

The same control problem as NDTM's, with Girsanov's theorem in place of the divergence between Gaussians.

Pandey, Sofian, Draxler, Karaletsos, Mandt 2025, "Variational Control for Guidance in Diffusion Models",
arXiv 2502.03686.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.prior import Prediction
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import AtLeastZero, Count, CountFromZero, FirstTime, Positive, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.gradients import BlindUpdate, Parameters
from invsolve.solvers.steps.inner import Trial, check_scaling, minimise, rule_for
from invsolve.solvers.steps.scales import ScaleRule
from invsolve.solvers.steps.time_path import ScaledPath
from invsolve.solvers.steps.updates import Start, forward_variance

__all__ = ["CTDTM"]


@dataclass(frozen=True)
class CTDTM(ScaledPath):
    """Trajectory matching on the reverse SDE or the probability-flow ODE, with a control u of the state:

        sde   dx = [f x - g^2 score(c)] dt + g dw        backwards in time, c = x + gamma alpha u
        ode   dx = [f x - g^2/2 score(c)] dt

    Let e' = eps(c), let p' = (x_t - sigma_t e') / alpha_t = E[x0 | c] - gamma u be the clean estimate along the
    controlled score, and let G = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2 (= g^2 dt) be the noise variance added
    between s and t. A step is

        ode   x_s = x_t + (alpha_s - alpha_t) p' + (sigma_s - sigma_t) e'      Euler; Heun: mean (p', e') of both ends
        sde   x_s = the same - G / (2 sigma_t) e' + sqrt(G) z                  Euler-Maruyama

    where u minimises J(u) = w_T |y - A(clamp(p'))|^2 + transient_weight k |score(c) - score(x_t)|^2, with k = G / 2 for
    the SDE (Girsanov's theorem) and k = G / 4 for the ODE, whose drift contains half the score. u has the units of the
    clean estimate, hence the factor alpha. J is evaluated at p' and not at E[x0 | c], because the drift moves against
    gamma u: if the denoiser contracts, a control that brings E[x0 | c] closer to y moves the path away from it.

    The schedule is integrated exactly over a step: without control the ODE's Euler step equals DDIM's. The last step of
    the SDE adds no noise; on flow schedules its noise is singular at t = 1, which makes the first step coarse. A step
    takes n_inner + 1 forward passes and n_inner input gradients; Heun's method takes one more forward pass, except on
    the last step. The results minimise a cost at each step; they are not calibrated posterior samples.

    Args:
        n_steps: number of steps.
        process: "sde" or "ode".
        method: "euler", or "heun" (second order; ODE only).
        control: "network" (above), or "linear": score' = score(x) + u. Its gradient is taken in the metric of the
            transient cost, u - lr (u + w_T grad_x Phi(x0(x + D u))) with D = G or G / 2, so that one full step (lr = 1)
            of "gradient" is classifier guidance: score' = score - w_T grad Phi.
        n_inner: updates of the control at each step; with 0 there is no guidance.
        gamma: how strongly the control acts.
        weight: w_T, weight of the terminal cost, in the prior's units.
        transient_weight: weight of the transient cost.
        optimizer, lr: optimizer of the control ("adam", "gradient" or "lbfgs", see NDTM) and its step size, constant
            over the steps.
        t_start: time of the first step.
        start: "guided" or "random".
        clamp: clamp the clean estimate to the prior's value range, if it has one.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
        blind: how unknown operator parameters are updated, "joint" or "alternating".
        scale: a rule of `invsolve.solvers.steps.scales` for the length of the "gradient" optimizer's updates:
            u - lr lambda(|g|) g, g = dJ/du, with control="linear" in the metric above.
    """

    n_steps: Count = 100
    process: Literal["sde", "ode"] = "sde"
    method: Literal["euler", "heun"] = "euler"
    control: Literal["network", "linear"] = "network"
    n_inner: CountFromZero = 3
    gamma: float = 1.0
    weight: AtLeastZero = 10.0
    transient_weight: AtLeastZero = 1.0
    optimizer: Literal["adam", "gradient", "lbfgs"] = "adam"
    lr: Positive = 0.3
    t_start: FirstTime = 1.0
    start: Start = "guided"
    clamp: bool = True
    times: Times | None = None
    blind: BlindUpdate = "joint"
    scale: ScaleRule | None = None

    name = "ct-dtm"
    cite = (
        'Pandey, Sofian, Draxler, Karaletsos, Mandt 2025, "Variational Control for Guidance in Diffusion '
        'Models", arXiv 2502.03686'
    )
    needs = Needs(blind=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.process == "sde" and self.method == "heun":
            raise InputError("Heun's method integrates the ODE: use process='ode', or method='euler'")
        check_scaling(self.scale, self.optimizer)

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now, x = self.path(problem)[state.k], state.x
        noise = forward_variance(now)
        reach = noise if self.process == "sde" else 0.5 * noise  # change of the drift per unit of score
        linear, free = self.control == "linear", None

        def trial(u: Tensor) -> Trial:
            nonlocal free
            prediction = problem.prior.predict(x + (reach if linear else self.gamma * now.alpha_t) * u, now.t)
            free = free or prediction.detach()
            transient = []
            if self.transient_weight > 0:
                weight = 0.5 * self.transient_weight * reach
                moved = (u, weight) if linear else (prediction.eps - free.eps, weight / now.sigma_t**2)
                transient = [moved]
            x0 = prediction.x0 if linear else prediction.x0 - self.gamma * u
            return Trial(x0, transient)

        unit = reach if linear and self.optimizer != "adam" else 1.0  # Adam ignores the gradient's scale
        rule = rule_for(self.optimizer, self.lr / unit, scaling=self.scaling(problem, state, unit))
        start, theta = torch.zeros_like(x), Parameters.of(state, self.n_inner)
        out = minimise(
            problem, start, trial, rule, self.n_inner, self.weight, theta, clamp=self.clamp, blind=self.blind
        )
        shift = None if linear else self.gamma * out.u
        used = free if linear else None
        if used is None:
            used = problem.prior.predict(x if shift is None else x + now.alpha_t * shift, now.t)
        p, eps = self._consistent(problem, used, shift)
        if self.process == "ode":
            x_s = self._ode(problem, x, now, p, eps, shift)
        elif now.sigma_s == 0.0:
            x_s = p
        else:
            x_s = x + (now.alpha_s - now.alpha_t) * p + (now.sigma_s - now.sigma_t - 0.5 * noise / now.sigma_t) * eps
            x_s = x_s + math.sqrt(noise) * rng.normal(x)
        if linear:
            x_s = x_s + reach * out.u
        theta = out.parameters
        info = Info(p, out.misfit, {"control": out.u})
        return State(x_s, state.k + 1, theta.raw, {**theta.memory, **rule.memory}), info

    def _consistent(self, problem: Problem, used: Prediction, shift: Tensor | None) -> tuple[Tensor, Tensor]:
        """(p', e') of a prediction at a state that was moved by alpha times `shift`."""
        p = problem.prior.clamp(used.x0) if self.clamp else used.x0
        return (p if shift is None or self.n_inner == 0 else p - shift), used.eps

    def _ode(self, problem: Problem, x: Tensor, now: Step, p: Tensor, eps: Tensor, shift: Tensor | None) -> Tensor:
        """One step of Euler's or Heun's method."""
        d_alpha, d_sigma = now.alpha_s - now.alpha_t, now.sigma_s - now.sigma_t
        x_s = x + d_alpha * p + d_sigma * eps
        if self.method == "euler" or now.sigma_s == 0.0:
            return x_s
        again = problem.prior.predict(x_s if shift is None else x_s + now.alpha_s * shift, now.s)
        p2, eps2 = self._consistent(problem, again, shift)
        return x + 0.5 * d_alpha * (p + p2) + 0.5 * d_sigma * (eps + eps2)
