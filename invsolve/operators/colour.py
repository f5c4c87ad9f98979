"""What a sensor measures of colour: one channel for each pixel behind a colour filter array, or only brightness."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.core.checks import InputError, ShapeError
from invsolve.core.constants import Constants
from invsolve.core.operator import Shape
from invsolve.core.svd import SVDOperator
from invsolve.operators.shapes import image_shape

__all__ = ["LUMA", "Colourisation", "Demosaicing"]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


class Demosaicing(SVDOperator):
    """y[0, i, j] = s_c x[c, i, j], with c = c(i, j) the colour of the filter over a pixel and s the sensitivity to it.

    Args:
        in_shape: (3, H, W).
        pattern: the colours of a square tile, row by row: four for a Bayer sensor, such as "RGGB", 36 for an X-Trans
            sensor.
        sensitivity: s for red, green and blue, above 0.

    Raises:
        ShapeError: the image does not have three channels.
        InputError: the pattern is not a square of R, G and B, or a sensitivity is not above 0.
    """

    def __init__(self, in_shape: Shape, pattern: str = "RGGB", sensitivity: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        self.in_shape = c, h, w = image_shape(in_shape)
        if c != 3:
            raise ShapeError(f"demosaicing makes images of three channels, got in_shape {list(in_shape)}")
        self.pattern, side = pattern.upper(), math.isqrt(len(pattern))
        if side < 2 or side**2 != len(pattern) or set(self.pattern) - set("RGB"):
            raise InputError(f"the pattern must be a square of R, G and B, row by row, such as 'RGGB', got {pattern!r}")
        self.sensitivity = tuple(float(s) for s in sensitivity)
        if len(self.sensitivity) != 3 or not all(0 < s < math.inf for s in self.sensitivity):
            raise InputError(f"the sensitivity must be three numbers above 0, got {sensitivity}")
        self.out_shape = (1, h, w)
        mask = torch.zeros(3, h, w, dtype=torch.bool)
        for place, colour in enumerate(self.pattern):
            mask["RGB".index(colour), place // side :: side, place % side :: side] = True
        self.constants = Constants(
            mask=mask, strength=torch.tensor(self.sensitivity, dtype=torch.float64)[:, None, None]
        )

    @property
    def mask(self) -> Tensor:
        """Where each colour is measured, bool [3, H, W]."""
        return self.constants["mask"]

    def spectrum(self, like: Tensor) -> Tensor:
        return (self.constants.get("strength", like) * self.constants.get("mask", like)).flatten()

    def V(self, c: Tensor) -> Tensor:
        return c.reshape(-1, *self.in_shape)

    def Vt(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def U(self, c: Tensor) -> Tensor:
        return (self.constants.get("mask", c) * self.V(c)).sum(1, keepdim=True)

    def Ut(self, y: Tensor) -> Tensor:
        return (self.constants.get("mask", y) * y).flatten(1)

    def __repr__(self) -> str:
        own = "" if set(self.sensitivity) == {1.0} else f", sensitivity={[round(s, 4) for s in self.sensitivity]}"
        return f"Demosaicing({list(self.in_shape)}, pattern={self.pattern!r}{own})"


class Colourisation(SVDOperator):
    """y = sum_c w_c x_c: brightness is known, colour is not. A reflection of the colour axes diagonalises it.

    Args:
        in_shape: (C, H, W).
        weights: w, one for each channel and not all 0; if not given, those of brightness (`LUMA`) for three channels.
    """

    def __init__(self, in_shape: Shape, weights: Sequence[float] | None = None) -> None:
        self.in_shape = c, h, w = image_shape(in_shape)
        if weights is None and c != 3:
            raise InputError(f"give the weights of the {c} channels: brightness is defined for three")
        weight = torch.tensor(LUMA if weights is None else list(weights), dtype=torch.float64)
        if len(weight) != c or not bool(torch.isfinite(weight).all()) or not bool(weight.any()):
            raise InputError(f"weights must be {c} finite numbers, not all 0, got {weights}")
        self.out_shape = (1, h, w)
        # Householder: a reflection that maps the first axis to the direction of w
        axis = weight / weight.norm()
        mirror = axis.clone()
        mirror[0] += 1.0 if axis[0] >= 0 else -1.0
        turn = torch.eye(c, dtype=torch.float64) - 2 * torch.outer(mirror, mirror) / mirror.square().sum()
        self.constants = Constants(turn=turn, length=(weight @ turn[:, 0])[None])

    @property
    def weights(self) -> Tensor:
        """w, [C] in float64."""
        return self.constants["length"] * self.constants["turn"][:, 0]

    def spectrum(self, like: Tensor) -> Tensor:
        c, h, w = self.in_shape
        s = self.constants.get("length", like).abs().expand(h * w)
        return torch.cat([s, s.new_zeros((c - 1) * h * w)])

    def V(self, c: Tensor) -> Tensor:
        return torch.einsum("cd,ndhw->nchw", self.constants.get("turn", c), c.reshape(-1, *self.in_shape))

    def Vt(self, x: Tensor) -> Tensor:
        return torch.einsum("cd,nchw->ndhw", self.constants.get("turn", x), x).flatten(1)

    def U(self, c: Tensor) -> Tensor:
        return self.constants.get("length", c).sign() * c.reshape(-1, *self.in_shape)[:, :1]

    def Ut(self, y: Tensor) -> Tensor:
        rest = y.new_zeros(len(y), self.in_shape[0] - 1, *self.in_shape[1:])
        return torch.cat([self.constants.get("length", y).sign() * y, rest], 1).flatten(1)

    def __repr__(self) -> str:
        return f"Colourisation({list(self.in_shape)}, weights={[round(v, 4) for v in self.weights.tolist()]})"
