"""NDTM: trajectory matching with a control inside the network, optimised step by step.

Diffusion trajectory matching casts guidance as variational optimal control: the controls trade the terminal cost of the
expected final state against the distance to the unguided path.

Pandey, Sofian, Draxler, Karaletsos, Mandt 2025, "Variational Control for Guidance in Diffusion Models",
arXiv 2502.03686.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import DDPMSchedule, Schedule, Step
from invsolve.core.settings import AtLeastZero, Count, CountFromZero, FirstTime, Positive, Range, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.control import (
    Control,
    ControlledStep,
    ControlName,
    EstimateControl,
    NetworkControl,
    control_of,
)
from invsolve.solvers.steps.gradients import BlindUpdate, Parameters
from invsolve.solvers.steps.inner import Optimizer, check_scaling, minimise, rule_for
from invsolve.solvers.steps.linear_gaussian import signal_path
from invsolve.solvers.steps.scales import ScaleRule
from invsolve.solvers.steps.time_path import ScaledPath
from invsolve.solvers.steps.updates import Start, ddim, ddim_coefficients, noise_floor

__all__ = ["NDTM"]

TransientWeights = Literal["zero", "ones", "ddim", "ddpm", "exact"]
ControlStart = Literal["zero", "random", "causal", "causal-random"]


@dataclass(frozen=True)
class NDTM(ScaledPath):
    """At each step, find the control u by `n_inner` Adam updates from u = 0 on

        J(u) = w_s |eps(x_t) - eps(c)|^2 + w_c |c - x_t|^2 + w_T |y - A(p)|^2,    c = x_t + gamma u,  p = clamp(x0(c))
        x_s  = alpha_s p + c1 z + c2 eps(c)                                        (c1, c2 of DDIM)

    For costs other than Gaussian likelihoods w_T multiplies the energy. The first guided call, at u = 0, is also the
    unguided one, so a step takes n_inner + 1 forward passes and n_inner input gradients (the official code makes
    n_inner + 3 forward passes and also differentiates the weights). The results minimise a cost at every step: they are
    good images, not calibrated posterior samples.

    Args:
        n_steps: diffusion steps.
        n_inner: updates of the control at each step (N); with 0 there is no guidance.
        gamma: how strongly the control acts: a number, a tensor that broadcasts against a state (element-wise), or a
            function of the time t that returns either.
        aggregate: a function c = aggregate(x_t, gamma u) that replaces the sum x_t + gamma u.
        eta: DDIM's eta.
        t_start: time of the first step. If None: 1 for random starts and 0.4 for guided ones, as published, because at
            time 1 nothing of the guided start is left.
        weight: w_T, weight of the terminal cost, in the prior's units.
        weights: weights of the transient costs, one name for both or a pair (w_s, w_c). With a = alpha^2:
            "zero"  w_s = w_c = 0;
            "ones"  w_s = 1, w_c = gamma^2;
            "ddim"  w_s = (c2 - alpha_s sigma_t / alpha_t)^2, w_c = gamma^2 a_t / a_s (as in the official code);
            "ddpm"  w_s = beta^2 / ((1 - beta) sigma_t^2), w_c = gamma^2 / (1 - beta), with the table's own beta at t,
                    even if steps of the table are skipped (as in the official code), and the step's
                    beta = 1 - a_t / a_s on schedules without a table;
            "exact" w_s as "ddim", w_c = a_s / a_t: the bound of the transition's divergence; gamma counts once.
        start: x_T, "guided" (alpha_T x + sigma_T z, x the problem's `initial_estimate`: A^+ y if it is well
            conditioned) or "random" (noise).
        control_start: u at the first update of a step: "zero", "random" (standard normal, drawn at each step), "causal"
            (u of the previous step, zero at first) or "causal-random" (u of the previous step, random at first). All
            but "zero" need one more forward pass if w_s > 0.
        control: where the control acts, by name or as an object of `invsolve.solvers.steps.control`:
            "network"   the network's input, as above;
            "linear"    the transition's mean, x_s = alpha_s p(x_t) + c2 eps(x_t) + gamma u + c1 z, with the cost
                        taken at x0(c); n_inner forward passes. One gradient step of size lr is classifier guidance:
                        a move of -lr gamma^2 w_T grad_x Phi(x0(x_t));
            "estimate"  the clean estimate itself, p = clamp(x0(x_t) + gamma u): one forward pass, no gradient through
                        the network. With weights "zero" this is the limit in which RB-Modulation works (Rout et al.
                        2024, arXiv 2405.17401).
        jacobian_below: noise-to-signal ratio sigma_t / alpha_t above which steps use the control "estimate" instead of
            `control`. At high noise the estimate hardly depends on the state, so the gradient through the network is
            not worth its cost. None: every step uses `control`.
        optimizer: optimizer of the control: "adam" (published), "gradient" (plain steps), "lbfgs" (no line search; the
            first step is lr dJ/du), or "gauss-newton" (linear operators with Gaussian noise: u - lr H^-1 dJ/du by
            conjugate gradients, where each iteration needs two more input gradients; the denoiser's Jacobian is assumed
            to be symmetric, as it is for an exact denoiser).
        lr: step size of the optimizer; 1 is Gauss-Newton's full step.
        lr_decay: "linear" (lr (1 - k / n) over the diffusion steps k) or "constant".
        n_cg: conjugate gradient iterations of "gauss-newton".
        stop: stop updating a sample once |y - A(p)| <= stop sqrt(m) sigma (discrepancy principle); None: never stop.
            This needs one device synchronisation per update.
        clamp: clamp p to the prior's value range, if it has one, and leave eps(c) unchanged (as published; do not use
            it with guided priors, whose estimates overshoot the range).
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
        blind: unknown operator parameters get one Adam update per inner update: "joint" (published) uses the gradient
            of the same J at the same point, "alternating" updates them first.
        scale: a rule of `invsolve.solvers.steps.scales` for the length of the "gradient" optimizer's updates:
            u - lr lambda(|dJ/du|) dJ/du.
    """

    n_steps: Count = 50
    n_inner: CountFromZero = 5
    gamma: Annotated[float | Tensor | Callable[[float], float | Tensor], Range()] = 1.0
    eta: Share = 0.7
    t_start: FirstTime | None = None
    weight: AtLeastZero = 1.0
    weights: TransientWeights | tuple[TransientWeights, TransientWeights] = "zero"
    start: Start = "guided"
    control_start: ControlStart = "zero"
    control: ControlName | Control = "network"
    jacobian_below: AtLeastZero | None = None
    optimizer: Optimizer = "adam"
    lr: Positive = 0.01
    lr_decay: Literal["linear", "constant"] = "linear"
    clamp: bool = True
    times: Times | None = None
    aggregate: Callable[[Tensor, Tensor], Tensor] | None = None
    n_cg: Count = 8
    stop: Positive | None = None
    blind: BlindUpdate = "joint"
    scale: ScaleRule | None = None

    name = "ndtm"
    cite = (
        'Pandey, Sofian, Draxler, Karaletsos, Mandt 2025, "Variational Control for Guidance in Diffusion '
        'Models", arXiv 2502.03686'
    )
    needs = Needs(blind=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scaling(self.scale, self.optimizer)
        if self.jacobian_below is not None and (self.optimizer == "gauss-newton" or self._causal):
            raise InputError(
                "jacobian_below changes the control: it cannot be combined with a causal start or with gauss-newton"
            )
        network = isinstance(control_of(self.control), NetworkControl)
        if self.optimizer == "gauss-newton" and (not network or self.aggregate is not None):
            raise InputError("gauss-newton needs control='network' and no aggregate")

    @property
    def _divides_by_alpha(self) -> bool:
        return self._weightings != ("zero", "zero")

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        if self.optimizer == "gauss-newton":
            if problem.unknowns is not None:
                raise CapabilityError("gauss-newton needs a known operator: use optimizer='adam' or 'lbfgs'")
            _ = problem.linear_data  # raises an error unless the problem is linear and Gaussian
        if self.stop is not None:
            noise_floor(problem)
        state = super().init(problem, n, rng)
        if not self._causal:
            return state
        u = torch.zeros_like(state.x) if self.control_start == "causal" else rng.normal(state.x)
        return replace(state, memory={**state.memory, "u": u})

    def path(self, problem: Problem) -> tuple[Step, ...]:
        """The steps of the path. With transient weights, which divide by alpha_t, it does not start at pure noise."""
        steps = super().path(problem)
        if self._weightings == ("zero", "zero"):
            return steps
        times = (steps[0].t, *(step.s for step in steps))
        return signal_path(problem.prior.schedule, len(steps), times[0], times)

    @property
    def _causal(self) -> bool:
        return self.control_start in ("causal", "causal-random")

    def _first_control(self, state: State, rng: NoiseSource) -> Tensor:
        if self._causal:
            return state.memory["u"]
        return rng.normal(state.x) if self.control_start == "random" else torch.zeros_like(state.x)

    def transient_weights(self, schedule: Schedule, step: Step) -> tuple[float, float, int]:
        """The weights w_s of |eps(x) - eps(c)|^2 and w_c of |c - x|^2, and the power of gamma that multiplies c - x."""
        of_score, of_control = self._weightings
        return _score_weight(of_score, schedule, step, self.eta), *_control_weight(of_control, schedule, step)

    @property
    def _weightings(self) -> tuple[TransientWeights, TransientWeights]:
        return (self.weights, self.weights) if isinstance(self.weights, str) else self.weights

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        path = self.path(problem)
        now = path[state.k]
        noisy = self.jacobian_below is not None and now.sigma_t > self.jacobian_below * now.alpha_t
        control = EstimateControl() if noisy else control_of(self.control)
        rate = self.lr * (1.0 - state.k / len(path) if self.lr_decay == "linear" else 1.0)
        rule = rule_for(self.optimizer, rate, self.n_cg, self.scaling(problem, state))
        at = self._controlled(problem, state.x, now)
        out = minimise(
            problem,
            self._first_control(state, rng),
            lambda u: control.trial(at, u),
            rule,
            self.n_inner,
            self.weight,
            Parameters.of(state, self.n_inner),
            clamp=self.clamp,
            blind=self.blind,
            stop=self.stop,
        )
        made = control.transition(at, out)
        x0 = problem.prior.clamp(made.x0) if self.clamp else made.x0
        x = ddim(now, self.eta, x0, made.eps, rng)
        x = x if made.shift is None else x + made.shift
        memory = {"u": out.u} if self._causal else {}
        theta = out.parameters
        info = Info(x0, out.misfit, {"control": out.u})
        return State(x, state.k + 1, theta.raw, {**memory, **rule.memory, **theta.memory}), info

    def _controlled(self, problem: Problem, x: Tensor, step: Step) -> ControlledStep:
        gamma = self.gamma(step.t) if callable(self.gamma) else self.gamma
        return ControlledStep(
            problem,
            x,
            step,
            gamma=gamma.to(x) if isinstance(gamma, Tensor) else gamma,
            aggregate=self.aggregate,
            weight=self.weight,
            weights=self.transient_weights(problem.prior.schedule, step),
            starts_unguided=self.control_start == "zero" and self.aggregate is None,
        )


def _score_weight(name: TransientWeights, schedule: Schedule, step: Step, eta: float) -> float:
    """The weight w_s."""
    if name == "zero":
        return 0.0
    if name == "ones":
        return 1.0
    if name == "ddpm":
        beta = _beta(schedule, step)
        return beta**2 / ((1.0 - beta) * step.sigma_t**2)
    c2 = ddim_coefficients(step, eta)[1]
    return (c2 - step.alpha_s * step.sigma_t / step.alpha_t) ** 2


def _control_weight(name: TransientWeights, schedule: Schedule, step: Step) -> tuple[float, int]:
    """The weight w_c and the power of gamma."""
    if name == "zero":
        return 0.0, 0
    if name == "ones":
        return 1.0, 1
    if name == "ddpm":
        return 1.0 / (1.0 - _beta(schedule, step)), 1
    ratio = (step.alpha_t / step.alpha_s) ** 2
    return (1.0 / ratio, 0) if name == "exact" else (ratio, 1)


def _beta(schedule: Schedule, step: Step) -> float:
    """The table's beta at t, or 1 - (alpha_t / alpha_s)^2 if the schedule has no table."""
    if isinstance(schedule, DDPMSchedule):
        return schedule.betas[schedule.index(step.t)]
    return 1.0 - (step.alpha_t / step.alpha_s) ** 2
