"""SCG: stochastic control guidance, for costs without gradients.

Huang et al. 2024, arXiv 2402.14285.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import AtLeastZero, Count, FirstTime, Range, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.particles import RowNoise, choose, pick
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import Start, ddim, limited, start_state

__all__ = ["SCG"]


@dataclass(frozen=True)
class SCG(PathSolver):
    """Draw P candidates at each step and keep the one whose clean estimate has the lowest cost:

        x_s^i = alpha_s x0(x_t) + c1 z_i + c2 eps(x_t),    x_s = x_s^j,  j = argmin_i Phi(x0(x_s^i))

    At a temperature above 0, j is drawn with probability proportional to exp(-Phi / temperature), the path-integral
    form of the control. Phi is the energy in nats and need not be differentiable. The predictions for the kept
    candidate are reused by the next step: P forward passes per step, one more on the first step and none on the last,
    no gradients. The search is greedy, so the samples are not calibrated.

    Args:
        n_steps: diffusion steps.
        n_candidates: P; with 1 there is no guidance.
        temperature: in nats; 0 keeps the best candidate.
        eta: DDIM's eta, above 0: without noise all candidates are the same.
        t_start: time of the first step.
        start: "random" or "guided".
        clamp: clamp x0 to the prior's value range, if it has one.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
    """

    n_steps: Count = 100
    n_candidates: Count = 16
    temperature: AtLeastZero = 0.0
    eta: Annotated[float, Range(0, 1, above=True)] = 1.0
    t_start: FirstTime = 1.0
    start: Start = "random"
    clamp: bool = True
    times: Times | None = None

    name = "scg"
    cite = (
        'Huang, Ghatare, Liu, Hu, Zhang, Sastry, Gururani, Oore, Yue 2024, "Symbolic Music Generation with '
        'Non-Differentiable Rule Guided Diffusion", arXiv 2402.14285'
    )
    needs = Needs()
    differentiates = False

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        x = start_state(problem, n, rng, self.path(problem)[0], self.start)
        return State(x, memory={"x0": torch.zeros_like(x), "eps": torch.zeros_like(x)})

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        steps, prior, n, size = self.path(problem), problem.prior, len(state.x), self.n_candidates
        now = steps[state.k]
        if state.k == 0:
            first = prior.predict(state.x, now.t)
            first = limited(problem, now, first) if self.clamp else first
            x0, eps = first.x0, first.eps
        else:
            x0, eps = state.memory["x0"], state.memory["eps"]
        if now.sigma_s == 0.0:
            x = ddim(now, self.eta, x0, eps, rng)
            return State(x, state.k + 1, memory=state.memory), Info(x0)
        many = problem.repeated(n, size)
        wide = ddim(now, self.eta, x0.repeat_interleave(size, 0), eps.repeat_interleave(size, 0), RowNoise(rng, size))
        ahead = many.prior.predict(wide, now.s)
        ahead = limited(problem, steps[state.k + 1], ahead) if self.clamp else ahead
        energies = many.energy(ahead.x0).view(n, size)
        # a candidate that is not finite is chosen only if all are not finite
        energies = torch.where(energies.isnan(), torch.inf, energies)
        best = energies.argmin(1) if self.temperature == 0.0 else choose(-energies / self.temperature, rng)
        x, x0_s, eps_s = (pick(v.unflatten(0, (n, size)), best) for v in (wide, ahead.x0, ahead.eps))
        return State(x, state.k + 1, memory={"x0": x0_s, "eps": eps_s}), Info(x0_s, pick(energies, best))
