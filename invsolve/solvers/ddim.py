"""DDIM: sampling from the prior itself.

Song, Meng, Ermon 2021, arXiv 2010.02502; eta = 1 is ancestral sampling (Ho et al. 2020, arXiv 2006.11239).
"""

from __future__ import annotations

from dataclasses import dataclass

from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import Count, FirstTime, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import Start, ddim, limited

__all__ = ["DDIM"]


@dataclass(frozen=True)
class DDIM(PathSolver):
    """Sample from the prior by steps x_s = alpha_s x0 + c1 z + c2 eps; a cost, if there is one, is ignored.

    Args:
        n_steps: network calls.
        eta: 0 for deterministic sampling, 1 for ancestral sampling.
        t_start: time of the first call.
        start: "random", or "guided" to start from the noised first guess A^+ y.
        clamp: clamp x0 to the prior's value range, if it has one, and adjust eps to match.
        times: explicit decreasing times in place of n_steps and t_start; the last one need not be 0.
    """

    n_steps: Count = 50
    eta: Share = 0.0
    t_start: FirstTime = 1.0
    start: Start = "random"
    clamp: bool = True
    times: Times | None = None

    name = "ddim"
    cite = 'Song, Meng, Ermon 2020, "Denoising Diffusion Implicit Models", arXiv 2010.02502'
    needs = Needs(cost=False)
    differentiates = False
    noisy_end = True

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        prediction = problem.prior.predict(state.x, now.t)
        if self.clamp:
            prediction = limited(problem, now, prediction)
        x = ddim(now, self.eta, prediction.x0, prediction.eps, rng)
        return State(x, state.k + 1), Info(prediction.x0)
