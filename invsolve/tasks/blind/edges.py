"""Estimate the blur kernel of a photograph from the photograph alone.

Two steps alternate, from the coarsest to the finest scale of the image:

    image   x = argmin |k * x - y|^2 + lam |grad x|_0, then a few shock-filter steps: few, sharp edges
    kernel    a few steps towards argmin |k * g - grad y|^2 + ridge |k|^2,  k >= 0, sum k = 1,
              g = the strongest gradients of x

The image is made sharper than k alone explains, and this changes k. An image that only explains y would not change k,
and would drift towards no blur at all (Levin, Weiss, Durand and Freeman 2009, "Understanding and evaluating blind
deconvolution algorithms", CVPR). Edge prediction follows Cho and Lee 2009, "Fast motion deblurring", ACM Trans. Graph.
The gradient-sparse image follows Xu, Zheng and Jia 2013, "Unnatural L0 sparse representation for natural image
deblurring", CVPR. `invsolve.tasks.blind.network` corrects the kernel. `invsolve.tasks.blind.joint` gives a second
estimate, with the prior.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError
from invsolve.operators import gaussian_kernel
from invsolve.operators.transforms import quick_length
from invsolve.tasks.blind.fit import fit_kernel
from invsolve.tasks.blind.spectrum import of_kernel

__all__ = [
    "centred",
    "check_size",
    "estimate_kernel",
    "gradients",
    "grey_window",
    "refitted",
    "sharpened",
    "sides_of",
    "strong_gradients",
    "tidy",
    "window_of",
]

SMALLEST = 3
LEAST_SIDE = 28
"""Smallest side in pixels of an image for blur estimation; smaller images lack the frequencies that are used."""

LARGEST_SIDE = 768
"""Largest side in pixels. Of larger images, the part with the most contrast is used."""
EPSILON = 1e-12
KERNEL_STEPS = 6
"""Steps of each kernel fit, see `fit_kernel`. They are few, so that the kernel follows the image in small steps: a full
fit would treat the errors of the first sharpened images as truth."""
REFIT_SPARSITIES, REFIT_FAINT = (6e-4, 4e-4, 2e-4), 0.02
"""lam of each iteration of `refitted`, and the share of the largest entry below which start entries are set to 0."""
EXTENT = 0.05
"""The extent of a kernel contains the rows and columns whose sum is at least this share of the largest sum."""


ITERATIONS = 12
"""Iterations at each scale."""

SPARSITY, LEAST_SPARSITY, DECAY = 3e-3, 2e-4, 0.85
"""lam of the first iteration for images in [0, 1], its lower limit, and its factor from iteration to iteration."""

SHOCKS = 4
"""Shock-filter steps of the first iteration, decreasing to 0."""

KEPT = (0.08, 0.4)
"""Share of the gradients that the kernel is fitted to, in the first and last iteration."""

RIDGE = 1e-2
"""Ridge weight in units of the sum of the squared gradients."""

FAINT = 0.04
"""Kernel entries below this share of the largest are set to 0."""

GROWTH = 1.4
"""Growth factor of the kernel's side from scale to scale."""


def sides_of(size: int) -> list[int]:
    """Return the odd sides of the kernel from 3 to `size`, one per scale."""
    sides = [size]
    while sides[-1] > SMALLEST:
        smaller = round(sides[-1] / GROWTH) // 2 * 2 + 1
        sides.append(max(SMALLEST, min(smaller, sides[-1] - 2)))
    return sides[::-1]


