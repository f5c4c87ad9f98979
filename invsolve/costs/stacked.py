"""Combine several measurements of one image into one."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError
from invsolve.core.compose import Stack, scale
from invsolve.core.cost import Likelihood
from invsolve.core.operator import LinearOperator, Operator
from invsolve.costs.gaussian import GaussianLikelihood

__all__ = ["stacked_likelihood"]


def stacked_likelihood(*likelihoods: Likelihood) -> GaussianLikelihood:
    """Combine Gaussian likelihoods of one image into one, which solvers for linear-Gaussian problems accept.

        y_i = A_i x + sigma_i n   for all i   ==   [s y_i / sigma_i] = [s A_i / sigma_i] x + s n,   s = sigma_1

    Up to a constant, its energy is the sum of theirs. `+` does the same for solvers that need only a cost.

    Args:
        likelihoods: Gaussian likelihoods of linear operators with one `in_shape`; noise levels are numbers.

    Raises:
        CapabilityError: one is not Gaussian and linear, or has a noise level for each item.
        InputError: none is given, or only some have a measurement.
    """
    operators: list[Operator] = []
    measured: list[Tensor] = []
    sigmas: list[float] = []
    if not likelihoods:
        raise InputError("stacked_likelihood needs at least one likelihood")
    for one in likelihoods:
        sigma = one.gaussian_sigma
        if not isinstance(one.operator, LinearOperator) or sigma is None:
            raise CapabilityError("only Gaussian likelihoods of linear operators stack into one: add the others with +")
        if isinstance(sigma, Tensor) and sigma.ndim:
            raise CapabilityError("each stacked likelihood needs one noise level for all items")
        sigmas.append(float(sigma))
        weight = sigmas[0] / sigmas[-1]
        operators.append(one.operator if weight == 1 else scale(weight, one.operator))
        if one.y is not None:
            measured.append((weight * one.y).flatten(1))
    if measured and len(measured) != len(likelihoods):
        raise InputError("either every likelihood has a measurement or none")
    y = torch.cat(measured, 1) if measured else None
    return GaussianLikelihood(Stack(*operators), y, sigmas[0])
