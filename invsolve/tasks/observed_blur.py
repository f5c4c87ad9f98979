"""Blur of a camera: the unknown scene beyond the image border is blurred into the image."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import check_shape
from invsolve.core.constants import Constants
from invsolve.core.linalg import conjugate_gradient, per_sample, row_dot
from invsolve.core.operator import EMPTY, LinearOperator, Params, Shape
from invsolve.operators.blur_kinds import CircularBlur
from invsolve.operators.transforms import quick_length, real_images

__all__ = ["ObservedBlur"]

TOLERANCE, MAX_ITER = 1e-3, 60

CHECK_EVERY = 8
"""Iterations between convergence checks on a GPU; each check waits for the device."""


class ObservedBlur(LinearOperator):
    """y = M C x: the blur C of a scene that is larger than the image, cropped to the image by M.

    No artificial border is needed, such as a mirrored or repeated image: the scene beyond the border is estimated as
    well (Almeida and Figueiredo 2013, "Deconvolving images with unknown boundaries using the alternating direction
    method of multipliers", IEEE Trans. Image Process.). C is circular on the scene's grid; M removes the wrap-around.
    Solves use conjugate gradients, preconditioned by the closed form for C alone, to about 0.001 of the solution.
    `ridge` solves for the measurement's multipliers, (M C C^T M^T + lam I) w = r and x = C^T M^T w. This needs two
    filters per iteration instead of three, and <r, P r>^(1/2) bounds the error of x.

    Args:
        out_shape: (C, H, W) of the image.
        kernel: blur kernel (point spread function), [h, w], sums to one.

    Attributes:
        in_shape: shape of the scene.
        window: rows and columns of the scene that the image shows.
    """

    smooth_tolerance = 1e-2
    """Tolerance of a first estimate. More iterations amplify noise, which the first denoisings remove again."""

    def __init__(self, out_shape: Shape, kernel: Tensor) -> None:
        channels, height, width = out_shape
        kernel = F.pad(kernel, (0, 1 - kernel.shape[1] % 2, 0, 1 - kernel.shape[0] % 2))  # odd sides have a middle
        rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
        self.in_shape = (channels, quick_length(height + 2 * rows), quick_length(width + 2 * columns))
        self.out_shape = (channels, height, width)
        self.window = (slice(rows, rows + height), slice(columns, columns + width))
        # Operators correlate, y[i] = sum_j k[j] x[i + j]: a point becomes the mirror image of the kernel.
        self._whole = CircularBlur(self.in_shape, kernel.flip(-2, -1))
        response = self._whole.half_response
        self.constants = Constants(response=response, power=response.abs() ** 2)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(x, self.in_shape, "ObservedBlur.forward")
        z = real_images(x)
        spectrum = torch.fft.rfft2(z) * self.constants.get("response", z)
        return torch.fft.irfft2(spectrum, self.in_shape[-2:])[..., *self.window].to(x.dtype)

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "ObservedBlur.adjoint")
        z = real_images(y)
        return self._filtered(z, self.constants.get("response", z).conj()).to(y.dtype)

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(b, self.in_shape, "ObservedBlur.solve_normal")
        weight = per_sample(lam, b)

        def precondition(r: Tensor) -> Tensor:
            return self._whole.solve_normal(r, lam)

        return conjugate_gradient(
            lambda v: self.normal(v) + weight * v, b, x=precondition(b), precondition=precondition, tol=TOLERANCE,
            max_iter=MAX_ITER, check_every=1,
        ).x  # fmt: skip

    def ridge(self, residual: Tensor, lam: float | Tensor) -> Tensor:
        return self._ridge(residual, lam, None)

    def ridge_within(self, residual: Tensor, lam: float | Tensor, error: float | Tensor) -> Tensor:
        total = prod(self.in_shape) ** 0.5
        return self._ridge(residual, lam, total * error)

    def _ridge(self, residual: Tensor, lam: float | Tensor, error: float | Tensor | None) -> Tensor:
        check_shape(residual, self.out_shape, "ObservedBlur.ridge")
        r = real_images(residual)
        power, weight = self.constants.get("power", r), per_sample(lam, r)
        inverse = 1 / (power + weight)

        def precondition(v: Tensor) -> Tensor:
            return self._filtered(v, inverse)[..., *self.window]

        first = precondition(r)
        w = conjugate_gradient(
            lambda v: self._filtered(v, power)[..., *self.window] + weight * v, r, x=first, precondition=precondition,
            error=TOLERANCE * row_dot(r, first).clamp_min(0).sqrt() if error is None else error, max_iter=MAX_ITER,
            check_every=1 if r.device.type == "cpu" else CHECK_EVERY,
        ).x  # fmt: skip
        return self._filtered(w, self.constants.get("response", r).conj()).to(residual.dtype)

    def _filtered(self, y: Tensor, response: Tensor) -> Tensor:
        """Filter the scene that is y in the window and 0 outside, using half of the spectrum."""
        scene = y.new_zeros(len(y), *self.in_shape)
        scene[..., *self.window] = y
        return torch.fft.irfft2(torch.fft.rfft2(scene) * response, self.in_shape[-2:])

    def smooth_preconditioner(self, like: Tensor, lam: float | Tensor) -> Callable[[Tensor], Tensor]:
        return self._whole.smooth_preconditioner(like, lam)

    def noise_gain(self, like: Tensor) -> Tensor:
        return self._whole.noise_gain(like)

    def __repr__(self) -> str:
        return f"ObservedBlur({self._whole!r} -> {list(self.out_shape)})"
