"""Evidence about the blur of an image, as pictures of the kernel's size that a network can compare.

    spectrum     A = F^-1[ w (|Y|^2 - sigma^2) / (S + 20 sigma^2) ],  w = 1 - exp(-(f / 0.02)^2)
    of a kernel  B = F^-1[ w S |K|^2 / (S + 20 sigma^2) ]
    edges        D = F^-1[ sum conj(G) grad Y / (sum |G|^2 + ridge) ],  G the strongest gradients of a sharpened image

A is the autocorrelation of the kernel, estimated from the image with the spectrum of photographs, S = c f^-2.4. B is
the same for a given kernel. D is the unconstrained kernel that maps the sharp edges to the observed image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.tasks.blind.edges import sharpened, strong_gradients
from invsolve.tasks.blind.fit import spectral_grid
from invsolve.tasks.blind.spectrum import frequencies, of_kernel, of_photographs, periodogram, scale_of

__all__ = ["CHANNELS", "evidence_of"]

CHANNELS = 11

_DOUBT, _LOW = 20.0, 0.02
_SPARSITY, _KEPT, _RIDGES = 5e-4, 0.4, (0.02, 0.2)


def evidence_of(grey: Tensor, kernel: Tensor, sigma: float) -> Tensor:
    """Compute the evidence of `grey` [H, W] about an estimate of its kernel [s, s], as pictures [CHANNELS, s, s].

    The pictures are: the kernel, its square root, A, B, A - B, A and B at half the scale, D for two ridges, the noise
    level, and the kernel's largest entry.

    Args:
        grey: in [0, 1], larger than 2 s.
        kernel: sums to one.
        sigma: standard deviation of the noise of `grey`, above 0.
    """
    side, grid = kernel.shape[0], (grey.shape[0], grey.shape[1])
    images = of_photographs(grid, float(scale_of(grey)), grey)
    seen = _autocorrelation(periodogram(grey) - sigma**2, images, grid, sigma, side)
    own = _autocorrelation(of_kernel(kernel, grid).abs().square() * images, images, grid, sigma, side)
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


def _autocorrelation(power: Tensor, images: Tensor, grid: tuple[int, int], sigma: float, side: int) -> Tensor:
    """Autocorrelation [2 s - 1, 2 s - 1] from a spectrum, whitened by that of photographs; lag 0 centred, maximum 1."""
    radius = torch.hypot(*frequencies(grid, power))
    trusted = (1 - torch.exp(-((radius / _LOW) ** 2))) / (images + _DOUBT * sigma**2)
    lags = torch.fft.irfft2(trusted * power, grid).roll((side - 1, side - 1), (0, 1))[: 2 * side - 1, : 2 * side - 1]
    return lags / lags.abs().max().clamp_min(1e-12)


def _deconvolved(grey: Tensor, kernel: Tensor) -> list[Tensor]:
    """D for each ridge, scaled to a maximum of 1."""
    side = kernel.shape[0]
    g, seen = strong_gradients(sharpened(grey, kernel, _SPARSITY), grey, _KEPT)
    grid = spectral_grid(g)
    spectrum = torch.fft.rfft2(g, grid)
    fits = (spectrum.conj() * torch.fft.rfft2(F.pad(seen, (side - 1, 0, side - 1, 0)), grid)).sum(0)
    power = spectrum.abs().square().sum(0)
    kernels = [torch.fft.irfft2(fits / (power + r * power.mean()), grid)[:side, :side] for r in _RIDGES]
    return [k / k.abs().max().clamp_min(1e-12) for k in kernels]
