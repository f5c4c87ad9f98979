"""Split conformal prediction on images: groups of pixels, and the q of each group for a coverage level.

The interval of a pixel is centre +- q s. The centre is a point estimate (or the mean of the samples), and s is given by
`pixel_scale`. q is a quantile of |truth - centre| / s on calibration photographs (split conformal prediction,
Papadopoulos et al. 2002; Angelopoulos and Bates 2021, arXiv 2107.07511).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.metrics.intervals import activity

__all__ = ["LEVELS", "PROMISES", "SHARE_OF_IMAGES", "blended", "groups", "quantiles"]

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Levels of the intervals in a table; levels between them are interpolated."""

PROMISES = ("average", "image")
"""average: a share `level` of all pixels of many photographs is inside; image: 90 % of photographs reach it."""

SHARE_OF_IMAGES = 0.9
"""Share of photographs for which the promise "image" holds."""

CONFIDENCE = 0.9
"""Probability, over the choice of calibration photographs, that it holds for this share of new photographs."""

PARTS = (0.02, 0.06)
"""Pixels with `activity` below the first value are flat, from the second value on edges, and between them texture."""

FEW = 200
"""A group with fewer pixels than this in the calibration uses the q of all groups together."""

TINY = 1e-12

Quantiles: TypeAlias = Mapping[str, tuple[float, ...]]


def groups(centre: Tensor, known: Tensor | None) -> dict[str, Tensor]:
    """Return the groups of pixels with separate q, bool [H, W] by name: "flat", "texture" and "edges".

    The groups follow from the point estimate. If `known` is given, each group is divided in two, "known flat",
    "missing flat", ... (Mondrian conformal prediction, Vovk et al. 2003).

    Args:
        centre: point estimate [C, H, W] in [0, 1].
        known: bool [H, W], true for measured pixels; None if the task does not distinguish them.
    """
    found = activity(centre)
    flat, edges = found < PARTS[0], found >= PARTS[1]
    parts = {"flat": flat, "texture": ~flat & ~edges, "edges": edges}
    if known is None:
        return parts
    sides = {"known": known, "missing": ~known}
    return {f"{side} {name}": where & part for side, where in sides.items() for name, part in parts.items()}


def blended(q: Mapping[str, float], centre: Tensor, known: Tensor | None) -> Tensor:
    """Return q for each pixel [H, W]: that of its group, with a smooth transition between groups.

    The transition spans a factor of 2 in `activity` around each threshold. There, the q of the two groups are mixed
    linearly in the logarithm of the activity, so that interval maps show no contours.

    Args:
        q: q of every group returned by `groups`.
        centre, known: see `groups`.
    """
    found = activity(centre).clamp_min(TINY)
    textured, edged = ((torch.log2(found / threshold) + 0.5).clamp(0, 1) for threshold in PARTS)

    def passing(flat: float, texture: float, edges: float) -> Tensor:
        return flat + textured * (texture - flat) + edged * (edges - texture)

    if known is None:
        return passing(q["flat"], q["texture"], q["edges"])
    sides = [passing(*(q[f"{side} {part}"] for part in ("flat", "texture", "edges"))) for side in ("known", "missing")]
    return torch.where(known, *sides)


def quantiles(scores: Sequence[Mapping[str, Tensor]]) -> tuple[Quantiles, Quantiles]:
    """Return q at LEVELS for each group of pixels, for the promises "average" and "image".

    For "average", q is the quantile of a group's scores over all images. All images have the same weight, which is
    divided equally among their pixels. For "image", one factor widens the intervals of all groups. For each of the n
    images, compute the factor at which a share `level` of its pixels is inside; then take the k-th smallest factor. The
    share of new images that need no larger factor follows Beta(k, n + 1 - k), and k is the smallest rank for which this
    share is 0.9 or more with probability 0.9 (training-conditional coverage, Vovk 2012, arXiv 1209.2673). For up to 37
    images, this is the largest factor. The probability for the largest is 1 - 0.9^n, which is 0.9 from 22 images on.

    Args:
        scores: for each image, the scores |truth - centre| / s of its pixels, by group.
    """
    images = [{name: score.double().flatten() for name, score in image.items()} for image in scores]
    sizes = [sum(score.numel() for score in image.values()) for image in images]
    if not images or not all(sizes):
        raise InputError("a calibration needs images")

    def pooled(names: Sequence[str]) -> tuple[float, ...]:
        rows = [(image[n], size) for image, size in zip(images, sizes, strict=True) for n in names if n in image]
        weight = torch.cat([torch.full_like(row, 1 / size) for row, size in rows])
        score, order = torch.cat([row for row, _ in rows]).sort()
        mass = weight[order].cumsum(0)
        wanted = torch.tensor(LEVELS, dtype=mass.dtype) * mass[-1] - 1e-12
        return tuple(score[torch.searchsorted(mass, wanted).clamp_max(len(score) - 1)].tolist())

    names = sorted({name for image in images for name in image})
    count = {name: sum(image[name].numel() for image in images if name in image) for name in names}
    together = pooled(names)
    average = {name: pooled([name]) if count[name] >= FEW else together for name in names if count[name]}
    rank = _rank(len(images))
    factors = []
    for k, level in enumerate(LEVELS):
        relative = [
            torch.cat([score / max(average[n][k], TINY) for n, score in image.items() if score.numel()])
            for image in images
        ]
        factors.append(max(1.0, sorted(_quantile(row, level) for row in relative)[rank - 1]))
    image = {
        name: tuple(accumulate((f * own for f, own in zip(factors, q, strict=True)), max))
        for name, q in average.items()
    }
    return average, image


def _rank(count: int) -> int:
    """The smallest k for which Beta(k, count + 1 - k) is 0.9 or more with probability CONFIDENCE; else `count`.

    This is the probability that fewer than k of `count` trials succeed, each with probability 0.9.
    """
    from scipy.special import bdtr

    fitting = (k for k in range(1, count + 1) if bdtr(k - 1, count, SHARE_OF_IMAGES) >= CONFIDENCE)
    return next(fitting, count)


def _quantile(row: Tensor, level: float) -> float:
    return float(row.kthvalue(min(len(row), math.ceil(level * len(row)))).values)
