"""DDNM and DDNM+: the range of the operator from the measurement, its null space from the prior.

Wang, Yu, Zhang 2023, arXiv 2212.00490.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from invsolve.core.checks import CapabilityError
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import Count, FirstTime, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.core.svd import SVDOperator
from invsolve.solvers.ddrm import spectral_step
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import Start

__all__ = ["DDNM"]


@dataclass(frozen=True)
class DDNM(PathSolver):
    """Correct the range-space part of the estimate; x0, eps is the prediction at x_t:

        DDNM   p = x0 + A^+ (y - A x0)
               x_s = alpha_s p + eta sigma_s z + sqrt(1 - eta^2) sigma_s eps              (does not use sigma_y)
        DDNM+  p = x0 + V diag(l) V^T A^+ (y - A x0), and noise reduced in each direction by the noise of y:
               l = 1 where s sigma_s / alpha_s >= sigma_y, else sqrt(1 - eta^2) s sigma_s / (alpha_s sigma_y)

    In singular coordinates a DDNM+ step is a `DDRM` step with eta_b = 1, and it is computed in this way; the two
    methods differ in their start. DDNM works with any linear operator, DDNM+ needs a singular value decomposition. One
    forward pass per step, no gradient. The samples are not calibrated, for the reasons given at `DDRM`; in addition,
    DDNM fits the noise of the measurement.

    Args:
        n_steps: network calls; published: 100.
        eta: fraction of new noise, in [0, 1]; published: 0.85.
        noisy: DDNM+ (True) or DDNM (False).
        t_start: time of the first call.
        start: "random" (published) or "guided" (from the noised A^+ y).
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
    """

    n_steps: Count = 100
    eta: Share = 0.85
    noisy: bool = True
    t_start: FirstTime = 1.0
    start: Start = "random"
    times: Times | None = None

    name = "ddnm"
    cite = (
        'Wang, Yu, Zhang 2022, "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model", '
        "arXiv 2212.00490"
    )
    needs = Needs(likelihood=True, linear=True)
    differentiates = False
    divides_by_alpha = True

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        operator = problem.linear_data.operator
        if self.noisy and not isinstance(operator, SVDOperator):
            raise CapabilityError(
                f"DDNM(noisy=True) needs an operator with a singular value decomposition, {type(operator).__name__} "
                "has none: use PiGDM or DiffPIR, or DDNM(noisy=False) for a measurement almost free of noise"
            )
        return super().init(problem, n, rng)

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = self.path(problem)[state.k]
        prediction = problem.prior.predict(state.x, now.t)
        if self.noisy:
            x = spectral_step(problem, now, self.eta, 1.0, prediction, rng)
            return State(x, state.k + 1), Info(prediction.x0)
        x0, eps = prediction.x0, prediction.eps
        operator, y, _ = problem.linear_data
        x0 = x0 + operator.pinv(y - operator(x0))
        if now.sigma_s == 0.0:
            return State(now.alpha_s * x0, state.k + 1), Info(x0)
        x = now.alpha_s * x0 + math.sqrt(1.0 - self.eta**2) * now.sigma_s * eps
        if self.eta > 0.0:
            x = x + self.eta * now.sigma_s * rng.normal(x)
        return State(x, state.k + 1), Info(x0)
