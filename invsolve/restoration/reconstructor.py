"""Use any solver as a deepinv (>= 0.5) Reconstructor: `model(y, physics)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from invsolve import costs
from invsolve.core.checks import CapabilityError, require
from invsolve.core.cost import TerminalCost
from invsolve.core.driver import solve
from invsolve.core.operator import Operator
from invsolve.core.prior import Prior
from invsolve.core.problem import Problem
from invsolve.core.solver import Solver
from invsolve.operators.adapt import as_operator

__all__ = ["as_reconstructor"]

MakeCost = Callable[[Operator, Tensor], TerminalCost]


def as_reconstructor(
    solver: Solver, prior: Prior, *, samples: int = 1, seed: int = 0, cost: MakeCost | None = None
) -> Any:
    """Return a deepinv Reconstructor: `model(y, physics)` -> images [B, C, H, W] in [0, 1].

    An image is the mean of `samples` results. The physics defines the forward operator; its noise model (Gaussian,
    Poisson, Poisson-Gaussian, Laplace or Gamma) defines the likelihood. The same call returns the same images.
    Gradients do not pass through a restoration.

    Args:
        solver: the method.
        prior: the prior.
        samples: number of results to average; 1 gives a posterior sample, or the estimate of a mode-seeking solver.
        seed: seed of the solver's noise.
        cost: function (operator, y) -> cost, used instead of the noise model's likelihood.

    Raises:
        InputError: deepinv is not installed.
        CapabilityError: when the model is called: the noise model of the physics is unknown.
    """
    require("deepinv", "as_reconstructor")
    from deepinv.models import Reconstructor

    class SolverReconstructor(Reconstructor):
        def forward(self, y: Tensor, physics: Any, **_: Any) -> Tensor:
            shape = getattr(physics, "img_size", None) or prior.shape or tuple(physics.A_adjoint(y).shape[1:])
            operator = as_operator(physics, in_shape=tuple(shape))
            made = _likelihood(physics.noise_model, operator, y) if cost is None else cost(operator, y)
            result = solve(Problem(prior, made), solver, samples=samples, seed=seed)
            return result.samples.mean(1).to(y.device)

    return SolverReconstructor()


def _likelihood(noise: Any, operator: Operator, y: Tensor) -> TerminalCost:
    """The likelihood of a deepinv noise model."""
    from deepinv import physics

    if isinstance(noise, physics.GaussianNoise):
        return costs.GaussianLikelihood(operator, y, _level(noise.sigma))
    if isinstance(noise, physics.PoissonNoise):
        gain = _number(noise.gain)
        return costs.PoissonLikelihood(operator, y if noise.normalize else gain * y, 1 / gain)
    if isinstance(noise, physics.PoissonGaussianNoise):
        return costs.PoissonGaussianLikelihood(operator, y, 1 / _number(noise.gain), _number(noise.sigma))
    if isinstance(noise, physics.LaplaceNoise):
        return costs.LaplaceLikelihood(operator, y, _level(noise.b))
    if isinstance(noise, physics.GammaNoise):
        return costs.SpeckleLikelihood(operator, y, _number(noise.l))
    raise CapabilityError(
        f"there is no likelihood for the noise model {type(noise).__name__}: give the physics a noise model with a "
        "noise level, such as GaussianNoise(0.01), or as_reconstructor(..., cost=lambda operator, y: ...)"
    )


def _level(value: Any) -> float | Tensor:
    """A number, or one number for each item of the batch."""
    tensor = torch.as_tensor(value).detach().flatten()
    return tensor.item() if len(tensor) == 1 else tensor


def _number(value: Any) -> float:
    level = _level(value)
    if isinstance(level, Tensor):
        raise CapabilityError("this noise takes one level for all items: restore them one by one")
    return level
