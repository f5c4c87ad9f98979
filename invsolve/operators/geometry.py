"""Crop a part of an image, and pad an image with black."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import ShapeError, check_shape
from invsolve.core.linalg import per_sample, real_dtype
from invsolve.core.operator import EMPTY, LinearOperator, Params, Shape
from invsolve.operators.shapes import image_shape

__all__ = ["Crop", "Pad"]


class Crop(LinearOperator):
    """y = x[:, top : top + height, left : left + width]; A A^T = I, so every solve has a closed form.

    Args:
        in_shape: (C, H, W).
        top, left, height, width: position and size of the part, inside the image.

    Raises:
        ShapeError: the part is not inside the image.
    """

    def __init__(self, in_shape: Shape, top: int, left: int, height: int, width: int) -> None:
        self.in_shape = c, h, w = image_shape(in_shape)
        if min(top, left) < 0 or min(height, width) < 1 or top + height > h or left + width > w:
            raise ShapeError(
                f"the part must lie inside the {h} x {w} image, got rows {top} to {top + height} and columns "
                f"{left} to {left + width}"
            )
        self.out_shape = (c, height, width)
        self.top, self.left = top, left

    @classmethod
    def middle(cls, in_shape: Shape, height: int, width: int) -> Self:
        """Crop the middle `height` x `width` pixels."""
        _, h, w = image_shape(in_shape)
        return cls(in_shape, (h - height) // 2, (w - width) // 2, height, width)

    @property
    def _sides(self) -> tuple[int, int, int, int]:
        (_, h, w), (_, height, width) = self.in_shape, self.out_shape
        return self.left, w - self.left - width, self.top, h - self.top - height

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        _, height, width = self.out_shape
        return x[..., self.top : self.top + height, self.left : self.left + width].clone()

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "Crop.adjoint")
        self._no_parameters(theta)
        return F.pad(y, self._sides)

    pinv = adjoint

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(b, self.in_shape, "Crop.solve_normal")
        seen = F.pad(torch.ones(self.out_shape, dtype=real_dtype(b)), self._sides)
        return b / (seen.to(b.device) + per_sample(lam, b))

    def __repr__(self) -> str:
        return f"Crop({list(self.in_shape)}, top={self.top}, left={self.left} -> {list(self.out_shape)})"


class Pad(LinearOperator):
    """Add (before, after) black rows and columns around the image; A^T A = I, so every solve has a closed form.

    Args:
        in_shape: (C, H, W).
        rows, columns: numbers (before, after), each at least 0.
    """

    def __init__(self, in_shape: Shape, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        self.in_shape = c, h, w = image_shape(in_shape)
        if min(*rows, *columns) < 0:
            raise ShapeError(f"rows and columns to add must be at least 0 on each side, got {rows} and {columns}")
        self.out_shape = (c, h + sum(rows), w + sum(columns))
        self._crop = Crop(self.out_shape, rows[0], columns[0], h, w)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        return self._crop.adjoint(x)

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "Pad.adjoint")
        self._no_parameters(theta)
        return self._crop(y)

    pinv = adjoint

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(b, self.in_shape, "Pad.solve_normal")
        return b / (1.0 + per_sample(lam, b))

    def __repr__(self) -> str:
        return f"Pad({list(self.in_shape)} -> {list(self.out_shape)})"
