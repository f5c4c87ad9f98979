"""Blur as a camera makes it: what lies beyond the image's border has been blurred into it, and is unknown."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import check_shape
from invsolve.core.linalg import conjugate_gradient, per_sample
from invsolve.core.operator import EMPTY, LinearOperator, Params, Shape
from invsolve.operators.blur_kinds import CircularBlur
from invsolve.operators.transforms import quick_length

__all__ = ["ObservedBlur"]

TOLERANCE, MAX_ITER = 1e-3, 60


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
        self._whole = CircularBlur(self.in_shape, kernel.flip(-2, -1))

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

        def precondition(r: Tensor) -> Tensor:
            return self._whole.solve_normal(r, lam)

        return conjugate_gradient(
            lambda v: self.normal(v) + weight * v, b, x=precondition(b), precondition=precondition, tol=TOLERANCE,
            max_iter=MAX_ITER, check_every=1,
        ).x  # fmt: skip

    def smooth_preconditioner(self, like: Tensor, lam: float | Tensor) -> Callable[[Tensor], Tensor]:
        return self._whole.smooth_preconditioner(like, lam)

    def noise_gain(self, like: Tensor) -> Tensor:
        return self._whole.noise_gain(like)

    def __repr__(self) -> str:
        return f"ObservedBlur({self._whole!r} -> {list(self.out_shape)})"
