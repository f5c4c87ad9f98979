"""Estimate the size of a blur from the spectrum of an image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.io.image import middle
from invsolve.tasks.sampling import windowed_power

__all__ = ["SizeReading", "read_size"]

SLOPE, SLOPE_SPREAD = 2.4, 0.4
"""The power spectrum of photographs falls as a power of the frequency: the exponent and its spread."""

NOISE_SPREAD, PART_SPREAD, WINDOWED = 0.5, 0.4, 4.5
"""Spread of the logarithm of the noise power, spread of the log power of ring parts about the model, and variance of
the log power of one windowed value."""

RINGS, PARTS, STEPS, LARGEST_SIDE = 20, 4, 100, 512

SIZES = (0.64, 0.72, 0.8, 0.88)
"""Relative sizes of the narrower blurs of the same shape that are compared with the given blur."""

Parts = Callable[[Tensor], tuple[Tensor, Tensor]]
"""For parameters [P]: the residuals of the logarithms [M], and the derivatives of the model [P, M]."""


@dataclass(frozen=True)
class SizeReading:
    """The size of a blur of known shape, estimated from the spectrum.

    Attributes:
        size: size of the best-fitting narrower blur relative to the given blur; 1 if it cannot be determined.
        evidence: misfit of the given blur minus misfit of this blur (sums of squares in units of their spread).
    """

    size: float
    evidence: float


def read_size(grey: Tensor, kernel: Tensor, noise: float, rounding: Tensor | None = None) -> SizeReading:
    """Test whether the power |K(s f)|^2 c f^-a + n of a photograph fits the given kernel K (s = 1) or a narrower one.

    The model is fitted to the logarithm of the mean power on rings of equal frequency, each divided into four parts by
    |K|^2. The fit uses the Levenberg-Marquardt method with Gaussian priors on a (2.4 +- 0.4) and log n. If the given
    blur is too wide, a narrower blur (s < 1) fits better; inverting the given blur would amplify detail.

    Args:
        grey: [H, W] in [0, 1]; only the middle of large images is used.
        kernel: [h, w], sums to one.
        noise: standard deviation of the noise of `grey`.
        rounding: for a compressed image, the variance [8, 8] that rounding added to each frequency of its blocks;
            infinite for unknown frequencies, which are ignored.
    """
    grey = middle(grey.double(), LARGEST_SIDE)
    through = torch.stack([_transfer(kernel.double(), grey, size) for size in (1.0, *SIZES)])
    added = grey.new_zeros(grey.shape) if rounding is None else _of_blocks(rounding.double(), grey)
    frequency, power, added, count, lets = _binned(grey, through, added)
    if not len(count):
        return SizeReading(1.0, 0.0)
    told, *smaller = (_law(frequency.log(), power, added, count, one.log(), noise) for one in lets)
    best = min(smaller)
    return SizeReading(SIZES[smaller.index(best)], told - best)


def _law(logarithm: Tensor, power: Tensor, added: Tensor, count: Tensor, lets: Tensor, noise: float) -> float:
    """The smallest misfit of log(|K|^2 c f^-a + n + added)."""
    usual = torch.tensor([0.0, SLOPE, 2 * math.log(noise)], dtype=torch.float64)
    precision = torch.tensor([0.0, SLOPE_SPREAD**-2, NOISE_SPREAD**-2], dtype=torch.float64)

    def parts(p: Tensor) -> tuple[Tensor, Tensor]:
        signal, white = p[0] - p[1] * logarithm + lets, p[2].expand_as(lets)
        total = torch.logaddexp(torch.logaddexp(signal, white), added.log())
        share = (signal - total).exp()
        return power - total, torch.stack([share, -logarithm * share, (white - total).exp()])

    start = usual.clone()
    start[0] = power[0] + SLOPE * logarithm[0] - lets[0]
    return _least_squares(parts, start, usual, precision, _weight(count))


def _weight(count: Tensor) -> Tensor:
    return 1 / (PART_SPREAD**2 + WINDOWED / count)


def _least_squares(parts: Parts, p: Tensor, usual: Tensor, precision: Tensor, weight: Tensor) -> float:
    """The smallest misfit, found by the Levenberg-Marquardt method with Gaussian priors."""

    def misfit(p: Tensor) -> float:
        left, _ = parts(p)
        return float((weight * left.square()).sum() + (precision * (p - usual).square()).sum())

    damping, now = 1e-2, misfit(p)
    for _ in range(STEPS):
        left, slopes = parts(p)
        curvature = (slopes * weight) @ slopes.T + torch.diag(precision)
        step = slopes @ (weight * left) - precision * (p - usual)
        moved = p + torch.linalg.solve(curvature + torch.diag(damping * torch.diagonal(curvature) + 1e-9), step)
        new = misfit(moved)
        better, close = new < now, abs(now - new) < 1e-5
        p, now, damping = (moved, new, damping / 4) if better else (p, now, damping * 4)
        if (better and close) or damping > 1e8:
            break
    return now


def _of_blocks(variances: Tensor, grey: Tensor) -> Tensor:
    """Map variances [8, 8] of block DCT coefficients to the grid of an image's Fourier transform [H, W]."""
    rows, columns = (
        (16 * torch.fft.fftfreq(side, dtype=grey.dtype).abs()).round().long().clamp_max(7) for side in grey.shape
    )
    return variances[rows[:, None], columns[None]]


