"""Decimation: keep every n-th pixel of an image, without averaging."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.checks import check_shape
from invsolve.core.linalg import per_sample
from invsolve.core.operator import EMPTY, LinearOperator, Params, Shape

__all__ = ["Decimation"]


class Decimation(LinearOperator):
    """y[i, j] = x[f i + o, f j + o], as in nearest-neighbour resizing; A A^T = I.

    Args:
        in_shape: (C, H, W) of the large image; H and W are multiples of `factor`.
        factor: f.
        offset: o, in [0, f): 0 matches slicing and OpenCV, f // 2 matches Pillow.
    """

    def __init__(self, in_shape: Shape, factor: int, offset: int = 0) -> None:
        channels, height, width = in_shape
        self.in_shape, self.factor, self.offset = tuple(in_shape), factor, offset
        self.out_shape = (channels, height // factor, width // factor)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return x[..., self.offset :: self.factor, self.offset :: self.factor]

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "Decimation.adjoint")
        x = torch.zeros(len(y), *self.in_shape, dtype=y.dtype, device=y.device)
        x[..., self.offset :: self.factor, self.offset :: self.factor] = y
        return x

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(b, self.in_shape, "Decimation.solve_normal")
        weight = per_sample(lam, b)
        return (b - self.adjoint(self(b)) / (1 + weight)) / weight

    def ridge(self, residual: Tensor, lam: float | Tensor) -> Tensor:
        return self.adjoint(residual / (1 + per_sample(lam, residual)))

    def pinv(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        return self.adjoint(y)
