"""MMPS: moment-matching posterior sampling, guidance with the denoiser's own covariance.

Rozet, Andry, Lanusse, Louppe 2024, arXiv 2405.13712.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError
from invsolve.core.linalg import per_sample, row_dot
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Step
from invsolve.core.settings import Count, FirstTime, Positive, Ratios, Share, Times
from invsolve.core.solver import Info, Needs, State
from invsolve.solvers.steps.linear_gaussian import Tangent, flat_variance, isotropic_variance, signal_path
from invsolve.solvers.steps.time_path import PathSolver
from invsolve.solvers.steps.updates import guided_ddim, multistep, start_state

__all__ = ["MMPS"]


@dataclass(frozen=True)
class MMPS(PathSolver):
    """Guide the estimate x0 with the covariance of the denoiser.

    The covariance is C = (sigma_t^2 / alpha_t) J^T with J = d x0 / d x_t (Cov[x0 | x_t], by Tweedie's formula):

        (A C A^T + sigma_y^2 I) v = y - A x0          by `n_inner` conjugate-gradient iterations from 0
        u = C A^T v
        x_s = DDIM step of the estimate x0 + u and its noise (x_t - alpha_t (x0 + u)) / sigma_t     (order 1)

    For a Gaussian prior this is the exact posterior score as soon as the number of iterations reaches the rank of A,
    and the samples converge to the posterior to first order in the number of steps. For other priors it is exact for
    the first two moments of p(x0 | x_t). With order 2 the step also uses the previous estimate (`multistep`): the
    number of network calls is the same, and the error falls with the square of the number of steps. The Jacobian of a
    network is only nearly symmetric; a sample stops iterating when the curvature is not positive. One forward pass and
    `n_inner` input gradients per step: u is accumulated during the iterations and needs no extra gradient.

    With `preconditioner="isotropic"` the iterations are preconditioned by the matrix that the system would have if the
    covariance of the denoiser were r_t^2 I, as PiGDM assumes:

        M = r_t^2 A A^T + sigma_y^2 I,    r_t^2 = tau^2 sigma_t^2 / (tau^2 alpha_t^2 + sigma_t^2).

    This costs one regularised solve with the operator and no network call. The first iteration then takes PiGDM's
    direction with the exact step length for the network's own covariance. With many iterations the result is the same
    as without preconditioner.

    Denoising needs no guidance. With `start="measurement"` the path begins at sigma_t / alpha_t = sigma_y with
    x_t = alpha_t y, which is a state of the forward process started at x0. All later states follow from it, so
    E[x0 | x_t, y] = E[x0 | x_t], and ancestral steps of the prior alone end in p(x0 | y) as their number grows (Xie et
    al. 2023, arXiv 2302.02398; Li et al. 2023, arXiv 2307.03992). One forward pass per step, no gradient; the samples
    of an image share the first call.

    Args:
        n_steps: diffusion steps, each with one forward pass.
        n_inner: conjugate-gradient iterations per step; published: 1 to 5.
        eta: DDIM's eta; 1 is ancestral sampling.
        preconditioner: "none" or "isotropic", see above.
        prior_std: tau, the standard deviation of clean pixels around their mean, in the prior's units.
        order: order of the step, 1 or 2; order 2 is deterministic and needs eta = 0.
        t_start: time of the first call.
        start: "random", or from a noised estimate: "guided" (A^+ y) or "smooth" (`Problem.smooth_estimate`); or
            "measurement" for denoising, see above.
        times: explicit times, decreasing to 0, in place of n_steps and t_start.
        noise_ratios: sigma_t / alpha_t of the first and the last call, in place of t_start and times. The ratio
            decreases by equal factors over n_steps calls. The setting means the same on every schedule. Required with
            `start="measurement"`, in units of sigma_y; the first ratio is then 1.
    """

    n_steps: Count = 100
    n_inner: Count = 3
    eta: Share = 1.0
    preconditioner: Literal["none", "isotropic"] = "none"
    prior_std: Positive = 0.5
    order: Literal[1, 2] = 1
    t_start: FirstTime = 1.0
    start: Literal["random", "guided", "smooth", "measurement"] = "random"
    times: Times | None = None
    noise_ratios: Ratios | None = None

    name = "mmps"
    cite = (
        'Rozet, Andry, Lanusse, Louppe 2024, "Learning Diffusion Priors from Observations by Expectation '
        'Maximization", arXiv 2405.13712'
    )
    needs = Needs(likelihood=True, linear=True)
    divides_by_alpha = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order == 2 and self.eta != 0.0:
            raise InputError(f"order 2 needs eta=0, got eta {self.eta}")
        if self.noise_ratios is not None and (len(self.noise_ratios) != 2 or self.times is not None):
            raise InputError(
                f"noise_ratios must be two values that replace times, got {self.noise_ratios} and times {self.times}"
            )
        if self.start == "measurement" and (self.noise_ratios is None or self.noise_ratios[0] != 1.0):
            raise InputError(f'start="measurement" needs noise_ratios >= 1, got {self.noise_ratios}')

    def path(self, problem: Problem) -> tuple[Step, ...]:
        if self.noise_ratios is None:
            return super().path(problem)
        schedule = problem.prior.schedule
        unit = _noise_of_image(problem) if self.start == "measurement" else 1.0
        first, last = (unit * ratio for ratio in self.noise_ratios)
        alpha, sigma = schedule(1.0)
        first = min(first, sigma / alpha) if alpha > 0 else first  # at most the largest noise of the schedule
        return signal_path(schedule, self.n_steps, 1.0, schedule.log_grid(self.n_steps, first, last))

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        first = self.path(problem)[0]
        if self.start != "measurement":
            return State(start_state(problem, n, rng, first, self.start))
        y = problem.linear_data.y.to(problem.empty(n))
        return State((first.alpha_t * y).expand(n, *problem.state_shape).clone())

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        steps = self.path(problem)
        now = steps[state.k]
        if self.start == "measurement":
            estimate = self._prior_alone(problem, state, now)
            info = Info(estimate)
        else:
            tangent = Tangent(problem.prior, state.x, now.t)
            shift, residual = self.shift(problem, tangent, now)
            estimate = tangent.x0 + shift
            info = Info(estimate, extra={"inner_residual": residual})
        if self.order == 1:
            return State(guided_ddim(now, self.eta, state.x, estimate, rng), state.k + 1), info
        before = None if state.k == 0 else (steps[state.k - 1], state.memory["x0"])
        return State(multistep(now, state.x, estimate, before), state.k + 1, memory={"x0": estimate}), info

    def _prior_alone(self, problem: Problem, state: State, step: Step) -> Tensor:
        """E[x0 | x_t]. All samples of an image have the same first state, so one call is enough for the first step."""
        shared = state.k == 0 and problem.prior.items is None and bool((state.x == state.x[:1]).all())
        estimate = problem.prior.predict(state.x[:1] if shared else state.x, step.t).x0
        return estimate.expand_as(state.x)

    def shift(self, problem: Problem, tangent: Tangent, step: Step) -> tuple[Tensor, Tensor]:
        """The shift u, [N, *shape], and its relative residual |r - (A C A^T + sigma_y^2 I) v| / |r|, [N]."""
        operator, y, sigma = problem.linear_data
        ratio = step.sigma_t**2 / step.alpha_t
        r = y - operator(tangent.x0)
        z = self._preconditioned(problem, r, step)
        p, rz = z, row_dot(r, z)
        u, first = torch.zeros_like(tangent.x0), rz
        scale = row_dot(r, r).clamp_min(torch.finfo(rz.dtype).tiny)
        done = torch.zeros_like(rz, dtype=torch.bool)
        for i in range(self.n_inner):
            c_p = ratio * tangent.pull(operator.adjoint(p), last=i == self.n_inner - 1)
            s_p = operator(c_p) + sigma**2 * p
            curvature = row_dot(p, s_p)
            done = done | (curvature <= 0) | (rz <= torch.finfo(rz.dtype).eps ** 2 * first)
            length = torch.where(done, 0.0, rz / torch.where(done, 1.0, curvature))
            u = u + per_sample(length, u) * c_p
            r = r - per_sample(length, r) * s_p
            if i == self.n_inner - 1:
                break
            z = self._preconditioned(problem, r, step)
            before, rz = rz, row_dot(r, z)
            p = z + per_sample(torch.where(done, 0.0, rz / torch.where(done, 1.0, before)), p) * p
        return u, (row_dot(r, r) / scale).sqrt()

    def _preconditioned(self, problem: Problem, r: Tensor, step: Step) -> Tensor:
        """r, or M^-1 r = (r - A (A^T A + (sigma_y / r_t)^2 I)^-1 A^T r) / sigma_y^2."""
        if self.preconditioner == "none":
            return r
        operator, noise = problem.linear_data.operator, flat_variance(problem)
        ridge = operator.ridge(r, noise / isotropic_variance(step, self.prior_std))
        return (r - operator(ridge)) / per_sample(noise, r)


def _noise_of_image(problem: Problem) -> float:
    """sigma_y in the prior's units, for a measurement that is the image plus noise.

    Raises:
        CapabilityError: the operator is not the identity, or the images of a batch have different noise levels.
    """
    if not problem.linear_data.operator.is_identity:
        raise CapabilityError('start="measurement" is for denoising: use start="smooth" or "random"')
    levels = set(torch.as_tensor(problem.linear_data.sigma).flatten().tolist())
    if len(levels) > 1:
        raise CapabilityError('start="measurement" takes images of one noise level: solve them one by one')
    return levels.pop()
