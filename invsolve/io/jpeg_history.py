"""Detect the JPEG quality of an earlier compression from the pixels of an image."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.io.cosines import YCC, cosines
from invsolve.io.jpeg import JPEGTables

__all__ = ["detailed_part", "found_quality"]

NEAR, LIKELY, MIN_COUNT = 0.75, 0.7, 60
"""Rounding of pixels changes coefficients by less than NEAR (in units of 1 / 255). An image was a JPEG file if a share
of at least LIKELY of at least MIN_COUNT coefficients is near multiples of the steps, beyond chance."""

_SIDE = 512
_BLOCKS = 192
_QUALITIES = range(1, 96)


def found_quality(y: Tensor) -> int | None:
    """Return the quality of the standard tables that fit the luma of an image; None if none fit.

    The image must be as decoded: not cropped, resized or edited. A quality near 100 leaves no trace. The blocks of
    `detailed_part` with the most detail are used, except those with clipped pixels.

    Args:
        y: [C, H, W] in [0, 1].
    """
    x = 255 * detailed_part(y).double()
    if min(x.shape[1:]) < 32:
        return None
    luma = (torch.einsum("c,chw->hw", YCC[0], x) if len(x) == 3 else x[0]) - 128
    whole = F.max_pool2d(((x <= 0) | (x >= 255)).any(0)[None].float(), 8)[0].flatten() == 0
    found = cosines(luma).flatten(0, 1).flatten(1)[whole, 1:].abs().float()
    if len(found) > _BLOCKS:
        found = found[found.sum(1).topk(_BLOCKS).indices]
    fits = {q: _fit(found, JPEGTables.of_quality(q).steps(0).flatten()[1:].float()) for q in _QUALITIES}
    best = max(share for share, _ in fits.values())
    if best < LIKELY:
        return None
    return min((q for q in fits if fits[q][0] > best - 0.2), key=lambda q: fits[q][1])


def detailed_part(y: Tensor) -> Tensor:
    """Return the part of an image [C, H, W] with the most detail, at most 512 x 512 pixels in whole blocks of 16.

    Blocks with clipped pixels do not count, because they contain no usable information.
    """
    rows, columns = (min(side, _SIDE) // 16 * 16 for side in y.shape[1:])
    whole = y[:, : y.shape[1] // 16 * 16, : y.shape[2] // 16 * 16]
    if whole.shape[1:] == (rows, columns) or min(rows, columns) < 32:
        return whole[:, :rows, :columns]
    luma = whole.float().mean(0, keepdim=True)
    detail = F.avg_pool2d(F.pad(luma.diff(dim=2).abs(), (0, 1)), 16)
    clipped = F.max_pool2d(((whole <= 0) | (whole >= 1)).any(0, keepdim=True).float(), 16)
    sums = F.avg_pool2d(detail * (1 - clipped), (rows // 16, columns // 16), stride=1)[0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    return whole[:, 16 * top : 16 * top + rows, 16 * left : 16 * left + columns]


def _fit(found: Tensor, steps: Tensor) -> tuple[float, float]:
    """Return the share of nonzero coefficient magnitudes [n, 63] that are near multiples of the steps (0: chance level,
    1: all), and their mean squared distance from these multiples."""
    units = found / steps
    coarse = ((units > 0.5) & (steps >= 3)).float()
    count = float(coarse.sum())
    if count < MIN_COUNT:
        return 0.0, math.inf
    off = (units - units.round()).abs() * steps
    chance = float((coarse.sum(0) * (2 * NEAR / steps).clamp_max(1)).sum()) / count
    share = (float(((off < NEAR) * coarse).sum()) / count - chance) / max(1 - chance, 0.1)
    return share, float((off.square().clamp_max(2.25) * coarse).sum()) / count
