"""Classifier and reward guidance: the prior's score moved by lambda grad log r, r = exp(-Phi).

Dhariwal and Nichol 2021, arXiv 2105.05233 (classifier guidance); Roy and Roy, "When guidance breaks" (adaptive scale).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError
from invsolve.core.linalg import per_sample
from invsolve.core.prior import Prediction
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step, VPSchedule
from invsolve.core.settings import Count, FirstTime, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.scales import FixedScale, ScaleRule
from invsolve.solvers.steps.time_path import ScaledPath
from invsolve.solvers.steps.updates import Start, ddim, limited

__all__ = ["Guidance"]


@dataclass(frozen=True)
class Guidance(ScaledPath):
    """Add lambda g with g = -grad_x Phi to the score, s* = s(x_t) + lambda g, then make a sampler step with s*:

        "ddim"  x0* = x0 + sigma_t^2 / alpha_t lambda g,  eps* = eps - sigma_t lambda g,
                x_s = alpha_s x0* + c1 z + c2 eps*
        "em"    x_s = x_t + (beta x_t / 2 + beta s*) dt + sqrt(beta dt) z,  beta = beta(t)    (VPSchedule only)

    Phi is the energy of the problem's cost: a classifier's -log p(y | x), a reward, their sum, or a likelihood. With
    lambda = 0 the result is bit-identical to DDIM. The samples follow the tilted distribution p(x0) r(x0)^lambda only
    if g is the exact gradient of log E[r(x0) | x_t]; otherwise they approximate it. One forward pass per step, and with
    at="x0hat" also one input gradient.

    Args:
        scale: the rule for lambda, see `invsolve.solvers.steps.scales`.
        at: where the cost is evaluated: "x0hat" Phi(x0(x_t)), differentiated through the network; "xt" Phi(x_t), which
            treats the noisy state as an image (published for rewards); "noisy" the cost's own -log p(y | x_t), for
            classifiers trained on noisy images.
        sampler: see above.
        n_steps: network calls.
        eta: DDIM's noise.
        t_start: time of the first call.
        start: "random" or "guided".
        clamp: clamp x0* to the prior's value range, if it has one, and adjust eps* to match (ddim).
        times: explicit decreasing times in place of n_steps and t_start; the last one need not be 0.
    """

    scale: ScaleRule = field(default_factory=FixedScale)  # pyright: ignore[reportIncompatibleVariableOverride]
    at: Literal["x0hat", "xt", "noisy"] = "x0hat"
    sampler: Literal["ddim", "em"] = "ddim"
    n_steps: Count = 100
    eta: Share = 1.0
    t_start: FirstTime = 1.0
    start: Start = "random"
    clamp: bool = True
    times: Times | None = None

    name = "guidance"
    cite = 'Dhariwal, Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", arXiv 2105.05233'
    needs = Needs()
    noisy_end = True

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        if self.sampler == "em" and not isinstance(problem.prior.schedule, VPSchedule):
            raise CapabilityError(
                f"Euler-Maruyama steps need a VPSchedule, got {problem.prior.schedule!r}: use sampler='ddim'"
            )
        return super().init(problem, n, rng)

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        free, energy, gradient = self._gradient(problem, state.x, now)
        if gradient is None:
            guidance, lam, memory = torch.zeros_like(state.x), state.x.new_zeros(len(state.x)), dict(state.memory)
        else:
            lam, memory = self.scaled(problem, state, gradient)
            guidance = per_sample(lam, gradient) * gradient
        guided, guidance = self._guided(now, free, guidance)
        if self.sampler == "em":
            x = self._euler_maruyama(problem, state.x, now, guided, rng)
        else:
            guided = limited(problem, now, guided) if self.clamp else guided
            x = ddim(now, self.eta, guided.x0, guided.eps, rng)
        info = Info(guided.x0, energy, {"guidance": guidance, "scale": lam})
        return State(x, state.k + 1, state.theta, memory), info

    def _gradient(self, problem: Problem, x: Tensor, now: Step) -> tuple[Prediction, Tensor | None, Tensor | None]:
        """The unguided prediction, the energies [N] and g."""
        if self.scale.off or now.alpha_t == 0.0:  # at alpha = 0 the state contains no information about x0
            return problem.prior.predict(x, now.t), None, None
        with torch.enable_grad():
            x_t = x.detach().requires_grad_()
            if self.at == "x0hat":
                prediction = problem.prior.predict(x_t, now.t)
                energy = problem.energy(prediction.x0)
            else:
                with torch.no_grad():
                    prediction = problem.prior.predict(x, now.t)
                noisy = self.at == "noisy"
                energy = problem.noisy_energy(x_t, now.alpha_t, now.sigma_t) if noisy else problem.energy(x_t)
            (slope,) = torch.autograd.grad(energy.sum(), x_t)
        return prediction.detach(), energy.detach(), -slope

    def _guided(self, now: Step, free: Prediction, guidance: Tensor) -> tuple[Prediction, Tensor]:
        """The guided prediction, and the guidance that remains after the rule's `limit`."""
        if now.alpha_t == 0.0:
            return free, guidance
        x0 = free.x0 + (now.sigma_t**2 / now.alpha_t) * guidance
        eps, limited = free.eps - now.sigma_t * guidance, self.scale.limit(x0)
        if limited is x0:
            return Prediction(x0, eps), guidance
        eps = eps - (now.alpha_t / now.sigma_t) * (limited - x0)
        return Prediction(limited, eps), (free.eps - eps) / now.sigma_t

    def _euler_maruyama(self, problem: Problem, x: Tensor, now: Step, guided: Prediction, rng: NoiseSource) -> Tensor:
        schedule = problem.prior.schedule
        assert isinstance(schedule, VPSchedule)
        beta, dt = schedule.beta(now.t), now.t - now.s
        score = -guided.eps / now.sigma_t
        return x + beta * dt * (0.5 * x + score) + math.sqrt(beta * dt) * rng.normal(x)
