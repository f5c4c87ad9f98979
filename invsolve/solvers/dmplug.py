"""DMPlug: the seed of a short deterministic sampler, optimised.

Wang et al. 2024, arXiv 2405.16749. The official script keeps the iterate closest to the ground truth. The stopping
rules here do not use the ground truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step, path
from invsolve.core.settings import Count, Positive, Times
from invsolve.core.solver import Info, Needs, Solver, State
from invsolve.solvers.steps.gradients import AdamState, BlindUpdate, Parameters, adam, descend, keep, start_parameters
from invsolve.solvers.steps.updates import noise_floor

__all__ = ["DMPlug"]

Stop = Literal["none", "residual", "variance"]


@dataclass(frozen=True)
class DMPlug(Solver):
    """Optimise with Adam the seed z of R, a few DDIM steps with eta = 0, with gradients through all of them:

        J(z) = mean((A(R(z)) - y)^2),    R: p = clamp(x0(x_t)),  x_s = alpha_s p + sigma_s (x_t - alpha_t p) / sigma_t

    For costs other than Gaussian likelihoods J is Phi / (entries of x). A step of this solver is one iteration. It
    takes as many forward passes and input gradients as R has steps. The result is R(z) before the last update, a point
    estimate. It fits y more and more closely, including the noise, so a long run needs a stopping rule. The rule is
    applied to each sample separately, and no more calls are made when all samples have stopped.

    Args:
        n_iterations: iterations; published 5000 for linear operators, 10000 for non-linear and blind ones.
        lr: Adam's step size for z.
        times: decreasing times of the sampler, by default those of the indices 666, 333 and 0 of a table of 1000.
        stop: when a sample stops:
            "none"      after all iterations;
            "residual"  at the first |y - A(x)| <= tolerance sqrt(m) sigma (Gaussian likelihoods);
            "variance"  when the variance of the last `window` results has not decreased for `patience` iterations;
                        the result at the minimum is kept (Wang et al. 2023, arXiv 2112.06074). `window` results are
                        stored.
        tolerance: see "residual".
        window: see "variance".
        patience: see "variance".
        blind: how unknown operator parameters are updated, "joint" (published, with Unknown(lr=0.1)) or "alternating".
    """

    n_iterations: Count = 1000
    lr: Positive = 0.01
    times: Times = (0.667, 0.334, 0.001, 0.0)
    stop: Stop = "none"
    tolerance: Positive = 1.0
    window: Count = 10
    patience: Count = 100
    blind: BlindUpdate = "joint"

    name = "dmplug"
    cite = (
        'Wang, Zhang, Li, Wan, Chen, Sun 2024, "DMPlug: A Plug-in Method for Solving Inverse Problems with '
        'Diffusion Models", arXiv 2405.16749'
    )
    needs = Needs(blind=True)
    mode_seeking = True

    def path(self, problem: Problem) -> tuple[Step, ...]:
        return path(problem.prior.schedule, 1, 1.0, self.times)

    def steps(self, problem: Problem) -> int:
        return self.n_iterations

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        if self.stop == "residual":
            noise_floor(problem)
        first = self.path(problem)[0]
        z = (first.alpha_t**2 + first.sigma_t**2) ** 0.5 * rng.normal(problem.empty(n))
        theta = start_parameters(problem, n, rng, z)
        memory = {"z": z, "z.m": torch.zeros_like(z), "z.v": torch.zeros_like(z), **theta.memory}
        if self.stop != "none":
            memory["ended"] = torch.zeros(n, dtype=torch.bool, device=z.device)
        if self.stop == "variance":
            memory["window"] = z[:, None].repeat(1, self.window, *[1] * (z.ndim - 1))
            memory["least"] = torch.full((n,), torch.inf, dtype=z.dtype, device=z.device)
            memory["since"] = torch.zeros(n, dtype=torch.long, device=z.device)
        return State(z, theta=theta.raw, memory=memory)

    def sample(self, problem: Problem, z: Tensor) -> Tensor:
        """Compute R(z)."""
        x = z
        for now in self.path(problem):
            p = problem.prior.clamp(problem.prior.denoise(x, now.t))
            x = p if now.sigma_s == 0.0 else now.alpha_s * p + now.sigma_s / now.sigma_t * (x - now.alpha_t * p)
        return x

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        memory = dict(state.memory)
        ended = memory.get("ended")
        if ended is not None and bool(ended.all()):
            return State(state.x, state.k + 1, state.theta, memory), Info(state.x)
        with torch.enable_grad():
            z = memory["z"].detach().requires_grad_()
            x0 = self.sample(problem, z)
            answer = x0.detach()
            if self.stop == "residual":
                inside = problem.residual_sq(answer, state.theta) <= self.tolerance**2 * noise_floor(problem)
                memory["ended"] = memory["ended"] | inside
            scale = 1.0 / (problem.entries if problem.quadratic else z[0].numel())
            active = None if ended is None else ~memory["ended"]
            misfit, gradient, theta, _ = descend(
                problem, x0, z, Parameters.of(state), scale, blind=self.blind, active=active
            )
        before = AdamState(memory["z.m"], memory["z.v"], state.k)
        new, after = adam(memory["z"], gradient, before, self.lr)
        for key, value, old in (("z", new, memory["z"]), ("z.m", after.m, before.m), ("z.v", after.v, before.v)):
            memory[key] = keep(active, value, old)
        x = answer if ended is None else keep(~ended, answer, state.x)
        if self.stop == "variance":
            x = self._watch(memory, state, answer)
        return State(x, state.k + 1, theta.raw, {**memory, **theta.memory}), Info(x, misfit)

    def _watch(self, memory: dict[str, Tensor], state: State, answer: Tensor) -> Tensor:
        """Update the windowed variance; return the result at its minimum (the latest until the window is full)."""
        running = ~memory["ended"]
        window = torch.cat([memory["window"][:, 1:], answer[:, None]], 1)
        memory["window"] = keep(running, window, memory["window"])
        if state.k + 1 < self.window:
            return answer
        variance = memory["window"].var(1, correction=0).flatten(1).sum(1)
        fell = running & ~(variance >= memory["least"])
        memory["least"] = torch.where(fell, variance, memory["least"])
        memory["since"] = torch.where(fell, 0, memory["since"] + 1)
        memory["ended"] = memory["ended"] | (memory["since"] >= self.patience)
        return keep(fell, answer, state.x)
