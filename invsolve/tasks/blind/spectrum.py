"""Spectra of photographs and of kernels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["EXPONENT", "frequencies", "of_kernel", "of_photographs", "periodogram", "scale_of"]

EXPONENT, LOW = -2.4, (0.01, 0.08)
"""Exponent of the spectrum of photographs, and frequency range (cycles per pixel) used to estimate its scale."""


def frequencies(grid: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the frequencies in cycles per pixel along columns [H, 1] and rows [1, W // 2 + 1]."""
    down = torch.fft.fftfreq(grid[0], dtype=like.dtype, device=like.device)[:, None]
    return down, torch.fft.rfftfreq(grid[1], dtype=like.dtype, device=like.device)[None]


def of_photographs(grid: tuple[int, int], scale: float | Tensor, like: Tensor) -> Tensor:
    """S = c f^-2.4 on the grid of a real Fourier transform, with c = `scale`."""
    return scale * torch.hypot(*frequencies(grid, like)).clamp_min(1 / max(grid)) ** EXPONENT


def of_kernel(kernels: Tensor, grid: tuple[int, int]) -> Tensor:
    """The Fourier transform of kernels [..., s, s] on a larger grid, with the origin at their middle."""
    side = kernels.shape[-1]
    padded = F.pad(kernels, (0, grid[1] - side, 0, grid[0] - side))
    return torch.fft.rfft2(padded.roll((-(side // 2), -(side // 2)), (-2, -1)))


def periodogram(image: Tensor) -> Tensor:
    """The power spectrum of an image [H, W] under a Hann window; white noise has its variance at every frequency."""
    down, across = (torch.hann_window(side, dtype=image.dtype, device=image.device) for side in image.shape)
    window = down[:, None] * across[None]
    return torch.fft.rfft2((image - image.mean()) * window).abs().square() / window.square().sum()


def scale_of(image: Tensor) -> Tensor:
    """Estimate c of S = c f^-2.4 for an image [H, W] from the mean log periodogram, whose bias is Euler's constant."""
    power = periodogram(image)
    radius = torch.hypot(*frequencies((image.shape[0], image.shape[1]), image))
    low = (radius > max(LOW[0], 2 / min(image.shape))) & (radius < LOW[1])
    mean = (power[low] * radius[low] ** -EXPONENT).clamp_min(1e-12).log().mean()
    return (mean + 0.5772).exp()
