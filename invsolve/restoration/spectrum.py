"""How much of a blur an image's spectrum shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BlurReading", "read_blur", "read_kernel"]

SLOPE, SLOPE_SPREAD = 2.4, 0.4
"""Of photographs, whose power falls as a power of the frequency: the exponent, and how much it differs among them."""

NOISE_SPREAD, RING_SPREAD, PART_SPREAD, WINDOWED = 0.5, 0.3, 0.4, 4.5
"""Of the logarithm of the noise's power, of the power of rings and of their parts about the law, and the variance of a
windowed value's."""

RINGS, STEPS, LARGEST_SIDE = 40, 100, 512


@dataclass(frozen=True)
class BlurReading:
    """What the spectrum shows.

    Attributes:
        share: of the blur's log-attenuation: 1 where the blur is as told, 0.64 where 2.5 pixels were told for 2.
        error: its standard deviation for a photograph of the usual law.
    """

    share: float
    error: float


def read_blur(grey: Tensor, sigma: float, noise: float) -> BlurReading:
    """The share b in the power |K(f)|^(2 b) c f^-a + n of a blurred photograph, K the Gaussian that was told.

    Fitted to the logarithm of the mean power on rings of one frequency by Levenberg and Marquardt's method, with
    Gaussian priors on a (2.4 +- 0.4) and log n. A blur told too wide has a share below 1: undoing it amplifies.

    Args:
        grey: [H, W] in [0, 1]; of large images the middle counts.
        sigma: of the Gaussian in pixels, as told.
        noise: standard deviation of the noise of `grey`.
    """
    frequency, power, count, _ = _binned(_middle(grey.double()), None, RINGS, 1)
    return _fit(frequency.log(), power, count, -((2 * math.pi * frequency * sigma) ** 2), noise, RING_SPREAD)


def read_kernel(grey: Tensor, kernel: Tensor, noise: float) -> BlurReading:
    """`read_blur` for any kernel [h, w]: rings are divided by how much it lets through.

    The share of a shake that was found too short lies above 1. Photographs have directions of their own, so that for
    crooked kernels it is less exact than its error says: between 0.4 and 1.5 for five right ones of six.
    """
    frequency, power, count, through = _binned(_middle(grey.double()), kernel.double(), RINGS // 2, 4)
    return _fit(frequency.log(), power, count, through.log(), noise, PART_SPREAD)


def _fit(logarithm: Tensor, power: Tensor, count: Tensor, steep: Tensor, noise: float, spread: float) -> BlurReading:
    """The fit: logarithms of frequency and power, number of values and logarithm of |K|^2 in each bin."""
    weight = 1 / (spread**2 + WINDOWED / count)
    usual = torch.tensor([0.0, SLOPE, 1.0, 2 * math.log(noise)], dtype=torch.float64)
    precision = torch.tensor([0.0, SLOPE_SPREAD**-2, 0.0, NOISE_SPREAD**-2], dtype=torch.float64)

    def parts(p: Tensor) -> tuple[Tensor, Tensor]:
        signal = p[0] - p[1] * logarithm + p[2] * steep
        left = power - torch.logaddexp(signal, p[3].expand_as(signal))
        share = torch.sigmoid(signal - p[3])
        return left, torch.stack([share, -logarithm * share, steep * share, 1 - share])

    def cost(p: Tensor) -> float:
        left, _ = parts(p)
        return float((weight * left.square()).sum() + (precision * (p - usual).square()).sum())

    found = []
    for start in (0.4, 1.0):
        p = usual.clone()
        p[0], p[2] = power[0] + SLOPE * logarithm[0] - start * steep[0], start
        damping, now = 1e-2, cost(p)
        for _ in range(STEPS):
            left, slopes = parts(p)
            curvature = (slopes * weight) @ slopes.T + torch.diag(precision)
            step = slopes @ (weight * left) - precision * (p - usual)
            ridge = torch.diag(damping * torch.diagonal(curvature) + 1e-9)
            moved = p + torch.linalg.solve(curvature + ridge, step)
            new = cost(moved)
            better, close = new < now, abs(now - new) < 1e-5
            p, now, damping = (moved, new, damping / 4) if better else (p, now, damping * 4)
            if (better and close) or damping > 1e8:
                break
        _, slopes = parts(p)
        curvature = (slopes * weight) @ slopes.T + torch.diag(precision + 1e-9)
        found.append((now, float(p[2]), float(torch.linalg.inv(curvature)[2, 2].clamp_min(0).sqrt())))
    _, share, error = min(found)
    return BlurReading(share, error)


def _binned(grey: Tensor, kernel: Tensor | None, rings: int, parts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of rings of one frequency, each in `parts` by |K|^2: mean frequency (cycles a pixel), logarithm of the mean
    windowed power, number of values, mean |K|^2 (1 without a kernel)."""
    height, width = grey.shape
    down, across = (torch.hann_window(side, dtype=grey.dtype) for side in (height, width))
    window = down[:, None] * across
    mean = (grey * window).sum() / window.sum()
    power = torch.fft.fft2((grey - mean) * window).abs().square() / window.square().sum()
    axes = (torch.fft.fftfreq(side, dtype=grey.dtype) for side in (height, width))
    frequency = torch.hypot(*torch.meshgrid(*axes, indexing="ij"))
    through = torch.ones_like(power) if kernel is None else _windowed(torch.fft.fft2(kernel, grey.shape).abs().square())
    edges = torch.linspace(2.5 / min(height, width), 0.5, rings + 1, dtype=grey.dtype)
    ring = torch.bucketize(frequency, edges) - 1
    rows = []
    for i in range(rings):
        inside = ring == i
        order = through[inside].argsort(stable=True)
        for chosen in order.tensor_split(parts if len(order) >= 8 * parts else 1):
            if len(chosen):
                means = [values[inside][chosen].mean() for values in (frequency, power, through)]
                rows.append(torch.stack([*means, means[0].new_tensor(len(chosen))]))
    places, powers, lets, count = torch.stack(rows).T
    return places, powers.clamp_min(1e-20).log(), count, lets.clamp_min(1e-12)


def _windowed(power: Tensor) -> Tensor:
    """What a Hann window makes of a power spectrum: each value leaks to its neighbours."""
    for dim in (0, 1):
        power = (4 * power + power.roll(1, dim) + power.roll(-1, dim)) / 6
    return power


def _middle(grey: Tensor) -> Tensor:
    top, left = (max(side - LARGEST_SIDE, 0) // 2 for side in grey.shape)
    return grey[top : top + LARGEST_SIDE, left : left + LARGEST_SIDE]
