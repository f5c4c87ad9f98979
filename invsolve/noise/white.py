"""Estimate the level of white noise from the image alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError

__all__ = ["QUANTISATION", "estimate_sigma", "sigma_or_none"]

PATCH = 8
MAX_PATCHES = 40_000
MIN_PATCHES = 8 * PATCH * PATCH
BLOCK = 32
CHUNK = 2048

QUANTISATION = 1 / 255 / 12**0.5
"""Standard deviation of rounding to 8 bits: no 8-bit image has less noise."""


def estimate_sigma(image: Tensor, known: Tensor | None = None) -> float:
    """Estimate the standard deviation of white noise in an image.

    Patches of 8 x 8 pixels of a photograph lie in a low-dimensional subspace, so the smallest eigenvalues of their
    covariance are those of the noise. The largest eigenvalues are dropped until the mean of the rest is their median
    (Chen, Zhu and Heng 2015, "An efficient statistical method for image noise level estimation", ICCV). Clipped patches
    are left out. If a mask leaves too few whole patches, second differences along rows and columns are used instead, in
    the smoothest fifth of the image's blocks. Texture makes this estimate somewhat too large.

    Args:
        image: [C, H, W] in [0, 1].
        known: bool [H, W], true for pixels to use; all pixels if not given.

    Raises:
        InputError: the image is too small for an estimate.
    """
    found = sigma_or_none(image, known)
    if found is None:
        raise InputError("the image is too small to estimate its noise: give it with --noise, for example 0.01")
    return found


def sigma_or_none(image: Tensor, known: Tensor | None = None) -> float | None:
    """`estimate_sigma`, or None if the image is too small for an estimate."""
    if known is None:
        known = torch.ones(image.shape[-2:], dtype=torch.bool)
    patches = _patches(image.float(), known)
    if patches.shape[1] >= MIN_PATCHES:
        return _smallest_eigenvalues(patches)
    return _second_differences(image.double(), known)


def _patches(image: Tensor, known: Tensor) -> Tensor:
    """Return whole, unclipped patches [C * 64, n]; on a coarser regular grid if there are very many."""
    channels, height, width = image.shape
    if min(height, width) < PATCH:
        return image.new_zeros(channels * PATCH * PATCH, 0)
    stride = max(1, int((height * width / MAX_PATCHES) ** 0.5))
    clipped = ((image <= 0) | (image >= 1)).any(0)
    bad = torch.stack([~known, ~known | clipped]).float()
    whole, unclipped = (F.max_pool2d(bad[:, None], PATCH, stride) == 0).flatten(1)
    use = unclipped if int(unclipped.sum()) >= MIN_PATCHES * channels else whole
    patches = F.unfold(image[None], PATCH, stride=stride)[0]
    return patches if bool(use.all()) else patches[:, use]


def _smallest_eigenvalues(patches: Tensor) -> float:
    centred = patches - patches.mean(1, keepdim=True)
    covariance = torch.zeros(len(centred), len(centred), dtype=torch.float64)
    for part in centred.split(CHUNK, dim=1):
        covariance += part @ part.T
    values = torch.linalg.eigvalsh(covariance / (patches.shape[1] - 1)).clamp_min(0)
    for n in range(len(values), 1, -1):
        rest = values[:n]
        mean = rest.mean()
        if int((rest > mean).sum()) >= int((rest < mean).sum()):
            return float(mean.sqrt())
    return float(values[0].sqrt())


def _second_differences(image: Tensor, known: Tensor) -> float | None:
    """The 20 % quantile over blocks of the median absolute second difference, scaled to a standard deviation."""
    levels = []
    for values, mask in ((image, known), (image.mT, known.T)):
        whole = mask[:, :-2] & mask[:, 1:-1] & mask[:, 2:]
        difference = (values[..., :-2] - 2 * values[..., 1:-1] + values[..., 2:]).abs()
        for top in range(0, whole.shape[0], BLOCK):
            for left in range(0, whole.shape[1], BLOCK):
                block = (slice(top, top + BLOCK), slice(left, left + BLOCK))
                chosen = difference[:, *block][:, whole[block]]
                if chosen.shape[1] >= BLOCK:
                    levels.append(chosen.median())
    if not levels:
        return None
    return float(torch.stack(levels).quantile(0.2)) / 0.6745 / 6**0.5
