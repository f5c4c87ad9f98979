"""C-PiGDM: pseudo-inverse guidance by a conjugate integrator, few steps of the guided probability-flow equation.

Pandey, Yang, Mandt 2024, "Fast samplers for inverse problems in iterative refinement models", arXiv 2405.17673.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.linalg import conjugate_gradient, per_sample
from invsolve.core.operator import LinearOperator
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import DDPMSchedule, Schedule
from invsolve.core.settings import AtLeastZero, Count, FirstTime, Range
from invsolve.core.solver import Info, Needs, Solver, State
from invsolve.core.svd import SVDOperator
from invsolve.solvers.steps.conjugate_integrator import Interval, intervals
from invsolve.solvers.steps.linear_gaussian import flat_variance
from invsolve.solvers.steps.updates import Start

__all__ = ["CPiGDM"]


@dataclass(frozen=True)
class CPiGDM(Solver):
    """Pseudo-inverse guidance on the VP equation with beta(t) = 0.1 + 19.9 t, by a conjugate integrator.

    With B = 0.1 t + 9.95 t^2, mu = exp(-B / 2), sd^2 = 1 - exp(-B), P = A^+ A, Q = A^+ (A^+)^T, p = (x - sd eps) / mu,
    v = A^+ y - P p and g = d <v, eps> / d x, it integrates

        dx / dt = -beta x / 2 + beta eps / (2 sd) - w beta mu (v - sd g) / 2

    backwards in time, in the coordinates M x = exp(k1) (x + (exp(k2) - 1) P x) with k1 = lam t + B / 2 and k2 = -w B /
    2. In these coordinates the linear part vanishes except for the term in lam. eps and g are kept constant over a
    step, and their coefficients are integrated in float64 (`invsolve.solvers.steps.conjugate_integrator.intervals`).
    The noisy form adds k3 Q x to M x, with k3 = w (exp(k1 + k2) - 1) sigma_y^2 log(e^B - 1 + 1e-6) / 2, and the
    resulting terms to the step. It inverts M to first order in k3. One forward pass and one input gradient per step.

    The form "pigdm" is continuous PiGDM with an exponential integrator, with which the paper compares the conjugate
    one. Its coordinates exp(k1) x come from the prior's equation alone, and the guidance w beta d <v, p> / d x / 2 is
    added at the beginning of the step.

    For any lam, the solution converges to that of the equation above, to first order in the number of steps. This is
    PiGDM's equation with the weight w mu^2 in place of 1 / r^2. It is not the equation of the posterior, so the samples
    are not calibrated at any number of steps. The noisy form is that of the official code. It is first order in
    w sigma_y^2 / s^2: it needs singular values s well above sigma_y and keeps only part of the terms of that order. The
    state ends at `t_end` and still contains noise of standard deviation sd(t_end), about 0.01.

    Args:
        n_steps: network calls; published: 20.
        lam, w: see above; published for super-resolution: -0.4 and 4.
        t_start, t_end: start and end time on the VP equation, where 1 is noise; published: 0.4 and 0.001.
        form: "noiseless" (does not use sigma_y), "noisy", or "pigdm" (does not use sigma_y).
        start: "guided" mu A^+ y + sd z, or "random" z, as in the official code's noisy and PiGDM forms for inpainting.
        times: how a time of the equation is converted to a time of the prior's schedule: "ratio" (equal sigma / alpha,
            the state scaled to match; works with any schedule) or "index" (entry int((N - 1) t) of a DDPM table, as in
            the official code).
    """

    n_steps: Count = 20
    lam: float = -0.4
    w: AtLeastZero = 4.0
    t_start: FirstTime = 0.4
    t_end: Annotated[float, Range(0, 1, below=True)] = 1e-3
    form: Literal["noiseless", "noisy", "pigdm"] = "noiseless"
    start: Start = "guided"
    times: Literal["ratio", "index"] = "ratio"

    name = "c-pigdm"
    cite = (
        'Pandey, Yang, Mandt 2024, "Fast Samplers for Inverse Problems in Iterative Refinement Models", '
        "arXiv 2405.17673"
    )
    needs = Needs(likelihood=True, linear=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.t_end >= self.t_start:
            raise InputError(f"t_end must lie below t_start, got {self.t_end} and {self.t_start}")

    def path(self) -> tuple[Interval, ...]:
        """The coefficients of each step."""
        return intervals(self.n_steps, self.lam, self.w, self.t_start, self.t_end)

    def steps(self, problem: Problem) -> int:
        if self.times == "index" and not isinstance(problem.prior.schedule, DDPMSchedule):
            raise InputError(f"times='index' needs a DDPM table, the prior has {problem.prior.schedule!r}: use 'ratio'")
        return self.n_steps

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        empty, first = problem.empty(n), self.path()[0]
        operator, y, _ = problem.linear_data
        data = operator.pinv(y).to(empty).expand_as(empty)
        noise = rng.normal(empty)
        x = noise if self.start == "random" else first.mu * data + first.sd * noise
        memory = {"data": data}
        if self.form == "noisy":
            operator, k3 = problem.linear_data.operator, per_sample(first.k3_t * _row_variance(problem, n), x)
            z = x + k3 * _gram_inverse(operator, x)
            x = z - k3 * _gram_inverse(operator, z)  # equal to first order; the official code starts from this
            memory |= {"data_q": _gram_inverse(operator, data), "z": z}
        return State(x, memory=memory)

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now, operator, data = self.path()[state.k], problem.linear_data.operator, state.memory["data"]
        t, scale = _prior_time(problem.prior.schedule, now.t, now.sd / now.mu, self.times)
        with torch.enable_grad():
            x_t = state.x.detach().requires_grad_()
            attached = problem.prior.predict(scale / now.mu * x_t, t).eps
            if self.form == "pigdm":
                return self._pigdm(problem, state, now, x_t, attached)
            eps = attached.detach()
            p = (state.x - now.sd * eps) / now.mu
            v = data - operator.pinv(operator(p))
            (g,) = torch.autograd.grad(attached, x_t, v)
        free = state.memory.get("z", state.x)
        drive = now.eps * eps + now.g * g
        inside = now.x_p * free + now.y * data + now.eps_p * eps + now.g_p * g
        outside = now.x * free + drive
        z = outside + operator.pinv(operator(inside - outside))
        if self.form == "noiseless":
            return State(z, state.k + 1, memory=state.memory), Info(p)
        variance = per_sample(_row_variance(problem, len(z)), z)
        z = z + variance * (now.y_q * state.memory["data_q"] + _gram_inverse(operator, now.eps_q * eps + now.g_q * g))
        x = z - variance * now.k3_s * _gram_inverse(operator, z)
        return State(x, state.k + 1, memory={**state.memory, "z": z}), Info(p)

    def _pigdm(
        self, problem: Problem, state: State, now: Interval, x_t: Tensor, attached: Tensor
    ) -> tuple[State, Info]:
        operator = problem.linear_data.operator
        p = (x_t - now.sd * attached) / now.mu
        v = state.memory["data"] - operator.pinv(operator(p.detach()))
        (pull,) = torch.autograd.grad(p, x_t, v)
        x = now.x * state.x + now.eps * attached.detach() + now.guidance * pull
        return State(x, state.k + 1, memory=state.memory), Info(p.detach())


def _row_variance(problem: Problem, n: int) -> Tensor:
    """The noise variance sigma_y^2 of each row, [n]."""
    return torch.as_tensor(flat_variance(problem), dtype=problem.prior.dtype, device=problem.prior.device).expand(n)


def _gram_inverse(operator: LinearOperator, x: Tensor) -> Tensor:
    """Q x = A^+ (A^+)^T x = (A^T A)^+ x."""
    if not isinstance(operator, SVDOperator):
        return conjugate_gradient(operator.normal, operator.pinv(operator(x))).x
    s = operator.spectrum(x)
    keep = s > operator.cutoff * s.amax(-1, keepdim=True)
    return operator.V(torch.where(keep, torch.where(keep, s, 1.0) ** -2, 0.0) * operator.Vt(x))


class _Clock(NamedTuple):
    t: float
    alpha: float


@lru_cache(maxsize=512)
def _prior_time(schedule: Schedule, t: float, ratio: float, mode: str) -> _Clock:
    """The prior's time that corresponds to time t of the equation, and the alpha by which the state is scaled."""
    if mode == "index":
        assert isinstance(schedule, DDPMSchedule)
        n = schedule.n_times
        return _Clock((int((n - 1) * t + 1e-9) + 1) / n, (1.0 + ratio**2) ** -0.5)
    prior_t = schedule.time_of(ratio)
    return _Clock(prior_t, schedule(prior_t)[0])
