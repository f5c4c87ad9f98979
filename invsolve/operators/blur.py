"""Blur by a known kernel: y[i] = sum_j k[j] x[i + j - a], anchored at a = ((h - 1) // 2, (w - 1) // 2).

This is the cross-correlation of deep-learning libraries. For a convolution in the textbook sense (a point source is
replaced by an image of the kernel), flip the kernel: `kernel.flip(-2, -1)`, for odd sides.

The values assumed beyond the border decide what can be solved exactly:

    circular    repeats the image              FFT: singular value decomposition for every kernel
    symmetric   mirrors it, edge included      DCT: the same for kernels that are symmetric in both axes
    reflect     mirrors it, edge excluded      conjugate gradients
    zero        is black                       conjugate gradients
"""

from __future__ import annotations

from math import ceil

from torch import Tensor

from invsolve.core.checks import InputError, check_positive
from invsolve.core.operator import LinearOperator, Shape
from invsolve.core.rng import NoiseSource
from invsolve.operators.blur_kinds import CircularBlur, SpatialBlur, SymmetricBlur, is_symmetric
from invsolve.operators.kernels import camera_shake_kernel, centred, checked_kernel, gaussian_kernel, motion_kernel
from invsolve.operators.padding import check_padding
from invsolve.operators.shapes import image_shape

__all__ = ["Blur", "GaussianBlur", "MotionBlur"]


def Blur(in_shape: Shape, kernel: Tensor, padding: str = "circular") -> LinearOperator:
    """Blur by a given kernel, y[i] = sum_j k[j] x[i + j - a], with the best solves that `padding` allows.

    Args:
        in_shape: (C, H, W).
        kernel: [h, w] or [1 | C, h, w] for all samples, or [B, 1 | C, h, w] with one for each sample. Normalised with a
            warning if its sum is not about 1.
        padding: "circular" (default), "symmetric", "reflect" or "zero".

    Raises:
        ShapeError: the kernel has another number of dimensions or channels, or is larger than the image.
        InputError: the kernel is not finite or sums to 0 or less, or there is no such padding.
    """
    check_padding(padding)
    kernel = checked_kernel(kernel, image_shape(in_shape))
    if padding == "circular":
        return CircularBlur(in_shape, kernel)
    if padding == "symmetric" and is_symmetric(centred(kernel)):
        return SymmetricBlur(in_shape, kernel)
    return SpatialBlur(in_shape, kernel, padding)


def GaussianBlur(
    in_shape: Shape, std: float, padding: str = "circular", *, radius: int | None = None
) -> LinearOperator:
    """Blur by a sampled Gaussian of standard deviation `std` pixels.

    Args:
        in_shape: (C, H, W).
        std: standard deviation in pixels, above 0.
        padding: as for `Blur`; "symmetric" also has a closed form, and suits photographs.
        radius: number of taps on each side of the middle; if None, ceil(4 std), but no more than fit into the image.
    """
    _, h, w = image_shape(in_shape)
    check_positive(std, "the standard deviation of a Gaussian blur")
    radius = min(ceil(4 * std), (min(h, w) - 1) // 2) if radius is None else radius
    return Blur(in_shape, gaussian_kernel(std, radius), padding)


def MotionBlur(
    in_shape: Shape,
    length: float,
    angle: float | None = None,
    padding: str = "circular",
    *,
    rng: NoiseSource | None = None,
    intensity: float = 0.5,
) -> LinearOperator:
    """Blur by motion along a straight line, or along the path of a camera shake that is drawn once from `rng`.

    Args:
        in_shape: (C, H, W).
        length: length of the path in pixels, at least 1.
        angle: angle of the straight line in degrees, anticlockwise from the horizontal.
        padding: as for `Blur`.
        rng: noise source that draws the camera's path; used instead of `angle`.
        intensity: strength of the camera's turns; 0 is a straight line in a random direction.
    """
    if (angle is None) == (rng is None):
        raise InputError("MotionBlur takes either angle (a straight line) or rng (a drawn camera shake)")
    if rng is not None:
        return Blur(in_shape, camera_shake_kernel(length, intensity, rng), padding)
    return Blur(in_shape, motion_kernel(length, angle or 0.0), padding)
