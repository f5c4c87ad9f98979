"""Fit the kernel that maps given fields to observed ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.operators.transforms import quick_length

__all__ = ["fit_kernel", "onto_simplex", "spectral_grid"]

POWER_STEPS = 6


def fit_kernel(g: Tensor, seen: Tensor, start: Tensor, penalty: float | Tensor, n_steps: int) -> Tensor:
    """Reduce |k * g - seen|^2 + <k, P k> over k >= 0, sum k = 1.

    The method computes the gradient at the start, and minimises a quadratic upper bound of the objective, in which
    |k * g|^2 is summed over the whole grid instead of the observed part. The bound is a convolution with an
    autocorrelation of the kernel's size, so its steps are cheap for images of any size. The steps are accelerated
    projected gradients: Beck and Teboulle 2009, "A fast iterative shrinkage-thresholding algorithm for linear inverse
    problems" (FISTA). Repeated calls, each starting from the previous kernel, reach the minimum.

    Args:
        g: fields [M, h + s - 1, w + s - 1] that the kernel blurs.
        seen: [M, h, w], the observed blurred fields.
        start: kernel [s, s] to start from.
        penalty: P, a number or its spectrum on `spectral_grid(g)`.
        n_steps: steps on the quadratic.
    """
    side, grid = start.shape[0], spectral_grid(g)
    spectrum = torch.fft.rfft2(g, grid)
    window = (slice(side - 1, side - 1 + seen.shape[1]), slice(side - 1, side - 1 + seen.shape[2]))
    ridge = torch.as_tensor(penalty, dtype=g.dtype, device=g.device).expand(spectrum.shape[1:])
    scale = float(g.square().sum())
    penalised = _Lags(ridge / scale, grid, side)
    above = _Lags((spectrum.abs().square().sum(0) + ridge) / scale, grid, side)
    step = 1 / (1.1 * above.largest(start))
    left = torch.fft.irfft2(spectrum * torch.fft.rfft2(start, grid), grid)[:, *window] - seen
    left = F.pad(left, (side - 1, 0, side - 1, 0))
    slope = torch.fft.irfft2((spectrum.conj() * torch.fft.rfft2(left, grid)).sum(0), grid)[:side, :side] / scale
    slope = slope + penalised(start) - above(start)
    k, z, t = start, start, 1.0
    for _ in range(n_steps):
        new = onto_simplex((z - step * (slope + above(z))).flatten()).view(side, side)
        following = 0.5 * (1 + math.sqrt(1 + 4 * t * t))
        z, k, t = new + (t - 1) / following * (new - k), new, following
    return k


class _Lags:
    """Convolution of kernels [s, s] with a filter that is given by its real spectrum on a large grid.

    Args:
        spectrum: [H, W // 2 + 1].
        grid: (H, W), at least 2 s - 1 each.
        side: s.
    """

    def __init__(self, spectrum: Tensor, grid: tuple[int, int], side: int) -> None:
        self.kept, length = slice(side - 1, 2 * side - 1), quick_length(3 * side - 2)
        self.size = (length, length)
        lags = torch.fft.irfft2(spectrum, grid).roll((side - 1, side - 1), (0, 1))[: 2 * side - 1, : 2 * side - 1]
        self.spectrum = torch.fft.rfft2(lags, self.size)

    def __call__(self, kernel: Tensor) -> Tensor:
        return torch.fft.irfft2(self.spectrum * torch.fft.rfft2(kernel, self.size), self.size)[self.kept, self.kept]

    def largest(self, start: Tensor) -> float:
        """Estimate the largest eigenvalue by power iteration."""
        v, size = start, 1.0
        for _ in range(POWER_STEPS):
            v = self(v)
            size = float(v.norm())
            v = v / size
        return size


def spectral_grid(g: Tensor) -> tuple[int, int]:
    """Return the grid of the Fourier transforms in `fit_kernel`."""
    return quick_length(g.shape[1]), quick_length(g.shape[2])


def onto_simplex(v: Tensor) -> Tensor:
    """Project onto the simplex: the nearest point with entries of at least 0 that sum to one."""
    down = v.sort(descending=True).values
    excess = (down.cumsum(0) - 1) / torch.arange(1, len(v) + 1, dtype=v.dtype, device=v.device)
    return (v - excess[int((down > excess).sum()) - 1]).clamp_min(0)
