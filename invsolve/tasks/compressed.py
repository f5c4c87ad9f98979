"""The measurement of an image that was made smaller and then compressed as a JPEG file."""

from __future__ import annotations

from torch import Tensor

from invsolve.core.checks import check_shape
from invsolve.core.linalg import conjugate_gradient, laplacian, per_sample
from invsolve.core.operator import EMPTY, LinearOperator, Params
from invsolve.tasks.jpeg_codec import JPEGCoefficients

__all__ = ["CompressedSmall"]

TOLERANCE, MAX_ITER = 1e-4, 60


class CompressedSmall(LinearOperator):
    """y = J S x: the block cosine coefficients J, in units of the noise, of an image made smaller by S.

    Solves are by conjugate gradients on the coefficients. They are preconditioned by the diagonal of J J^T, times
    what S S^T makes of a constant image: S passes low frequencies nearly unchanged but for this factor.

    Args:
        codec: J, see `JPEGCoefficients`.
        smaller: S, whose images are whole blocks.
    """

    def __init__(self, codec: JPEGCoefficients, smaller: LinearOperator) -> None:
        self.codec, self.smaller = codec, smaller
        self.in_shape, self.out_shape = smaller.in_shape, codec.out_shape

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return self.codec(self.smaller(x))

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "CompressedSmall.adjoint")
        return self.smaller.adjoint(self.codec.adjoint(y))

    def ridge(self, residual: Tensor, lam: float | Tensor) -> Tensor:
        weight = per_sample(lam, residual)
        one = residual.new_ones(1, *self.smaller.out_shape)
        gain = self.smaller(self.smaller.adjoint(one)).mean()
        diagonal = gain * self.codec.diagonal(residual) + weight
        solved = conjugate_gradient(
            lambda v: self.forward(self.adjoint(v)) + weight * v, residual, precondition=lambda v: v / diagonal,
            tol=TOLERANCE, max_iter=MAX_ITER, check_every=4,
        )  # fmt: skip
        return self.adjoint(solved.x)

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(b, self.in_shape, "CompressedSmall.solve_normal")
        return (b - self.ridge(self.forward(b), lam)) / per_sample(lam, b)

    def solve_smooth(self, b: Tensor, lam: float | Tensor) -> Tensor:
        weight = per_sample(lam, b)
        return conjugate_gradient(lambda v: self.normal(v) + weight * laplacian(v), b, tol=1e-3, max_iter=60).x

    def __repr__(self) -> str:
        return f"CompressedSmall({self.codec!r}, {self.smaller!r})"
