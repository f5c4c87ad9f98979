"""A degradation followed by JPEG compression, as one measurement."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import check_shape
from invsolve.core.linalg import conjugate_gradient, per_sample
from invsolve.core.operator import EMPTY, LinearOperator, Params
from invsolve.io.jpeg import turned, unturned
from invsolve.tasks.jpeg_codec import CoefficientOperator, JPEGCoefficients

__all__ = ["Compressed"]

TOLERANCE, MAX_ITER = 5e-5, 120


class Compressed(CoefficientOperator):
    """y = J E S x: the block DCT coefficients J, in units of the noise, of a degraded image S x.

    E rotates the image to its stored orientation and extends it to whole blocks by repeating its last rows and columns,
    as encoders do. Solves use conjugate gradients on the coefficients. The preconditioner is the diagonal of J J^T
    times the response of S S^T to a constant image: except for this factor, S leaves low frequencies nearly unchanged.

    Args:
        codec: J, see `JPEGCoefficients`.
        inner: S, an operator whose measurements are images.
    """

    def __init__(self, codec: JPEGCoefficients, inner: LinearOperator) -> None:
        self.codec, self.inner = codec, inner
        self.in_shape, self.out_shape = inner.in_shape, codec.out_shape

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return self.codec(self._extended(unturned(self.inner(x), self.codec.tables.orientation)))

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "Compressed.adjoint")
        folded = self._folded(self.codec.adjoint(y))
        return self.inner.adjoint(turned(folded, self.codec.tables.orientation).contiguous())

    @property
    def _extension(self) -> tuple[int, int]:
        """Number of rows and columns added to the stored image."""
        _, height, width = self.inner.out_shape
        stored = (width, height) if self.codec.tables.orientation > 4 else (height, width)
        return self.codec.in_shape[1] - stored[0], self.codec.in_shape[2] - stored[1]

    def _extended(self, x: Tensor) -> Tensor:
        rows, columns = self._extension
        return F.pad(x, (0, columns, 0, rows), mode="replicate") if rows or columns else x.contiguous()

    def _folded(self, x: Tensor) -> Tensor:
        """The adjoint of `_extended`."""
        for dim, extra in zip((-2, -1), self._extension, strict=True):
            if extra:
                kept = x.shape[dim] - extra
                last = x.narrow(dim, kept - 1, extra + 1).sum(dim, keepdim=True)
                x = torch.cat([x.narrow(dim, 0, kept - 1), last], dim)
        return x

    def ridge(self, residual: Tensor, lam: float | Tensor) -> Tensor:
        return self._ridge(residual, lam, None)

    def ridge_within(self, residual: Tensor, lam: float | Tensor, error: float | Tensor) -> Tensor:
        return self._ridge(residual, lam, prod(self.in_shape) ** 0.5 * error)

    def _ridge(self, residual: Tensor, lam: float | Tensor, error: float | Tensor | None) -> Tensor:
        weight = per_sample(lam, residual)
        one = residual.new_ones(1, *self.inner.out_shape)
        gain = self.inner(self.inner.adjoint(one)).mean()
        diagonal = gain * self.codec.diagonal(residual) + weight
        solved = conjugate_gradient(
            lambda v: self.forward(self.adjoint(v)) + weight * v, residual, precondition=lambda v: v / diagonal,
            tol=TOLERANCE, error=error, max_iter=MAX_ITER, check_every=4,
        )  # fmt: skip
        return self.adjoint(solved.x)

    def __repr__(self) -> str:
        return f"Compressed({self.codec!r}, {self.inner!r})"
