"""Descent of a solver's cost: gradients of the misfit, Adam, and the unknown operator parameters of blind problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from invsolve.core.linalg import column, row_norm
from invsolve.core.operator import EMPTY, LinearOperator, Params
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.solver import State

__all__ = [
    "AdamState",
    "BlindUpdate",
    "Descent",
    "Parameters",
    "Terms",
    "adam",
    "descend",
    "energy_gradient",
    "keep",
    "start_parameters",
]

BlindUpdate = Literal["joint", "alternating"]


Terms = Sequence[tuple[Tensor, float]]
"""Pairs (d, w) of a cost sum w |d|^2 for each sample, with d [N, ...]."""


class AdamState(NamedTuple):
    """First and second moments, and the number of updates made."""

    m: Tensor
    v: Tensor
    updates: int


def adam(
    value: Tensor, grad: Tensor, state: AdamState | None, lr: float, betas: tuple[float, float] = (0.9, 0.999)
) -> tuple[Tensor, AdamState]:
    """One update of Adam (Kingma and Ba 2015, arXiv 1412.6980), for each entry and therefore each sample separately."""
    if state is None:
        m, v, updates = (1 - betas[0]) * grad, grad.square().mul_(1 - betas[1]), 1
    else:
        m = torch.lerp(state.m, grad, 1 - betas[0])
        v = (betas[1] * state.v).addcmul_(grad, grad, value=1 - betas[1])
        updates = state.updates + 1
    bias = math.sqrt(1 - betas[1] ** updates)  # bias correction of sqrt(v), on one number instead of every entry
    root = v.clamp_min(torch.finfo(v.dtype).tiny).sqrt_().add_(1e-8 * bias)  # sqrt(0) is slow on CPUs
    return torch.addcdiv(value, m, root, value=-lr * bias / (1 - betas[0] ** updates)), AdamState(m, v, updates)


class Parameters(NamedTuple):
    """The unknown operator parameters of a blind problem during a run; empty for other problems.

    Attributes:
        raw: unconstrained values [N, ...] by name.
        memory: Adam's moments, "<name>.m" and "<name>.v".
        updates: number of updates so far.
    """

    raw: Params
    memory: Mapping[str, Tensor]
    updates: int = 0

    @classmethod
    def of(cls, state: State, updates_per_step: int = 1) -> Parameters:
        """The parameters of a state in which every step so far made `updates_per_step` updates."""
        keys = [f"{name}.{moment}" for name in state.theta for moment in "mv"]
        return cls(state.theta, {key: state.memory[key] for key in keys}, state.k * updates_per_step)


def start_parameters(problem: Problem, n: int, rng: NoiseSource, like: Tensor) -> Parameters:
    """Initial values (drawn if they are random) and zero moments."""
    if problem.unknowns is None:
        return Parameters(EMPTY, {})
    raw = problem.unknowns.init(n, rng, like)
    return Parameters(
        raw, {f"{name}.{moment}": torch.zeros_like(value) for name, value in raw.items() for moment in "mv"}
    )


def energy_gradient(problem: Problem, x0: Tensor) -> Tensor:
    """Compute grad Phi(x0), [N, ...]: by the formula for linear Gaussian problems, by autograd for others."""
    data = problem.plain_data
    if data is not None and type(data.operator).adjoint is not LinearOperator.adjoint:
        residual = (data.operator(x0) - data.y) / data.sigma**2
        return data.operator.adjoint(residual)
    with torch.enable_grad():
        free = x0.detach().requires_grad_()
        (slope,) = torch.autograd.grad(problem.energy(free).sum(), free)
    return slope


class Descent(NamedTuple):
    """The misfit [N], dJ/dwrt, the updated unknown parameters, and the estimate used in the misfit (no graph)."""

    misfit: Tensor
    gradient: Tensor
    parameters: Parameters
    x0: Tensor


def descend(
    problem: Problem,
    x0: Tensor,
    wrt: Tensor,
    parameters: Parameters,
    weight: float = 1.0,
    transient: Terms = (),
    *,
    clamp: bool = False,
    blind: BlindUpdate = "joint",
    active: Tensor | None = None,
    retain: bool = False,
) -> Descent:
    """Compute dJ/dwrt of J = weight misfit(x0, theta) + sum_i w_i |d_i|^2, and make one Adam update of theta on J.

    "joint" takes both gradients at the same point; "alternating" updates theta at the fixed estimate first and takes
    the other gradient at the new theta. Both need the same number of network calls. Linear Gaussian misfits are
    differentiated by their formula, -2 A^T (y - A x0), everything else by autograd.

    Args:
        problem: the problem.
        x0: the clean estimate, connected to `wrt`.
        wrt: the tensor that the solver updates.
        parameters: theta; empty if the problem is not blind.
        weight: weight of the misfit.
        transient: pairs (d_i, w_i), with d_i [N, ...] connected to `wrt`.
        clamp: take the misfit at the estimate clamped to the prior's value range.
        blind: see above.
        active: rows [N] whose theta is updated; all if not given.
        retain: keep the graph for further products with the Jacobian.
    """
    ends = [d for d, _ in transient]
    pulls: list[Tensor | None] = [2.0 * w * d.detach() for d, w in transient]
    data, prior = problem.plain_data, problem.prior
    if data is not None and type(data.operator).adjoint is not LinearOperator.adjoint:
        free = x0.detach()
        p = prior.clamp(free) if clamp else free
        residual = data.y - data.operator(p)
        misfit = row_norm(residual).square()
        slope = data.operator.adjoint(residual.mul_(-2.0 * weight))
        if clamp and prior.bounded:
            slope = torch.ops.aten.hardtanh_backward(slope, free, *prior.value_range)
        gradient = slope
        if x0 is not wrt or ends:
            (gradient,) = torch.autograd.grad([x0, *ends], [wrt], [slope, *pulls], retain_graph=retain)
        return Descent(misfit, gradient, parameters, p)
    p = prior.clamp(x0) if clamp else x0
    if problem.unknowns is not None and blind == "alternating":
        raw = _leaves(parameters.raw)
        value = weight * problem.misfit(p.detach(), raw).sum()
        slopes = torch.autograd.grad(value, list(raw.values()))
        parameters = _moved(problem, parameters, slopes, active)
    raw = _leaves(parameters.raw) if blind == "joint" else dict(parameters.raw)
    misfit = problem.misfit(p, raw)
    leaves = list(raw.values()) if blind == "joint" else []
    value = weight * misfit.sum()
    gradient, *slopes = torch.autograd.grad([value, *ends], [wrt, *leaves], [None, *pulls], retain_graph=retain)
    if slopes:
        parameters = _moved(problem, parameters, slopes, active)
    return Descent(misfit.detach(), gradient, parameters, p.detach())


def _leaves(raw: Params) -> dict[str, Tensor]:
    return {name: value.detach().requires_grad_() for name, value in raw.items()}


def _moved(problem: Problem, parameters: Parameters, slopes: Sequence[Tensor], active: Tensor | None) -> Parameters:
    """One Adam update; rows that are not active keep their values and moments."""
    assert problem.unknowns is not None
    raw, memory = {}, {}
    for (name, old), slope in zip(parameters.raw.items(), slopes, strict=True):
        before = AdamState(parameters.memory[f"{name}.m"], parameters.memory[f"{name}.v"], parameters.updates)
        new, after = adam(old, slope, before, problem.unknowns.blocks[name].lr)
        raw[name] = keep(active, new, old)
        memory |= {f"{name}.m": keep(active, after.m, before.m), f"{name}.v": keep(active, after.v, before.v)}
    return Parameters(raw, memory, parameters.updates + 1)


def keep(active: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """`new` in the rows that are active [N], `old` in the others."""
    return new if active is None else torch.where(column(active, new), new, old)