def _binned(grey: Tensor, through: Tensor, added: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Divide the spectrum into rings of equal frequency, and each ring into parts by the first |K|^2. Return for each
    part: mean frequency (cycles per pixel), logarithm of the mean windowed power, mean of `added` [H, W], number of
    values, and the means of every |K|^2 [K, H, W]. Values with an infinite `added` are left out."""
    height, width = grey.shape
    power = windowed_power(grey)
    axes = (torch.fft.fftfreq(side, dtype=grey.dtype) for side in (height, width))
    frequency = torch.hypot(*torch.meshgrid(*axes, indexing="ij"))
    edges = torch.linspace(2.5 / min(height, width), 0.5, RINGS + 1, dtype=grey.dtype)
    ring = (torch.bucketize(frequency, edges) - 1).flatten()
    ring[added.flatten().isinf()] = -1
    values = torch.cat([frequency[None], power[None], through, added[None]]).flatten(1)
    rows = []
    for i in range(RINGS):
        inside = (ring == i).nonzero()[:, 0]
        order = inside[values[2, inside].argsort(stable=True)]
        for chosen in order.tensor_split(PARTS if len(order) >= 8 * PARTS else 1):
            if len(chosen):
                rows.append(torch.cat([values[:, chosen].mean(1), grey.new_tensor([len(chosen)])]))
    table = torch.stack(rows) if rows else grey.new_empty(0, len(values) + 1)
    places, powers, *lets, more, count = table.T
    return places, powers.clamp_min(1e-20).log(), more, count, torch.stack(lets).clamp_min(1e-12)


def _transfer(kernel: Tensor, grey: Tensor, size: float) -> Tensor:
    """|K(size f)|^2, the power response of a kernel scaled by `size`, on the grid of an image's transform [H, W]."""
    n = max(512, 4 * max(kernel.shape))
    known = torch.fft.fftshift(torch.fft.fft2(kernel, (n, n)).abs().square())
    axes = (torch.fft.fftfreq(side, dtype=grey.dtype) * size for side in grey.shape)
    down, across = torch.meshgrid(*axes, indexing="ij")
    places = torch.stack([across, down], -1) * n / (n - 1) * 2 + 1 / (n - 1)  # n / 2 is the middle of the grid
    return _windowed(F.grid_sample(known[None, None], places[None], align_corners=True, padding_mode="border")[0, 0])


def _windowed(power: Tensor) -> Tensor:
    """Apply the leakage of a Hann window to a power spectrum: each value leaks to its neighbours."""
    for dim in (0, 1):
        power = (4 * power + power.roll(1, dim) + power.roll(-1, dim)) / 6
    return power
