"""Tomography and radio interferometry, through deepinv."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError, as_tensor, check_positive, require
from invsolve.core.operator import Operator, Shape
from invsolve.operators.adapt import as_operator
from invsolve.operators.shapes import image_shape

__all__ = ["RadioInterferometry", "Tomography"]


def Tomography(in_shape: Shape, angles: int | Tensor = 60) -> Operator:
    """y = line integrals of x at each angle (the Radon transform), by deepinv's `Tomography`.

    The integrals are in units of the image's width. The adjoint is derived automatically if deepinv's adjoint is not
    the transpose.

    Args:
        in_shape: (C, H, H): square images.
        angles: number of angles, equally spaced over 180 degrees, or the angles in degrees.
    """
    _, h, w = image_shape(in_shape)
    if h != w:
        raise InputError(f"tomography needs square images, got {h} x {w}: crop or pad them")
    angles = int(angles) if isinstance(angles, Integral) else as_tensor(angles, "the angles")
    if isinstance(angles, int):
        check_positive(angles, "the number of angles")
    return (1 / w) * _radon(in_shape, angles)


def _radon(in_shape: Shape, angles: int | Tensor) -> Operator:
    """Line integrals in pixels, without deepinv's normalisation: its scale comes from a random power iteration."""
    require("deepinv", "tomography")
    from deepinv import physics

    options: dict[str, Any] = {"angles": angles, "img_width": in_shape[-1], "circle": False, "normalize": False}
    made = physics.Tomography(**options)
    operator: Any = as_operator(made, in_shape=in_shape, linear=True)
    operator.recipe = (_radon, (in_shape, angles))
    return operator


def RadioInterferometry(in_shape: Shape, places: Tensor) -> Operator:
    """y_m = sum_p exp(-i <places_m, p>) x_p / (2 sqrt(H W)), p counted from the middle: complex visibilities.

    Computed by deepinv's `RadioInterferometry`, whose transform is accurate to 1e-4 and uses tables in single
    precision.

    Args:
        in_shape: (1, H, W).
        places: [2, M], angular frequencies in [-pi, pi], as measured by pairs of antennas.

    Raises:
        InputError: the package torchkbnufft is missing.
    """
    require("deepinv", "radio interferometry")
    require("torchkbnufft", "radio interferometry")
    from deepinv import physics

    c, h, w = image_shape(in_shape)
    places = as_tensor(places, "places")
    if c != 1 or places.ndim != 2 or len(places) != 2:
        raise InputError(f"one channel and places [2, M] are needed, got {list(in_shape)} and {list(places.shape)}")
    options: dict[str, Any] = {"img_size": (h, w), "samples_loc": places.to(torch.float32)}
    made = physics.RadioInterferometry(**options)
    operator: Any = as_operator(made, in_shape=in_shape, linear=True)
    operator.recipe = (RadioInterferometry, (in_shape, places))
    return operator
