"""NDTM as in its authors' code: N + 3 network calls per step, with gradients of the weights as well."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from invsolve.core.operator import LinearOperator
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import DDPMSchedule, path
from invsolve.solvers.ndtm import NDTM
from invsolve.solvers.steps.updates import ddim_coefficients

__all__ = ["published_ndtm"]


def published_ndtm(
    module: nn.Module, operator: LinearOperator, y: Tensor, solver: NDTM, rng: NoiseSource, stop_after: int
) -> Tensor:
    """x_0 of the first `stop_after` steps on the DDPM table, `y` in [-1, 1] units; see `solvers.NDTM` for the terms.

    A step evaluates the network at x_t, once more at x_t (the code repeats a line), at each of the N controls and at
    the last one. `backward` reaches the weights, which require gradients. The calls at x_t are made without a graph.
    """
    schedule = DDPMSchedule()
    steps = path(schedule, solver.n_steps, solver.t_start)
    module.requires_grad_(True)

    def eps(x: Tensor, t: float) -> Tensor:
        return module(x, torch.full((len(x),), schedule.index(t)))[:, : x.shape[1]]

    first = steps[0]
    x = first.alpha_t * operator.pinv(y) + first.sigma_t * rng.normal(y.new_empty(len(y), *operator.in_shape))
    for k, now in enumerate(steps[:stop_after]):
        w_s, w_c, power = solver.transient_weights(schedule, now)
        gamma = float(solver.gamma)  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            free = eps(x, now.t)
            free = eps(x, now.t)
        u = torch.zeros_like(x).requires_grad_()
        adam = torch.optim.Adam([u], lr=solver.lr * (1 - k / len(steps)))
        for _ in range(solver.n_inner):
            adam.zero_grad()
            c = x + gamma * u
            e = eps(c, now.t)
            p = ((c - now.sigma_t * e) / now.alpha_t).clamp(-1, 1)
            cost = w_s * (free - e).square().sum() + w_c * (gamma**power * (c - x)).square().sum()
            cost = cost + solver.weight * (y - operator(p)).square().sum()
            cost.backward()
            adam.step()
        with torch.no_grad():
            c = x + gamma * u
            e = eps(c, now.t)
            p = ((c - now.sigma_t * e) / now.alpha_t).clamp(-1, 1)
            c1, c2 = ddim_coefficients(now, solver.eta)
            x = now.alpha_s * p + c2 * e
            if c1 > 0:
                x = x + c1 * rng.normal(x)
    module.zero_grad(set_to_none=True)
    module.requires_grad_(False)
    return x
