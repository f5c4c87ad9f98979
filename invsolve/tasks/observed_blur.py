"""Blur as a camera makes it: what lies beyond the image's border has been blurred into it, and is unknown."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import check_shape
from invsolve.core.linalg import per_sample, row_dot, row_norm
from invsolve.core.operator import EMPTY, LinearOperator, Params, Shape
from invsolve.operators import Blur
from invsolve.operators.transforms import quick_length

__all__ = ["ObservedBlur"]

TOLERANCE, MAX_ITER = 1e-3, 60
START = 1e-2


class ObservedBlur(LinearOperator):
    """y = M C x: a blur of a scene that is larger than the image, of which the image's part is seen.

    No border has to be invented, as mirroring or repeating the image does: the scene beyond it is estimated along
    (Almeida and Figueiredo 2013, "Deconvolving images with unknown boundaries using the alternating direction method
    of multipliers", IEEE Trans. Image Process.). C is circular on the scene's grid, whose wrap-around is never seen.
    Solves are by conjugate gradients, preconditioned by the closed form of C alone, to about 0.001 of the solution.

    Args:
        out_shape: (C, H, W) of the image.
        kernel: what a point becomes, [h, w], sums to one.

    Attributes:
        in_shape: of the scene.
        window: rows and columns of the scene that the image shows.
    """

    def __init__(self, out_shape: Shape, kernel: Tensor) -> None:
        channels, height, width = out_shape
        kernel = F.pad(kernel, (0, 1 - kernel.shape[1] % 2, 0, 1 - kernel.shape[0] % 2))  # odd sides have a middle
        rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
        self.in_shape = (channels, quick_length(height + 2 * rows), quick_length(width + 2 * columns))
        self.out_shape = (channels, height, width)
        self.window = (slice(rows, rows + height), slice(columns, columns + width))
        # Operators correlate, y[i] = sum_j k[j] x[i + j]; a point spreads as the kernel's mirror image under them.
        self._whole = Blur(self.in_shape, kernel.flip(-2, -1), padding="circular")

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return self._whole(x)[..., *self.window]

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "ObservedBlur.adjoint")
        scene = y.new_zeros(len(y), *self.in_shape)
        scene[..., *self.window] = y
        return self._whole.adjoint(scene)

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(b, self.in_shape, "ObservedBlur.solve_normal")
        weight = per_sample(lam, b)
        return _preconditioned(lambda v: self.normal(v) + weight * v, lambda v: self._whole.solve_normal(v, lam), b)

    def pinv(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        """A smoothed estimate, (A^T A + 0.01)^-1 A^T y: a blur has no pseudo-inverse that noise would leave of use."""
        return self.solve_normal(self.adjoint(y), START)

    def __repr__(self) -> str:
        return f"ObservedBlur({self._whole!r} -> {list(self.out_shape)})"


def _preconditioned(matvec: Callable[[Tensor], Tensor], precondition: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """Conjugate gradients on A x = b, row by row, from the preconditioner's own answer.

    The preconditioned residual is an estimate of the error of x: a row ends where it is small beside x.
    """
    x = precondition(b)
    r = b - matvec(x)
    z = precondition(r)
    p, rz = z, row_dot(r, z)
    for _ in range(MAX_ITER):
        if bool((row_norm(z) <= TOLERANCE * row_norm(x)).all()):
            break
        ap = matvec(p)
        step = per_sample(rz / row_dot(p, ap).clamp_min(torch.finfo(b.dtype).tiny), b)
        x, r = x + step * p, r - step * ap
        z = precondition(r)
        rz, old = row_dot(r, z), rz
        p = z + per_sample(rz / old.clamp_min(torch.finfo(b.dtype).tiny), b) * p
    return x
