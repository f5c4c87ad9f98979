"""NDTM: trajectory matching with a control inside the network, optimised step by step.

Diffusion trajectory matching casts guidance as variational optimal control: the controls trade the terminal cost of the
expected final state against the distance to the unguided path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError
from invsolve.core.prior import Prediction
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import AtLeastZero, Count, CountFromZero, FirstTime, Positive, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.control import Optimizer, Trial, check_scaling, minimise, rule_for
from invsolve.solvers.steps.gradients import Affine, BlindUpdate, Parameters, start_parameters
from invsolve.solvers.steps.scales import ScaleRule
from invsolve.solvers.steps.time_path import ScaledPath
from invsolve.solvers.steps.updates import Start, ddim, ddim_coefficients, noise_floor, start_state

__all__ = ["NDTM"]

Weights = Literal["zero", "ddim", "ddpm", "exact"]
Control = Literal["network", "linear", "estimate"]


@dataclass(frozen=True)
class NDTM(ScaledPath):
    """At each step, Adam from u = 0 for `n_inner` updates on

        J(u) = w_s |eps(x_t) - eps(c)|^2 + w_c |c - x_t|^2 + w_T |y - A(p)|^2,    c = x_t + gamma u,  p = clamp(x0(c))
        x_s  = alpha_s p + c1 z + c2 eps(c)                                        (c1, c2 of DDIM)

    For costs other than Gaussian likelihoods w_T multiplies the energy. The first guided call, at u = 0, is also the
    unguided one, so a step costs n_inner + 1 forwards and n_inner input-gradients (the official code makes
    n_inner + 3 forwards and differentiates the weights as well). The results minimise a cost at every step: they are
    good images, not calibrated posterior samples.

    Args:
        n_steps: diffusion steps.
        n_inner: updates of the control at each (N); 0 samples without guidance.
        gamma: how strongly the control acts: a number, a tensor that broadcasts against a state (element-wise), or a
            function of the time t that returns either.
        aggregate: another way for the control to enter, c = aggregate(x_t, gamma u); the sum by default.
        eta: DDIM's noise.
        t_start: time of the first step.
        weight: w_T, of the terminal cost, in the prior's units.
        weights: of the transient costs. With a = alpha^2:
            "zero"  w_s = w_c = 0;
            "ddim"  w_s = (c2 - alpha_s sigma_t / alpha_t)^2, w_c = gamma^2 a_t / a_s (as in the official code);
            "ddpm"  w_s = beta^2 / ((1 - beta) sigma_t^2), w_c = gamma^2 / (1 - beta), beta = 1 - a_t / a_s;
            "exact" w_s as "ddim", w_c = a_s / a_t: the bound of the transition's divergence, gamma counted once.
        start: x_T, "guided" (alpha_T A^+ y + sigma_T z) or "random" (noise).
        control_start: u of a step's first update: "zero" or "causal" (the last step's; one more forward if w_s > 0).
        control: where the control acts.
            "network"   the network's input, as above;
            "linear"    the transition's mean, x_s = alpha_s p(x_t) + c2 eps(x_t) + gamma u + c1 z, judged at x0(c);
                        n_inner forwards. One gradient step of size lr is classifier guidance: a move of
                        -lr gamma^2 w_T grad_x Phi(x0(x_t));
            "estimate"  the clean estimate itself, p = clamp(x0(x_t) + gamma u): one forward, no gradient through the
                        network. With weights "zero" this is the limit in which RB-Modulation works (Rout et al. 2024,
                        arXiv 2405.17401).
        jacobian_below: steps whose noise-to-signal ratio sigma_t / alpha_t is above it take control "estimate",
            whatever `control` says: there the estimate hardly depends on the state, and the network's Jacobian is not
            worth its price. No such steps if None.
        optimizer: of the control: "adam" (published), "gradient" (plain steps), "lbfgs" (no line search; the first step
            is lr dJ/du), or "gauss-newton" (linear operators with Gaussian noise: u - lr H^-1 dJ/du by
            conjugate gradients, each iteration two more input-gradients; the denoiser's Jacobian is taken to be
            symmetric, as that of an exact one is).
        lr: its step size; 1 is Gauss-Newton's full step.
        lr_decay: "linear" (lr (1 - k / n) over the diffusion steps k) or "constant".
        n_cg: conjugate gradient iterations of "gauss-newton".
        stop: end a sample's updates once |y - A(p)| <= stop sqrt(m) sigma; never if None. It asks the device once an
            update whether all have ended.
        clamp: limit p to the prior's value range where it has one, eps(c) staying what it is (as published; not for
            guided priors, whose estimates overshoot it).
        times: a falling grid of one's own instead of n_steps and t_start.
        blind: unknown operator parameters make one Adam update an inner update, "joint" (published: from the same J at
            the same point) or "alternating".
        scale: a rule of `invsolve.solvers.steps.scales` for the length of the "gradient" optimizer's updates:
            u - lr lambda(|dJ/du|) dJ/du.
    """

    n_steps: Count = 50
    n_inner: CountFromZero = 5
    gamma: float | Tensor | Callable[[float], float | Tensor] = 1.0
    eta: Share = 0.7
    t_start: FirstTime = 1.0
    weight: AtLeastZero = 1.0
    weights: Weights = "zero"
    start: Start = "guided"
    control_start: Literal["zero", "causal"] = "zero"
    control: Control = "network"
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
    cite = "Diffusion trajectory matching, non-linear control (NDTM)"
    needs = Needs(blind=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scaling(self.scale, self.optimizer)
        if self.jacobian_below is not None and (self.optimizer == "gauss-newton" or self.control_start == "causal"):
            raise InputError("jacobian_below changes what the control is: no causal start, no gauss-newton")
        if self.optimizer == "gauss-newton" and (self.control != "network" or self.aggregate is not None):
            raise InputError("gauss-newton needs control='network' and no aggregate of one's own")

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        if self.optimizer == "gauss-newton":
            if problem.unknowns is not None:
                raise CapabilityError("gauss-newton needs a known operator: use optimizer='adam' or 'lbfgs'")
            _ = problem.linear_data  # an error unless linear and Gaussian
        if self.stop is not None:
            noise_floor(problem)
        x = start_state(problem, n, rng, self.path(problem)[0], self.start)
        theta = start_parameters(problem, n, rng, x)
        memory = {"u": torch.zeros_like(x)} if self.control_start == "causal" else {}
        memory |= {**self.scale_memory(x), **theta.memory}
        return State(x, theta=theta.raw, memory=memory)

    def transient_weights(self, step: Step) -> tuple[float, float, int]:
        """w_s of |eps(x) - eps(c)|^2, w_c of |c - x|^2 and the power of gamma that multiplies c - x."""
        ratio = (step.alpha_t / step.alpha_s) ** 2
        if self.weights == "zero":
            return 0.0, 0.0, 0
        if self.weights == "ddpm":
            beta = 1.0 - ratio
            return beta**2 / ((1.0 - beta) * step.sigma_t**2), 1.0 / (1.0 - beta), 1
        c2 = ddim_coefficients(step, self.eta)[1]
        w_s = (c2 - step.alpha_s * step.sigma_t / step.alpha_t) ** 2
        return (w_s, 1.0 / ratio, 0) if self.weights == "exact" else (w_s, ratio, 1)

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        path = self.path(problem)
        now = path[state.k]
        if self.jacobian_below is not None and now.sigma_t > self.jacobian_below * now.alpha_t:
            return replace(self, control="estimate", jacobian_below=None).step(problem, state, rng)
        rate = self.lr * (1.0 - state.k / len(path) if self.lr_decay == "linear" else 1.0)
        rule = rule_for(self.optimizer, rate, self.n_cg, self.scaling(problem, state))
        inner = _Inner(self, problem, state.x, now)
        out = minimise(
            problem,
            state.memory.get("u", torch.zeros_like(state.x)),
            inner.trial,
            rule,
            self.n_inner,
            self.weight,
            Parameters.of(state, self.n_inner),
            blind=self.blind,
            stop=self.stop,
        )
        if self.control == "network":
            last = out.carry if out.fresh else problem.prior.predict(inner.controlled(out.u), now.t)
            x0 = last.x0
        else:
            last = inner.free if inner.free is not None else problem.prior.predict(state.x, now.t)
            x0 = last.x0 + inner.gamma * out.u if self.control == "estimate" else last.x0
        x0 = self.clamped(problem, x0)
        x = ddim(now, self.eta, x0, last.eps, rng)
        if self.control == "linear":
            x = x + inner.gamma * out.u
        memory = {"u": out.u} if self.control_start == "causal" else {}
        theta = out.parameters
        info = Info(x0, out.misfit, {"control": out.u})
        return State(x, state.k + 1, theta.raw, {**memory, **rule.memory, **theta.memory}), info

    def clamped(self, problem: Problem, x0: Tensor) -> Tensor:
        return problem.prior.clamp(x0) if self.clamp else x0


class _Inner:
    """The control problem of one step."""

    def __init__(self, solver: NDTM, problem: Problem, x: Tensor, step: Step) -> None:
        self.solver, self.problem, self.x, self.now = solver, problem, x, step
        self.w_s, self.w_c, self.power = solver.transient_weights(step)
        gamma = solver.gamma(step.t) if callable(solver.gamma) else solver.gamma
        self.gamma = gamma.to(x) if isinstance(gamma, Tensor) else gamma
        self.free: Prediction | None = None  # the unguided prediction, once it is known
        # at u = 0 the guided call is the unguided one
        self._starts_free = solver.control_start == "zero" and solver.aggregate is None
        # gamma where c = x + gamma u with a number gamma
        self._scale = None if solver.aggregate is not None or isinstance(self.gamma, Tensor) else self.gamma

    def controlled(self, u: Tensor) -> Tensor:
        """c, the state under the control."""
        aggregate, gamma = self.solver.aggregate, self.gamma
        if aggregate is not None:
            return aggregate(self.x, gamma * u)
        return self.x + gamma * u if isinstance(gamma, Tensor) else torch.add(self.x, u, alpha=gamma)

    def trial(self, u: Tensor) -> Trial:
        solver, prior, t = self.solver, self.problem.prior, self.now.t
        needed = solver.control == "estimate" or (
            not self._starts_free and (self.w_s > 0 or solver.control == "linear")
        )
        if self.free is None and needed:
            with torch.no_grad():
                self.free = prior.predict(self.x, t)
        if solver.control == "estimate":
            assert self.free is not None
            terms, affine = self._moved(u, None)
            x0 = self.free.x0 + self.gamma * u
            return Trial(x0, terms, self.free, affine=affine, clamp=solver.clamp)
        c = self.controlled(u)
        prediction = prior.predict(c, t)
        detached, terms, affine = prediction.detach(), [], []
        if self.free is None:
            self.free = detached
        if self.free is not detached or not self._starts_free:  # at u = 0 nothing has moved yet
            terms, affine = self._moved(u, c)
            if self.w_s > 0 and solver.control == "network":
                if self._scale is not None and prediction.derived:
                    affine.append(self._noise(u, self._scale, detached.x0, self.free.x0))
                else:
                    terms.append((prediction.eps - self.free.eps, self.w_s))
        curvature = (lambda v: self._curvature(c, prediction.x0, v)) if solver.optimizer == "gauss-newton" else None
        return Trial(prediction.x0, terms, detached, curvature, affine, solver.clamp)

    def _moved(self, u: Tensor, c: Tensor | None) -> tuple[list[tuple[Tensor, float]], list[Affine]]:
        """w_c |gamma^power (c - x)|^2; without `c` (or with the sum as it is) c - x = gamma u."""
        if self.w_c == 0.0:
            return [], []
        if self._scale is None:
            moved = self.gamma * u if c is None else c - self.x
            return [(self.gamma * moved if self.power else moved, self.w_c)], []
        return [], [Affine(u.detach(), self.w_c * self._scale ** (2 + 2 * self.power), 0.0, 1.0)]

    def _noise(self, u: Tensor, gamma: float, x0: Tensor, free: Tensor) -> Affine:
        """w_s |eps(c) - eps(x)|^2, the difference being (gamma u - alpha (x0(c) - x0(x))) / sigma."""
        of_x0, of_u = -self.now.alpha_t / self.now.sigma_t, gamma / self.now.sigma_t
        return Affine(torch.add(of_u * u.detach(), x0 - free, alpha=of_x0), self.w_s, of_x0, of_u)

    def _curvature(self, c: Tensor, x0: Tensor, v: Tensor) -> Tensor:
        """2 gamma [w_T J A^T A J + w_s E^2 + w_c gamma^(2 power)] gamma v, J = dx0/dc, E = (1 - alpha J) / sigma."""
        alpha, sigma = self.now.alpha_t, self.now.sigma_t

        def jacobian(direction: Tensor) -> Tensor:
            return torch.autograd.grad(x0, c, direction, retain_graph=True)[0]

        w = self.gamma * v
        moved = jacobian(w)
        noise = self.w_s / sigma**2 * (w - alpha * moved)
        back = jacobian(self.solver.weight * self.problem.linear_data.operator.normal(moved) - alpha * noise)
        near = self.w_c * (self.gamma**2 * w if self.power else w)
        return 2.0 * self.gamma * (back + noise + near)
