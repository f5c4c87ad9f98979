"""Least squares for kernels: `fit_kernel` to the end, and a step of `fit_lags`, which costs a tenth of it.

    k = argmin sum_m |k * g_m - d_m|^2 + <k, P k>,  k >= 0, sum k = 1,  where d is seen

`fit_lags` replaces the first term about k0 by |k0 * g - d|^2 - 2 <b, k - k0> + <k - k0, A (k - k0)>: b is exact, the
correlations of g with d - k0 * g at the kernel's shifts; A holds those of g with itself, as if all of it were seen, and
makes a small problem whatever the image's size. Repeated from its own result it leads where `fit_kernel` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.operators.transforms import quick_length

__all__ = ["fit_kernel", "fit_lags", "onto_simplex", "spectral_grid"]

POWER_STEPS = 6


def fit_lags(g: Tensor, seen: Tensor, start: Tensor, penalty: float, n_steps: int) -> Tensor:
    """A step from k0 = `start` towards argmin |k * g - seen|^2 + penalty |k|^2 over k >= 0, sum k = 1.

    Args:
        g: fields [M, h + s - 1, w + s - 1] that the kernel blurs.
        seen: [M, h, w], what became of them.
        start: kernel [s, s].
        penalty: P, a number.
        n_steps: iterations of accelerated projected gradients, of s^2 numbers each.
    """
    side = len(start)
    grid = quick_length(g.shape[1] + side - 1), quick_length(g.shape[2] + side - 1)  # no lag wraps around
    spectrum = torch.fft.rfft2(g, grid)
    shown = torch.fft.irfft2(spectrum * torch.fft.rfft2(start, grid), grid)
    rest = seen - shown[:, side - 1 : side - 1 + seen.shape[1], side - 1 : side - 1 + seen.shape[2]]
    rest = torch.fft.rfft2(F.pad(rest, (side - 1, 0, side - 1, 0)), grid)
    cross = torch.fft.irfft2((spectrum.conj() * rest).sum(0), grid)[:side, :side]
    lags = torch.arange(1 - side, side)
    auto = torch.fft.irfft2(spectrum.abs().square().sum(0), grid)[lags][:, lags]
    small = (quick_length(2 * side),) * 2
    around = auto.new_zeros(small)
    around[(lags % small[0])[:, None], (lags % small[1])[None]] = auto
    scale, transfer = float(auto[side - 1, side - 1]), torch.fft.rfft2(around)

    def applied(k: Tensor) -> Tensor:
        return torch.fft.irfft2(transfer * torch.fft.rfft2(k, small), small)[:side, :side] / scale

    if scale == 0:  # nothing that a kernel could blur
        return start
    ridge, right = penalty / scale, cross / scale + applied(start)
    step = 1 / (float(transfer.abs().max()) / scale + ridge)
    return _projected(lambda k: applied(k) + ridge * k - right, start, step, n_steps)


def _projected(slope: Callable[[Tensor], Tensor], start: Tensor, step: float, n_steps: int) -> Tensor:
    """FISTA on the simplex."""
    k, z, t = start, start, 1.0
    for _ in range(n_steps):
        new = onto_simplex((z - step * slope(z)).flatten()).view_as(start)
        following = 0.5 * (1 + math.sqrt(1 + 4 * t * t))
        z, k, t = new + (t - 1) / following * (new - k), new, following
    return k


def fit_kernel(g: Tensor, seen: Tensor, start: Tensor, penalty: float | Tensor, n_steps: int) -> Tensor:
    """argmin |k * g - seen|^2 + <k, P k> over k >= 0, sum k = 1, by accelerated projected gradients.

    Beck and Teboulle 2009, "A fast iterative shrinkage-thresholding algorithm for linear inverse problems" (FISTA).

    Args:
        g: fields [M, h + s - 1, w + s - 1] that the kernel blurs.
        seen: [M, h, w], what became of them.
        start: kernel [s, s] to start from.
        penalty: P, a number or its spectrum on `spectral_grid(g)`.
        n_steps: iterations.
    """
    side, grid = start.shape[0], spectral_grid(g)
    spectrum = torch.fft.rfft2(g, grid)
    window = (slice(side - 1, side - 1 + seen.shape[1]), slice(side - 1, side - 1 + seen.shape[2]))
    scale = float(g.square().sum())

    def blurred(k: Tensor) -> Tensor:
        return torch.fft.irfft2(spectrum * torch.fft.rfft2(k, grid), grid)[:, *window]

    def back(r: Tensor) -> Tensor:
        r = F.pad(r, (side - 1, 0, side - 1, 0))
        return torch.fft.irfft2((spectrum.conj() * torch.fft.rfft2(r, grid)).sum(0), grid)[:side, :side] / scale

    def penalised(k: Tensor) -> Tensor:
        if isinstance(penalty, float):
            return penalty / scale * k
        return torch.fft.irfft2(penalty / scale * torch.fft.rfft2(k, grid), grid)[:side, :side]

    right, v, bound = back(seen), start, 1.0
    for _ in range(POWER_STEPS):
        v = back(blurred(v)) + penalised(v)
        bound = float(v.norm())
        v = v / bound
    return _projected(lambda k: back(blurred(k)) + penalised(k) - right, start, 1 / (1.1 * bound), n_steps)


def spectral_grid(g: Tensor) -> tuple[int, int]:
    """The grid of the Fourier transforms in `fit_kernel`."""
    return quick_length(g.shape[1]), quick_length(g.shape[2])


def onto_simplex(v: Tensor) -> Tensor:
    """The nearest point with entries of at least 0 that sum to one."""
    down = v.sort(descending=True).values
    excess = (down.cumsum(0) - 1) / torch.arange(1, len(v) + 1, dtype=v.dtype, device=v.device)
    return (v - excess[int((down > excess).sum()) - 1]).clamp_min(0)
