"""Operator checks of values: images lie in [0, 1], and estimates a little outside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invsolve.testing import diagnoses

__all__ = ["check_values", "finite"]

BEYOND = 0.2
"""How far outside [0, 1] the estimates of solvers may lie."""
LARGE = 20.0
"""No image in [0, 1] units has larger values."""
FAINT = 0.01
"""The smallest difference expected between the measurements of two images."""


def finite(y: Tensor) -> bool:
    """Whether every number is finite."""
    return bool(torch.isfinite(torch.view_as_real(y) if y.is_complex() else y).all())


def check_values(probe: Any) -> None:
    """Check for finite values in the image range and a little beyond it, and for signs of another range."""
    report, operator, x, y = probe.report, probe.operator, probe.x, probe.y
    report.fact("finite output", finite(y), diagnoses.of_values(probe.span))
    low, high = probe.span[0] - BEYOND, probe.span[1] + BEYOND
    middle, half = 0.5 * (probe.span[0] + probe.span[1]), 0.5 * (probe.span[1] - probe.span[0])
    wide = (middle + (x - middle) * (1 + BEYOND / half)).clamp(low, high)
    report.fact("finite beyond [0, 1]", _survives(probe, wide), diagnoses.BEYOND)
    if y.is_complex():
        return
    report.fact("takes images in [0, 1]", not _takes_signed(probe), diagnoses.SIGNED)
    if operator.in_shape != operator.out_shape:
        return
    report.fact("values of an image", float(y.abs().max()) <= LARGE, diagnoses.SCALE)
    shades = [probe.apply(torch.full_like(x, v)) for v in (0.1, 0.3, 0.7, 0.9)]
    change = float(torch.maximum((y - y.roll(1, 0)).abs().max(), (shades[-1] - shades[0]).abs().max()))
    report.fact("sees the image", change == 0 or change >= FAINT, diagnoses.BYTES)
    dead = [torch.equal(a, b) and float(a.abs().sum()) > 0 for a, b in zip(shades, shades[1:], strict=False)]
    report.fact("sees all of [0, 1]", not any(dead), diagnoses.CLIPPED)


def _survives(probe: Any, x: Tensor) -> bool:
    try:
        return finite(probe.apply(x))
    except Exception:  # an operator that asserts its range
        return False


def _takes_signed(probe: Any) -> bool:
    """Whether the operator uses [-1, 1]: it maps -1 to black and 0 to grey, or 0 and 1 to -1 and 1."""
    try:
        least, black, white = (probe.apply(torch.full_like(probe.x, v)) for v in (-1.0, 0.0, 1.0))
    except Exception:  # an operator that asserts its range
        return False
    grey = (black > 0.1) & (black < 0.9 * white)
    inside = bool((least.abs() <= 1e-3).all() and grey.all())
    outside = bool(((black + 1).abs() <= 1e-3).all() and ((white - 1).abs() <= 1e-3).all())
    return inside or outside
