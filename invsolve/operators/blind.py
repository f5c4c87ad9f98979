"""Blur by an unknown kernel, which is passed with every call as theta["kernel"]."""

from __future__ import annotations

from torch import Tensor

from invsolve.core.checks import InputError, ShapeError, check_shape
from invsolve.core.operator import EMPTY, LinearOperator, Params, Shape
from invsolve.operators.convolution import correlate, correlate_adjoint, grid_for, transfer_function
from invsolve.operators.padding import check_padding, extend, extend_adjoint
from invsolve.operators.shapes import image_shape

__all__ = ["BlindBlur"]


class BlindBlur(LinearOperator):
    """y_n[i] = sum_j k_n[j] x_n[i + j - a], a = ((h - 1) // 2, (w - 1) // 2), with k_n = theta["kernel"][n].

    The operator is linear in the image, linear in the kernel, and differentiable in both. theta["kernel"] is [N, h, w]
    or [N, 1 | C, h, w] and is used unchanged: a softmax parametrisation (see `Unknown`) makes it a kernel.

    Args:
        in_shape: (C, H, W).
        kernel_shape: (h, w).
        padding: "zero" (default), "reflect", "symmetric" or "circular".

    Raises:
        ShapeError: the kernel is larger than the image.
    """

    parameters = ("kernel",)

    def __init__(self, in_shape: Shape, kernel_shape: tuple[int, int], padding: str = "zero") -> None:
        self.in_shape = self.out_shape = _, h, w = image_shape(in_shape)
        if len(kernel_shape) != 2 or not (1 <= kernel_shape[0] <= h and 1 <= kernel_shape[1] <= w):
            raise ShapeError(
                f"kernel_shape must be (h, w) from 1 to the sides of the {h} x {w} image, got {list(kernel_shape)}"
            )
        self.kernel_shape = (int(kernel_shape[0]), int(kernel_shape[1]))
        self.padding = check_padding(padding)
        self._grid = grid_for((h, w), self.kernel_shape)
        self._extended = (h + self.kernel_shape[0] - 1, w + self.kernel_shape[1] - 1)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        z = extend(x, *self._sides, self.padding)
        return correlate(z, self._transfer(x, theta), self._grid, (self.in_shape[1], self.in_shape[2]))

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "BlindBlur.adjoint")
        z = correlate_adjoint(y, self._transfer(y, theta), self._grid, self._extended)
        return extend_adjoint(z, *self._sides, self.padding)

    @property
    def _sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        (h, w), (top, left) = self.kernel_shape, ((side - 1) // 2 for side in self.kernel_shape)
        return (top, h - 1 - top), (left, w - 1 - left)

    def _transfer(self, x: Tensor, theta: Params) -> Tensor:
        h, w = self.kernel_shape
        if set(theta) != {"kernel"}:
            raise InputError(f'BlindBlur needs theta["kernel"] of shape [N, {h}, {w}], got {sorted(theta)}')
        kernel = theta["kernel"]
        if kernel.ndim == 3:
            kernel = kernel[:, None]
        c = self.in_shape[0]
        if kernel.ndim != 4 or len(kernel) not in (1, len(x)) or kernel.shape[1] not in (1, c):
            raise ShapeError(
                f'theta["kernel"] must be [{len(x)}, {h}, {w}] or [{len(x)}, 1 or {c}, {h}, {w}], '
                f"got {list(theta['kernel'].shape)}"
            )
        check_shape(kernel[:, 0], self.kernel_shape, 'theta["kernel"] of BlindBlur')
        return transfer_function(kernel.to(x.dtype), self._grid)

    def __repr__(self) -> str:
        return f"BlindBlur({list(self.in_shape)}, kernel_shape={list(self.kernel_shape)}, padding={self.padding!r})"
