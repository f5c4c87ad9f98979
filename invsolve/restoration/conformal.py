"""Split conformal prediction on images: groups of pixels, and the q of each that covers a level.

A pixel's interval is centre +- q s, with the centre a point estimate (or the mean of the samples), s the scale of
`pixel_scale`, and q from such a table: of |truth - centre| / s, the quantiles on calibration photographs (split
conformal prediction, Papadopoulos et al. 2002; Angelopoulos and Bates 2021, arXiv 2107.07511).
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
"""Of the intervals in a table; others between them are interpolated."""

PROMISES = ("average", "image")
"""average: of all pixels of many photographs a share `level` lies inside; image: 90 % of photographs reach it."""

SHARE_OF_IMAGES = 0.9
"""Of photographs that keep the promise "image"."""

CONFIDENCE = 0.9
"""That this share of further photographs keeps it, over the choice of the calibration's photographs."""

PARTS = (0.02, 0.06)
"""`activity` of a point estimate below which it is flat, and from which on it is an edge; between them is texture."""

FEW = 200
"""A group with fewer pixels in a calibration takes q of all its pixels together."""

TINY = 1e-12

Quantiles: TypeAlias = Mapping[str, tuple[float, ...]]


def groups(centre: Tensor, known: Tensor | None) -> dict[str, Tensor]:
    """The pixels with a q of their own, bool [H, W] by name: "flat", "texture" and "edges" of the point estimate.

    Where pixels are missing each is divided in two, "known flat", "missing flat", ... (Mondrian conformal prediction,
    Vovk et al. 2003).

    Args:
        centre: point estimate [C, H, W] in [0, 1].
        known: bool [H, W], true where pixels were measured; None where the task does not tell them apart.
    """
    found = activity(centre)
    flat, edges = found < PARTS[0], found >= PARTS[1]
    parts = {"flat": flat, "texture": ~flat & ~edges, "edges": edges}
    if known is None:
        return parts
    sides = {"known": known, "missing": ~known}
    return {f"{side} {name}": where & part for side, where in sides.items() for name, part in parts.items()}


def blended(q: Mapping[str, float], centre: Tensor, known: Tensor | None) -> Tensor:
    """q for each pixel [H, W]: that of its group, with a passage between groups of a factor of 2 in `activity`.

    About a threshold the logarithm of the activity decides how much of either group's q a pixel takes, so that interval
    maps show no contours there.

    Args:
        q: of every group that `groups` names.
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
    """q at LEVELS for each group of pixels, for the promises "average" and "image".

    For "average" it is the quantile of a group's scores over all images, in which every image has the same weight,
    shared out over its pixels. For "image" the intervals of all groups are widened by one factor: every image has a
    factor of its own, at which a share `level` of its pixels lies inside; of these the k-th smallest of n is taken. Of
    all further images a share with the law Beta(k, n + 1 - k) needs no larger factor, and k is the least for which this
    share is 0.9 or more with probability 0.9 (training-conditional coverage, Vovk 2012, arXiv 1209.2673): the largest
    factor of up to 37 images. The probability is 1 - 0.9^n for the largest, 0.9 from 22 images on.

    Args:
        scores: of each image the scores |truth - centre| / s of its pixels, by group.
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
    """The least k for which Beta(k, count + 1 - k) is 0.9 or more with probability CONFIDENCE; `count` without one.

    That probability is the one that fewer than k of `count` trials succeed, each with probability 0.9.
    """
    from scipy.special import bdtr

    fitting = (k for k in range(1, count + 1) if bdtr(k - 1, count, SHARE_OF_IMAGES) >= CONFIDENCE)
    return next(fitting, count)


def _quantile(row: Tensor, level: float) -> float:
    return float(row.kthvalue(min(len(row), math.ceil(level * len(row)))).values)
