"""The blur kernel of a photograph, found from the photograph alone.

Coarse to fine over the picture's scales, two steps in turn:

    picture   x = argmin |k * x - y|^2 + lam |grad x|_0
    kernel    k = argmin |k * g - grad y|^2 + ridge |k|^2,  k >= 0, sum k = 1,  g = the strongest gradients of x

The picture has fewer and sharper edges than a photograph, which is what moves k: a picture that only explains y leaves
every k where it is, and drifts towards no blur at all (Levin, Weiss, Durand and Freeman 2009, "Understanding and
evaluating blind deconvolution algorithms", CVPR). The gradient-sparse picture is that of Xu, Zheng and Jia 2013,
"Unnatural L0 sparse representation for natural image deblurring", CVPR; pruning of the kernel follows Pan, Hu, Su and
Yang 2014, "Deblurring text images via L0-regularized intensity and gradient prior", CVPR. What these edges are good
for is the kernel; the picture itself is then restored by the prior.

Both steps are circular convolutions on a grid larger than the picture. What y would be in the margin is unknown: it is
filled with what the present x and k say it is, so that the border has no say in the fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError
from invsolve.operators import gaussian_kernel
from invsolve.operators.transforms import quick_length

__all__ = ["KernelEstimator", "centre_of_mass", "check_size", "estimate_kernel"]

SMALLEST = 3
LARGEST_SIDE = 768
"""Of larger pictures the part with the most contrast is used."""
EPSILON = 1e-12
KERNEL_STEPS = 100


@dataclass(frozen=True)
class KernelEstimator:
    """Settings of `estimate_kernel`.

    Args:
        sparsities: lam at the coarsest scale for pictures in [0, 1], one an attempt; the best attempt is kept.
        decay: of lam from turn to turn, down to `least_sparsity`.
        least_sparsity: see above.
        n_steps: turns at each scale.
        hardest: the penalty beta of half-quadratic splitting doubles from 2 lam up to this.
        refills: the margin is filled anew every so many doublings, up to `last_refill` of beta.
        last_refill: see above.
        kept: share of the gradients that the kernel is fitted to.
        ridge: in squared grey levels.
        threshold: kernel entries below this share of the largest are none.
        stray: connected parts of the kernel with a smaller share of its mass are none.
        growth: of the kernel's side from scale to scale.
        judge: lam of the objective by which attempts are compared.
    """

    sparsities: tuple[float, ...] = (4e-3, 1e-2)
    decay: float = 1 / 1.1
    least_sparsity: float = 1e-4
    n_steps: int = 8
    hardest: float = 1e4
    refills: int = 4
    last_refill: float = 1e3
    kept: float = 0.1
    ridge: float = 2.0
    threshold: float = 0.05
    stray: float = 0.02
    growth: float = math.sqrt(2)
    judge: float = 2e-3

    def sides(self, size: int) -> list[int]:
        """Odd sides of the kernel from 3 to `size`, one a scale."""
        sides = [size]
        while sides[-1] > SMALLEST:
            smaller = round(sides[-1] / self.growth) // 2 * 2 + 1
            sides.append(max(SMALLEST, min(smaller, sides[-1] - 2)))
        return sides[::-1]


def estimate_kernel(picture: Tensor, size: int, settings: KernelEstimator | None = None) -> Tensor:
    """What a point of light became, [size, size]: at least 0, sums to one, its centre of mass in the middle.

    Args:
        picture: the blurred picture [C, H, W] in [0, 1].
        size: side of the kernel, odd and at least 3, and larger than the blur.
        settings: of the estimation.

    Raises:
        InputError: an even or too large size, or a picture without contrast.
    """
    settings = settings or KernelEstimator()
    check_size(size, (picture.shape[1], picture.shape[2]))
    grey = _window(picture.detach().cpu().float().mean(0))
    if float(_gradients(grey)[:, :-1, :-1].abs().max()) < 1e-4:
        raise InputError("the picture has no contrast from which a blur could be told")
    attempts = [_attempt(grey, size, lam, settings) for lam in settings.sparsities]
    if len(attempts) > 1:
        attempts.sort(key=lambda kernel: _objective(grey, kernel, settings))
    return attempts[0].double() / attempts[0].double().sum()


def check_size(size: int, picture: tuple[int, int]) -> None:
    """Raise `InputError` unless a kernel of `size` can be looked for in a picture of (height, width)."""
    if isinstance(size, bool) or int(size) != size or size < SMALLEST or size % 2 == 0:
        raise InputError(f"the kernel's size is an odd number of pixels of at least {SMALLEST}, got {size}")
    if 3 * size > min(picture):
        raise InputError(
            f"a kernel of {size} pixels cannot be found in a picture of {picture[1]} x {picture[0]} pixels: "
            f"--kernel-size is at most a third of that"
        )


def _attempt(grey: Tensor, size: int, lam: float, settings: KernelEstimator) -> Tensor:
    """The kernel at the last scale, from a small round one at the first."""
    kernel = gaussian_kernel(0.6, SMALLEST // 2).float()
    for side in settings.sides(size):
        scaled = (round(grey.shape[0] * side / size), round(grey.shape[1] * side / size))
        y = grey if side == size else _resized(grey, scaled)
        if side != kernel.shape[0]:
            kernel = _resized(kernel, (side, side)).clamp_min(0)
            kernel = kernel / kernel.sum()
        filled = _periodic(y, side // 2)
        for _ in range(settings.n_steps):
            x, filled = _sparse_picture(y, filled, kernel, lam, settings)
            kernel = _tidy(_kernel_step(x, filled, kernel, settings), settings)
            kernel = centre_of_mass(kernel)
            lam = max(lam * settings.decay, settings.least_sparsity)
    return kernel


def _objective(y: Tensor, kernel: Tensor, settings: KernelEstimator) -> float:
    """min over x of |k * x - y|^2 + lam |grad x|_0, a pixel: which kernel explains the picture by the fewest edges."""
    lam = settings.judge
    x, filled = _sparse_picture(y, _periodic(y, kernel.shape[0] // 2), kernel, lam, settings)
    size = (x.shape[0], x.shape[1])
    seen = (slice(0, y.shape[0]), slice(0, y.shape[1]))
    misfit = torch.fft.irfft2(_transfer(kernel, size) * torch.fft.rfft2(x), size) - filled
    edges = _gradients(x).square().sum(0) > 4 * lam / settings.hardest
    return float(misfit[seen].square().mean() + lam * edges[seen].float().mean())


def _window(grey: Tensor) -> Tensor:
    """The whole picture, or of a large one the square with the most contrast."""
    h, w = min(grey.shape[0], LARGEST_SIDE), min(grey.shape[1], LARGEST_SIDE)
    if (h, w) == tuple(grey.shape):
        return grey
    contrast = F.pad(_gradients(grey)[:, :-1, :-1].square().sum(0), (0, 1, 0, 1))[None, None]
    sums = F.avg_pool2d(contrast, (h, w), stride=32)[0, 0]
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    return grey[32 * row : 32 * row + h, 32 * column : 32 * column + w]


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x[None, None], size=size, mode="bicubic", antialias=True, align_corners=False)[0, 0]


def _gradients(x: Tensor) -> Tensor:
    """Circular forward differences along rows and columns, [2, H, W]."""
    return torch.stack([x.roll(-1, 1) - x, x.roll(-1, 0) - x])


def _tidy(kernel: Tensor, settings: KernelEstimator) -> Tensor:
    """The kernel without its faint entries and its small unconnected parts (the largest part always stays)."""
    from scipy import ndimage

    kernel = torch.where(kernel < settings.threshold * kernel.max(), 0.0, kernel)
    kernel = kernel / kernel.sum()
    parts = np.zeros(kernel.shape, np.int32)
    ndimage.label(kernel.numpy() > 0, [[1] * 3] * 3, output=parts)
    labels = torch.from_numpy(parts).long()
    mass = torch.zeros(int(labels.max()) + 1).index_add_(0, labels.flatten(), kernel.flatten())
    kernel = torch.where(mass[labels] < min(settings.stray, float(mass.max())), 0.0, kernel)
    return kernel / kernel.sum()


def centre_of_mass(kernel: Tensor) -> Tensor:
    """The kernel moved by whole pixels so that its centre of mass is in the middle; what leaves the frame is lost."""
    side = kernel.shape[0]
    at = torch.arange(side, dtype=kernel.dtype) - side // 2
    total = kernel.sum()
    down, right = round(float(kernel.sum(1) @ at / total)), round(float(kernel.sum(0) @ at / total))
    moved = F.pad(kernel, (side, side, side, side))
    moved = moved[side + down : 2 * side + down, side + right : 2 * side + right]
    return moved / moved.sum()


def _sparse_picture(
    y: Tensor, filled: Tensor, kernel: Tensor, lam: float, settings: KernelEstimator
) -> tuple[Tensor, Tensor]:
    """(argmin |k * x - y|^2 + lam |grad x|_0 by half-quadratic splitting, y with its margin filled by k * x)."""
    size = (filled.shape[0], filled.shape[1])
    blur = _transfer(kernel, size)
    down, across = (2 * math.pi * torch.arange(n) / m for n, m in zip((size[0], size[1] // 2 + 1), size, strict=True))
    steep = (2 - 2 * down.cos())[:, None] + (2 - 2 * across.cos())[None]
    power, data = blur.abs().square(), blur.conj() * torch.fft.rfft2(filled)
    x, beta, turn = filled, 2 * lam, 0
    while beta < settings.hardest:
        g = _gradients(x)
        g = g * (g.square().sum(0) > lam / beta)
        pulled = (g[0].roll(1, 1) - g[0]) + (g[1].roll(1, 0) - g[1])
        spectrum = (data + beta * torch.fft.rfft2(pulled)) / (power + beta * steep + EPSILON)
        x = torch.fft.irfft2(spectrum, size)
        beta, turn = 2 * beta, turn + 1
        if turn % settings.refills == 0 and beta < settings.last_refill:
            filled = torch.fft.irfft2(blur * spectrum, size)
            filled[: y.shape[0], : y.shape[1]] = y
            data = blur.conj() * torch.fft.rfft2(filled)
    return x, filled


def _periodic(y: Tensor, margin: int) -> Tensor:
    """y with at least `2 margin` more rows and columns, in which one edge runs smoothly into the other."""
    for dim in (0, 1):
        extra = quick_length(y.shape[dim] + 2 * margin) - y.shape[dim]
        share = (torch.arange(extra, dtype=y.dtype) + 1) / (extra + 1)
        share = share[:, None] if dim == 0 else share[None]
        last, first = y.narrow(dim, y.shape[dim] - 1, 1), y.narrow(dim, 0, 1)
        y = torch.cat([y, (1 - share) * last + share * first], dim)
    return y


def _transfer(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    side = kernel.shape[0]
    grid = kernel.new_zeros(size)
    grid[:side, :side] = kernel
    return torch.fft.rfft2(grid.roll((-(side // 2), -(side // 2)), (0, 1)))


def _kernel_step(x: Tensor, filled: Tensor, start: Tensor, settings: KernelEstimator) -> Tensor:
    """argmin |k * g - grad y|^2 + ridge |k|^2 over k >= 0, then sum k = 1; g the strongest gradients of x.

    The normal equations hold correlations of g at shifts within the kernel alone, so that accelerated projected
    gradients (Beck and Teboulle 2009, FISTA) run on a grid of the kernel's size.
    """
    side, size = start.shape[0], (x.shape[0], x.shape[1])
    g = _gradients(x)
    strength = g.square().sum(0)
    weakest = strength.flatten().sort().values[int((1 - settings.kept) * strength.numel())]
    spectrum = torch.fft.rfft2(torch.where(strength >= weakest, g, 0.0))
    auto = torch.fft.irfft2(spectrum.abs().square().sum(0), size)
    cross = torch.fft.irfft2((spectrum.conj() * torch.fft.rfft2(_gradients(filled))).sum(0), size)
    scale = auto[0, 0].clamp_min(EPSILON)
    right = cross.roll((side // 2, side // 2), (0, 1))[:side, :side] / scale
    ridge = settings.ridge / float(scale)
    n = quick_length(3 * side)
    reach = 2 * side - 1
    near = F.pad(auto.roll((side - 1, side - 1), (0, 1))[:reach, :reach], (0, n - reach, 0, n - reach)) / scale
    normal = torch.fft.rfft2(near.roll((1 - side, 1 - side), (0, 1)))
    step = 1 / (float(normal.abs().max()) + ridge)
    k, z, t = start, start, 1.0
    for _ in range(KERNEL_STEPS):
        slope = torch.fft.irfft2(normal * torch.fft.rfft2(z, (n, n)), (n, n))[:side, :side] + ridge * z - right
        new = (z - step * slope).clamp_min(0)
        following = 0.5 * (1 + math.sqrt(1 + 4 * t * t))
        z, k, t = new + (t - 1) / following * (new - k), new, following
    return k / k.sum() if float(k.sum()) > 0 else start