def estimate_kernel(image: Tensor, size: int) -> Tensor:
    """Estimate the blur kernel, [size, size]: non-negative, sums to one, and centred (`centred`).

    Args:
        image: the blurred image [C, H, W] in [0, 1].
        size: side of the kernel, odd and at least 3, and larger than the blur.

    Raises:
        InputError: an even or too large size, or an image without contrast.
    """
    check_size(size, (image.shape[1], image.shape[2]))
    grey = grey_window(image)
    if float(gradients(grey).abs().max()) < 1e-4:
        raise InputError("the image has no contrast, so its blur cannot be estimated")
    kernel = gaussian_kernel(0.6, SMALLEST // 2).float()
    for side in sides_of(size):
        scaled = (round(grey.shape[0] * side / size), round(grey.shape[1] * side / size))
        y = grey if side == size else _resized(grey, scaled)
        if side != kernel.shape[0]:
            kernel = tidy(_resized(kernel, (side, side)), FAINT)
        kernel = _at_scale(y, kernel)
    return kernel.double() / kernel.double().sum()


def grey_window(image: Tensor) -> Tensor:
    """Return the grey part of [C, H, W] with the most contrast, [h, w] in float32 on the CPU, for kernel estimation."""
    grey = image.detach().cpu().float().mean(0)
    return grey[window_of(grey, LARGEST_SIDE)]


def refitted(grey: Tensor, kernel: Tensor) -> Tensor:
    """Refit a given kernel [s, s] to the edges that it predicts in the grey image, without shock filter.

    Few iterations are used, so that the kernel changes little if the edges contain little information.
    """
    kernel = centred(tidy(kernel.to(grey), REFIT_FAINT))
    for lam in REFIT_SPARSITIES:
        x = sharpened(grey, kernel, lam)
        kernel = _kernel_step(x, grey, kernel, RIDGE, KEPT[1])
        kernel = centred(tidy(kernel, FAINT))
    return kernel.double() / kernel.double().sum()


def check_size(size: int, image: tuple[int, int]) -> None:
    """Raise `InputError` if a kernel of `size` cannot be estimated from an image of (height, width)."""
    if isinstance(size, bool) or int(size) != size or size < SMALLEST or size % 2 == 0:
        raise InputError(f"the kernel size must be an odd number of at least {SMALLEST} pixels, got {size}")
    if min(image) < LEAST_SIDE:
        raise InputError(
            f"a blur cannot be found in an image of {image[1]} x {image[0]} pixels: it takes at least {LEAST_SIDE} on "
            "each side"
        )
    if 3 * size > min(image):
        raise InputError(
            f"a kernel of {size} pixels cannot be found in an image of {image[1]} x {image[0]} pixels: "
            f"--kernel-size must be at most a third of that"
        )


def _at_scale(y: Tensor, kernel: Tensor) -> Tensor:
    for k in range(ITERATIONS):
        progress = k / max(ITERATIONS - 1, 1)
        lam = max(SPARSITY * DECAY**k, LEAST_SPARSITY)
        x = sharpened(y, kernel, lam)
        x = _shock(x, round(SHOCKS * (1 - progress)))
        kept = KEPT[0] + (KEPT[1] - KEPT[0]) * progress
        kernel = tidy(_kernel_step(x, y, kernel, RIDGE, kept), FAINT)
        kernel = centred(kernel)
    return kernel


def window_of(grey: Tensor, side: int) -> tuple[slice, slice]:
    """Return rows and columns of the part [side, side] with the most contrast; of a smaller image, all of them."""
    h, w = min(grey.shape[0], side), min(grey.shape[1], side)
    if (h, w) == tuple(grey.shape):
        return slice(None), slice(None)
    contrast = F.pad(gradients(grey).square().sum(0), (0, 1, 0, 1))[None, None]
    sums = F.avg_pool2d(contrast, (h, w), stride=32)[0, 0]
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    return slice(32 * row, 32 * row + h), slice(32 * column, 32 * column + w)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x[None, None], size=size, mode="bicubic", antialias=True, align_corners=False)[0, 0]


def gradients(x: Tensor) -> Tensor:
    """Forward differences along columns and rows, [2, H - 1, W - 1]."""
    return torch.stack([x[1:, 1:] - x[1:, :-1], x[1:, 1:] - x[:-1, 1:]])


def tidy(kernel: Tensor, threshold: float) -> Tensor:
    """Set kernel entries below this share of the largest to 0, and normalise the sum to one."""
    kernel = torch.where(kernel < threshold * kernel.max(), 0.0, kernel)
    return kernel / kernel.sum()


