"""Blur kernels: Gaussian, straight motion, camera shake; and the checks of given kernels."""

from __future__ import annotations

import warnings
from math import ceil, pi, radians

import torch
from torch import Tensor

from invsolve.core.checks import InputError, ShapeError, as_tensor, check_positive
from invsolve.core.operator import Shape
from invsolve.core.rng import NoiseSource

__all__ = ["camera_shake_kernel", "centred", "checked_kernel", "gaussian_kernel", "motion_kernel"]

SUM_TOLERANCE = 1e-3


def gaussian_kernel(std: float, radius: int | None = None) -> Tensor:
    """exp(-|j|^2 / (2 std^2)) at whole offsets j, normalised, [2 radius + 1, 2 radius + 1] in float64.

    Args:
        std: standard deviation in pixels, above 0.
        radius: number of taps on each side; ceil(4 std) if None.
    """
    check_positive(std, "the standard deviation of a Gaussian blur")
    radius = ceil(4 * std) if radius is None else radius
    if radius < 0:
        raise InputError(f"the radius of a Gaussian blur must be at least 0, got {radius}")
    j = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (j / std) ** 2)
    weights = weights / weights.sum()
    return torch.outer(weights, weights)


def motion_kernel(length: float, angle: float) -> Tensor:
    """The kernel of a straight motion: the share of a segment in each pixel. Float64, odd and square, summing to 1.

    Args:
        length: length of the segment in pixels, at least 1.
        angle: angle in degrees, anticlockwise from the horizontal.
    """
    _check_length(length)
    count = 64 * ceil(length)
    along = ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5) * length
    turn = torch.tensor(radians(angle), dtype=torch.float64)
    path = torch.stack([-along * turn.sin(), along * turn.cos()], -1)
    return _rasterise((path + 0.5).floor())


def camera_shake_kernel(length: float, intensity: float, rng: NoiseSource) -> Tensor:
    """The kernel of a camera shake: a path whose heading is a Brownian motion, spread bilinearly over the pixels.

    The path is centred, so that the image does not move as a whole.

    Args:
        length: length of the path in pixels, at least 1.
        intensity: 0 is a straight path; at 1 the heading's standard deviation at the end of the path is 2 pi.
        rng: noise source that draws the path.
    """
    _check_length(length)
    check_positive(intensity, "the intensity of camera shake", zero=True)
    count = 16 * ceil(length)
    turns = rng.normal(torch.empty(1, count, dtype=torch.float64))[0] * (2 * pi * intensity / count**0.5)
    heading = 2 * pi * rng.uniform(torch.empty(1, 1, dtype=torch.float64))[0] + turns.cumsum(0)
    path = torch.stack([heading.sin(), heading.cos()], -1).cumsum(0) * (length / count)
    return _rasterise(path - path.mean(0))


def _check_length(length: float) -> None:
    check_positive(length, "the length of a motion blur")
    if length < 1:
        raise InputError(f"the length of a motion blur must be at least one pixel, got {length}")


def _rasterise(path: Tensor) -> Tensor:
    """Spread points [P, 2] (row, column), relative to the centre, bilinearly over the pixels."""
    radius = ceil(path.abs().max().item())
    size = 2 * radius + 1
    corner = path.floor()
    shift = path - corner
    kernel = torch.zeros(size * size, dtype=torch.float64)
    for down in (0, 1):
        for right in (0, 1):
            share_row = shift[:, 0] if down else 1 - shift[:, 0]
            share_column = shift[:, 1] if right else 1 - shift[:, 1]
            row, column = corner[:, 0] + down + radius, corner[:, 1] + right + radius
            share = share_row * share_column
            inside = share > 0
            kernel.index_add_(0, (row * size + column)[inside].long(), share[inside])
    return kernel.reshape(size, size) / len(path)


def checked_kernel(kernel: Tensor, in_shape: Shape) -> Tensor:
    """Check a blur kernel and return it as [1 | B, 1 | C, h, w] in float64 on the CPU, each summing to about 1.

    Args:
        kernel: [h, w], [1 | C, h, w] or [B, 1 | C, h, w]; a kernel whose sum is off by more than 0.001 is normalised
            with a warning.
        in_shape: (C, H, W) of the images.

    Raises:
        ShapeError: the kernel has another number of dimensions or channels, or is larger than the image.
        InputError: the kernel has entries that are not finite, or a sum of 0 or less.
    """
    c, h, w = in_shape
    kernel = as_tensor(kernel, "the blur kernel")
    if kernel.ndim not in (2, 3, 4) or (kernel.ndim > 2 and kernel.shape[-3] not in (1, c)) or 0 in kernel.shape:
        raise ShapeError(
            f"a blur kernel must be [h, w], [1 or {c}, h, w] or [B, 1 or {c}, h, w], one per sample; got "
            f"{list(kernel.shape)}"
        )
    if kernel.shape[-2] > h or kernel.shape[-1] > w:
        raise ShapeError(
            f"the blur kernel must not be larger than the {h} x {w} image, got {list(kernel.shape[-2:])}: "
            "crop the kernel or use a larger image"
        )
    kernel = kernel.detach().to("cpu", torch.float64)
    kernel = kernel.reshape(*[1] * (4 - kernel.ndim), *kernel.shape)
    total = kernel.sum((-2, -1), keepdim=True)
    if not bool((torch.isfinite(kernel).all() & (total > 0)).all()):
        raise InputError("the blur kernel must be finite with a sum above 0: give the weights of a weighted mean")
    if float((total - 1).abs().max()) > SUM_TOLERANCE:
        worst = total.flatten()[(total - 1).abs().argmax()].item()
        warnings.warn(f"the blur kernel sums to {worst:.6g} and was divided by its sum", UserWarning, stacklevel=3)
        kernel = kernel / total
    return kernel


def centred(kernel: Tensor) -> Tensor:
    """The same filter with odd sides, its anchor in the middle, and no border of zeros.

    The anchor of [..., h, w] is entry ((h - 1) // 2, (w - 1) // 2), as for "same" padding.
    """
    for dim in (-2, -1):
        size = kernel.shape[dim]
        offsets = torch.arange(size) - (size - 1) // 2
        used = offsets[kernel.abs().movedim(dim, 0).flatten(1).amax(1) > 0]
        radius = int(used.abs().max())
        shape = list(kernel.shape)
        shape[dim] = 2 * radius + 1
        rows = kernel.index_select(dim, used + (size - 1) // 2)
        kernel = kernel.new_zeros(shape).index_copy(dim, used + radius, rows)
    return kernel
