"""First estimates of an image from a linear measurement: the starting points of solvers.

    smooth    argmin |y - A x|^2 + (sigma / TAU)^2 <x, L x>     L the negative Laplacian with mirrored borders
    guided    A^+ y where the pseudo-inverse is well conditioned, as published solvers start; smooth where it is not

The smooth estimate is the posterior mean for a prior under which neighbouring pixels differ by about TAU. It inverts
the operator as far as the noise allows, and fills in what was not measured from its surroundings.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.linalg import column, per_sample, real_dtype, row_dot
from invsolve.core.operator import LinearOperator

__all__ = ["ASSUMED_SIGMA", "MAX_GAIN", "TAU", "guided_estimate", "smooth_estimate"]

TAU = 0.1
"""Typical difference between neighbouring pixels of photographs in [0, 1]."""

MIN_RATIO = 1e-3
"""The smallest sigma / TAU: without noise, smoothness still determines what was not measured."""

MAX_GAIN = 10.0
"""A pseudo-inverse is well conditioned if it amplifies white noise by at most this factor (see `noise_gain`)."""

ASSUMED_SIGMA = 0.02
"""Assumed standard deviation of the noise in [0, 1] units if the likelihood is not Gaussian."""


def smooth_estimate(operator: LinearOperator, y: Tensor, sigma: float | Tensor, width: float = 1.0) -> Tensor:
    """argmin |y - A x|^2 + (sigma / TAU)^2 <x, L x>, [N, *in_shape]; A^+ y if the data are not images [C, H, W].

    sigma / TAU is at least MIN_RATIO.

    Args:
        operator: A.
        y: measurements [N, *out_shape].
        sigma: standard deviation of the noise, one number or one for each row.
        width: white minus black, in the units of y and sigma.
    """
    if len(operator.in_shape) < 3:
        return operator.pinv(y)
    ratio = torch.as_tensor(sigma, dtype=real_dtype(y), device=y.device).flatten() / (TAU * width)
    lam = ratio.clamp_min(MIN_RATIO) ** 2
    one = torch.ones(len(y), *operator.in_shape, dtype=real_dtype(y), device=y.device)
    image_of_one = operator(one)
    level = row_dot(image_of_one, y) / row_dot(image_of_one, image_of_one).clamp_min(torch.finfo(real_dtype(y)).tiny)
    constant = per_sample(level, one) * one  # L of a constant is 0, and the remainder is smaller
    return constant + operator.solve_smooth(
        operator.adjoint(y - per_sample(level, y) * image_of_one), lam.expand(len(y))
    )


def guided_estimate(operator: LinearOperator, y: Tensor, sigma: float | Tensor, width: float = 1.0) -> Tensor:
    """A^+ y for rows whose operator amplifies noise by at most MAX_GAIN, `smooth_estimate` for the others."""
    well = operator.noise_gain(y) <= MAX_GAIN
    if bool(well.all()):
        return operator.pinv(y)
    smooth = smooth_estimate(operator, y, sigma, width)
    if not bool(well.any()):
        return smooth
    return torch.where(column(well, smooth), operator.pinv(y), smooth)