def centred(kernel: Tensor) -> Tensor:
    """Shift the kernel by whole pixels so that its middle is in the centre; entries outside the frame are dropped.

    The position of the image before the blur cannot be known. Kernels usually have their centre of mass or the middle
    of their extent in the centre; the point half-way between the two is never far from either.
    """
    side = kernel.shape[0]
    down, right = (round(_middle(kernel.sum(1 - dim)) - side // 2) for dim in (0, 1))
    moved = F.pad(kernel, (side, side, side, side))
    moved = moved[side + down : 2 * side + down, side + right : 2 * side + right]
    return moved / moved.sum()


def _middle(profile: Tensor) -> float:
    """Half-way between the centre of mass of a sum along rows or columns and the middle of its extent."""
    at = torch.arange(len(profile), dtype=profile.dtype, device=profile.device)
    within = (profile >= EXTENT * profile.max()).nonzero()
    return float(profile @ at / profile.sum() + (within[0, 0] + within[-1, 0]) / 2) / 2


def sharpened(y: Tensor, kernel: Tensor, lam: float) -> Tensor:
    """argmin |k * x - y|^2 + lam |grad x|_0 by half-quadratic splitting, on the scene of y with a margin."""
    radius = kernel.shape[0] // 2
    extended = _periodic(y, 2 * radius)
    size = (extended.shape[0], extended.shape[1])
    blur = of_kernel(kernel, size)
    across, down = extended.new_zeros(size), extended.new_zeros(size)
    across[0, 0], across[0, -1], down[0, 0], down[-1, 0] = -1.0, 1.0, -1.0, 1.0
    data, power = blur.conj() * torch.fft.rfft2(extended), blur.abs().square()
    steep = torch.fft.rfft2(across).abs().square() + torch.fft.rfft2(down).abs().square()
    x, beta = extended, 2 * lam
    while beta < 1e5:
        g, h = x.roll(-1, 1) - x, x.roll(-1, 0) - x
        edge = g * g + h * h > lam / beta
        g, h = g * edge, h * edge
        pulled = g.roll(1, 1) - g + h.roll(1, 0) - h
        x = torch.fft.irfft2((data + beta * torch.fft.rfft2(pulled)) / (power + beta * steep + EPSILON), size)
        beta *= 2.0
    x = x.roll((radius, radius), (0, 1))
    return x[: y.shape[0] + 2 * radius, : y.shape[1] + 2 * radius]


def _periodic(y: Tensor, margin: int) -> Tensor:
    """Extend y by at least `2 margin` rows and columns with a smooth transition between opposite edges."""
    for dim in (0, 1):
        extra = quick_length(y.shape[dim] + 2 * margin) - y.shape[dim]
        share = (torch.arange(extra, dtype=y.dtype) + 1) / (extra + 1)
        share = share[:, None] if dim == 0 else share[None]
        last, first = y.narrow(dim, y.shape[dim] - 1, 1), y.narrow(dim, 0, 1)
        y = torch.cat([y, (1 - share) * last + share * first], dim)
    return y


def _shock(x: Tensor, steps: int) -> Tensor:
    """Osher and Rudin's shock filter, x - 0.2 sign(laplacian x) |grad x| per step, on a slightly smoothed image."""
    if steps == 0:
        return x
    x = 0.5 * x + 0.5 * F.avg_pool2d(_framed(x)[None, None], 3, 1)[0, 0]
    for _ in range(steps):
        p = _framed(x)
        across, down = 0.5 * (p[1:-1, 2:] - p[1:-1, :-2]), 0.5 * (p[2:, 1:-1] - p[:-2, 1:-1])
        curved = p[1:-1, 2:] + p[1:-1, :-2] + p[2:, 1:-1] + p[:-2, 1:-1] - 4 * x
        # a smooth sign function, so that flat parts with a little noise do not change
        x = x - 0.2 * torch.tanh(50 * curved) * torch.hypot(across, down)
    return x


def _framed(x: Tensor) -> Tensor:
    return F.pad(x[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]


def _kernel_step(x: Tensor, y: Tensor, start: Tensor, ridge: float, kept: float) -> Tensor:
    """argmin |k * g - grad y|^2 + ridge |g|^2 |k|^2 over kernels, on the observed part; g: see `strong_gradients`."""
    g, seen = strong_gradients(x, y, kept)
    power = float(g.square().sum()) * (seen[0].numel() / g[0].numel())
    return fit_kernel(g, seen, start, ridge * power, KERNEL_STEPS)


def strong_gradients(x: Tensor, y: Tensor, kept: float) -> tuple[Tensor, Tensor]:
    """Return the gradients of a sharp image x, 0 outside the strongest share `kept`, and those of the observed y."""
    g = gradients(x)
    strength = g.square().sum(0)
    g = torch.where(strength >= strength.flatten().sort().values[int((1 - kept) * strength.numel())], g, 0.0)
    return g, gradients(y)
