"""What an image says about its blur, as pictures of the kernel's size that a network can compare.

    spectrum     A = F^-1[ w (|Y|^2 - sigma^2) / (S + 20 sigma^2) ],  w = 1 - exp(-(f / 0.02)^2)
    of a kernel  B = F^-1[ w S |K|^2 / (S + 20 sigma^2) ]
    edges        D = F^-1[ sum conj(G) grad Y / (sum |G|^2 + ridge) ],  G the strongest gradients of a sharpened image

A is the autocorrelation of the kernel as the spectrum of photographs, S = c f^-2.4, leaves it in the image; B what that
of a kernel would look like; D the kernel that turns the image's edges into what is seen, with no constraint on it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.tasks.blind.edges import sharpened, strong_gradients
from invsolve.tasks.blind.fit import spectral_grid
from invsolve.tasks.blind.joint import EXPONENT, frequencies, size_of_spectrum

__all__ = ["CHANNELS", "evidence_of", "of_kernel", "spectrum_of_photographs"]

CHANNELS = 11

_DOUBT, _LOW = 20.0, 0.02
_RIDGES = (0.02, 0.2)
_KEPT = 0.4


def evidence_of(grey: Tensor, kernel: Tensor, sigma: float) -> Tensor:
    """What `grey` [H, W] says about an estimate of its kernel [s, s], in pictures [CHANNELS, s, s].

    The kernel, its root, A, B, A - B, A and B at half the scale, D for two ridges, the level of the noise, and the
    kernel's largest entry.

    Args:
        grey: in [0, 1], larger than 2 s.
        kernel: sums to one.
        sigma: standard deviation of the noise of `grey`, above 0.
    """
    side = kernel.shape[0]
    size = size_of_spectrum(grey)
    seen = _autocorrelation_of_image(grey, float(size), sigma, side)
    own = _autocorrelation_of_kernel(kernel, float(size), sigma, (grey.shape[0], grey.shape[1]), side)
    middle = slice(side // 2, side // 2 + side)
    near = [a[middle, middle] for a in (seen, own)]
    far = [F.avg_pool2d(a[None, None], 3, 2, padding=1, count_include_pad=False)[0, 0] for a in (seen, own)]
    top = kernel.max()
    return torch.stack(
        [
            kernel / top,
            (kernel / top).sqrt(),
            *near,
            near[0] - near[1],
            *far,
            *_deconvolved(grey, kernel),
            torch.full_like(kernel, math.log10(sigma) + 2.3),
            torch.full_like(kernel, 3 * float(top)),
        ]
    )


def of_kernel(kernels: Tensor, grid: tuple[int, int]) -> Tensor:
    """The Fourier transform of kernels [..., s, s] on a larger grid, about their middles."""
    side = kernels.shape[-1]
    padded = F.pad(kernels, (0, grid[1] - side, 0, grid[0] - side))
    return torch.fft.rfft2(padded.roll((-(side // 2), -(side // 2)), (-2, -1)))


def _autocorrelation_of_image(grey: Tensor, size: float, sigma: float, side: int) -> Tensor:
    height, width = grey.shape
    down, across = (torch.hann_window(n, dtype=grey.dtype, device=grey.device) for n in (height, width))
    window = down[:, None] * across[None]
    power = torch.fft.rfft2((grey - grey.mean()) * window).abs().square() / window.square().sum()
    return _lags(power - sigma**2, (height, width), size, sigma, side)


def _autocorrelation_of_kernel(
    kernel: Tensor, size: float, sigma: float, grid: tuple[int, int], side: int
) -> Tensor:  # fmt: skip
    power = of_kernel(kernel, grid).abs().square() * spectrum_of_photographs(grid, size, kernel)
    return _lags(power, grid, size, sigma, side)


def _lags(power: Tensor, grid: tuple[int, int], size: float, sigma: float, side: int) -> Tensor:
    """[2 s - 1, 2 s - 1], lag 0 in the middle, the largest 1."""
    radius = torch.hypot(*frequencies(grid, power))
    trusted = (1 - torch.exp(-((radius / _LOW) ** 2))) / (
        spectrum_of_photographs(grid, size, power) + _DOUBT * sigma**2
    )
    lags = torch.fft.irfft2(trusted * power, grid).roll((side - 1, side - 1), (0, 1))[: 2 * side - 1, : 2 * side - 1]
    return lags / lags.abs().max().clamp_min(1e-12)


def spectrum_of_photographs(grid: tuple[int, int], size: float, like: Tensor) -> Tensor:
    """S = c f^-2.4 on the grid of a real Fourier transform, with c = `size`."""
    return size * torch.hypot(*frequencies(grid, like)).clamp_min(1 / max(grid)) ** EXPONENT


def _deconvolved(grey: Tensor, kernel: Tensor) -> list[Tensor]:
    """D for each ridge, the largest 1."""
    side = kernel.shape[0]
    g, seen = strong_gradients(sharpened(grey, kernel), grey, _KEPT)
    grid = spectral_grid(g)
    spectrum = torch.fft.rfft2(g, grid)
    fits = (spectrum.conj() * torch.fft.rfft2(F.pad(seen, (side - 1, 0, side - 1, 0)), grid)).sum(0)
    power = spectrum.abs().square().sum(0)
    kernels = [torch.fft.irfft2(fits / (power + r * power.mean()), grid)[:side, :side] for r in _RIDGES]
    return [k / k.abs().max().clamp_min(1e-12) for k in kernels]
