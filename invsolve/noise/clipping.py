"""The effect of clipping to [0, 1] on the mean of a noisy value, and its inverse.

    m(x) = E[min(max(x + s n, 0), 1)] = s h(x / s) - s h((x - 1) / s),   h(u) = u Phi(u) + phi(u),   s^2 = a + b x

A file cannot hold values below black or above white. Therefore noise raises the mean of dark regions and lowers the
mean of bright regions: by 0.4 s at black. Averages of such a file are averages of m(x), not of x.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["clipped_mean", "undo_clipped_mean"]

_NODES = 2049


def clipped_mean(x: Tensor, a: float, b: float = 0.0) -> Tensor:
    """Return m(x) for noise of variance a + b x; any shape."""
    s = _level(x, a, b)
    return s * _hinge(x / s) - s * _hinge((x - 1) / s)


def undo_clipped_mean(mean: Tensor, a: float, b: float = 0.0) -> Tensor:
    """Return the x in [0, 1] with m(x) = mean; any shape. It is 0 below m(0) and 1 above m(1)."""
    x = torch.linspace(0, 1, _NODES, dtype=torch.float64)
    m = clipped_mean(x, a, b)
    m = torch.cummax(m, 0).values
    right = torch.searchsorted(m, mean.double().contiguous()).clamp(1, _NODES - 1)
    low, high = m[right - 1], m[right]
    part = ((mean.double() - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return ((right - 1 + part) / (_NODES - 1)).to(mean.dtype)


def _level(x: Tensor, a: float, b: float) -> Tensor:
    return (a + b * x).clamp_min(1e-12).sqrt()


def _hinge(u: Tensor) -> Tensor:
    return u * _cumulative(u) + _density(u)


def _density(u: Tensor) -> Tensor:
    return (-u.square() / 2).exp() / math.sqrt(2 * math.pi)


def _cumulative(u: Tensor) -> Tensor:
    return torch.special.ndtr(u)
