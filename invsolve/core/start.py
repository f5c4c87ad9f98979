"""First estimates of an image from a linear measurement: what solvers start from.

    smooth    argmin |y - A x|^2 + (sigma / TAU)^2 <x, L x>     L the negative Laplacian with mirrored borders
    guided    A^+ y where the pseudo-inverse is well conditioned, as published solvers start; smooth where it is not

The smooth one is the posterior mean for a prior under which neighbouring pixels differ by about TAU: it inverts what
the noise leaves to be inverted, and fills what was not measured from its surroundings.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.linalg import per_sample, real_dtype, row_dot
from invsolve.core.operator import LinearOperator

__all__ = ["ASSUMED_SIGMA", "MAX_GAIN", "TAU", "guided_estimate", "smooth_estimate"]

TAU = 0.1
"""Typical difference of neighbouring pixels of photographs in [0, 1]."""

MIN_RATIO = 1e-3
"""The least sigma / TAU: without noise the smoothness still decides what was not measured."""

MAX_GAIN = 10.0
"""A pseudo-inverse is well conditioned where it amplifies white noise by at most this (see `noise_gain`)."""

ASSUMED_SIGMA = 0.02
"""Standard deviation of the noise in [0, 1] units where the likelihood is not Gaussian."""


def smooth_estimate(operator: LinearOperator, y: Tensor, sigma: float | Tensor, width: float = 1.0) -> Tensor:
    """argmin |y - A x|^2 + (sigma / TAU)^2 <x, L x>, [N, *in_shape]; A^+ y for data that are no images [C, H, W].

    Args:
        operator: A.
        y: measurements [N, *out_shape].
        sigma: standard deviation of the noise, a number or one for each row.
        width: white minus black, in the units of y and sigma.
    """
    if len(operator.in_shape) < 3:
        return operator.pinv(y)
    ratio = torch.as_tensor(sigma, dtype=real_dtype(y), device=y.device).flatten() / (TAU * width)
    lam = ratio.clamp_min(MIN_RATIO) ** 2
    one = torch.ones(len(y), *operator.in_shape, dtype=real_dtype(y), device=y.device)
    image_of_one = operator(one)
    level = row_dot(image_of_one, y) / row_dot(image_of_one, image_of_one).clamp_min(torch.finfo(real_dtype(y)).tiny)
    constant = per_sample(level, one) * one  # L does not see it, and the rest is smaller
    return constant + operator.solve_smooth(
        operator.adjoint(y - per_sample(level, y) * image_of_one), lam.expand(len(y))
    )


def guided_estimate(operator: LinearOperator, y: Tensor, sigma: float | Tensor, width: float = 1.0) -> Tensor:
    """A^+ y in rows whose operator amplifies noise by at most MAX_GAIN, `smooth_estimate` in the others."""
    well = operator.noise_gain(y) <= MAX_GAIN
    if bool(well.all()):
        return operator.pinv(y)
    smooth = smooth_estimate(operator, y, sigma, width)
    if not bool(well.any()):
        return smooth
    return torch.where(well.view(-1, *[1] * (smooth.ndim - 1)), operator.pinv(y), smooth)
