"""Baselines for the intervals: a constant width, and widths computed from the point estimate alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from invsolve.metrics.intervals import interval_score
from invsolve.tune.case import Case

__all__ = ["LEVEL", "constant", "left_out_score", "strata", "without_samples"]

LEVEL = 0.9

SAMPLED = 1000
"""Number of entries of each image that are used to find q here."""


def constant(case: Case) -> Tensor:
    """The same uncertainty everywhere."""
    return torch.ones_like(case.centre)


def _gradient(x: Tensor) -> Tensor:
    """The length of the gradient of images [C, H, W]."""
    rows = F.pad(x[None], (0, 0, 0, 1), mode="replicate")[0].diff(dim=1)
    columns = F.pad(x[None], (0, 1, 0, 0), mode="replicate")[0].diff(dim=2)
    return (rows.square() + columns.square()).sqrt()


def _local_std(x: Tensor, side: int = 5) -> Tensor:
    padded = F.pad(x[None], (side // 2,) * 4, mode="replicate")
    mean, square = F.avg_pool2d(padded, side, 1)[0], F.avg_pool2d(padded.square(), side, 1)[0]
    return (square - mean.square()).clamp_min(0).sqrt()


def without_samples(case: Case) -> dict[str, Tensor]:
    """Uncertainties from the point estimate: its gradient, or its standard deviation in 5 x 5 pixels, with a floor.

    With missing pixels, also these times 1 + the distance to the nearest known pixel.
    """
    blurred = torch.as_tensor(gaussian_filter(_gradient(case.centre).numpy(), (0, 1, 1)))
    found = {}
    for floor in (0.005, 0.02, 0.05):
        found[f"gradient + {floor}"] = blurred + floor
        found[f"deviation + {floor}"] = _local_std(case.centre) + floor
    if case.known is not None:
        distance = torch.as_tensor(distance_transform_edt(~case.known.numpy())).float()
        found |= {f"{name}, x distance": scale * (1 + distance) for name, scale in list(found.items())}
    return found


def _sides(case: Case) -> list[Tensor]:
    """Masks of known and missing pixels, which have separate q, bool [H, W]."""
    if case.known is None:
        return [torch.ones(case.truth.shape[1:], dtype=torch.bool)]
    return [case.known, ~case.known]


def left_out_score(cases: Sequence[Case], scales: Sequence[Tensor]) -> float:
    """Mean interval score at 90 %, with q from the other cases for each group of pixels: an advantage over a table."""
    scores: dict[int, list[Tensor]] = {}
    for case, scale in zip(cases, scales, strict=True):
        for side, where in enumerate(_sides(case)):
            own = (case.error / scale)[:, where].flatten()
            scores.setdefault(side, []).append(own[:: max(1, len(own) // SAMPLED)])
    total = 0.0
    for i, (case, scale) in enumerate(zip(cases, scales, strict=True)):
        half = torch.zeros_like(scale)
        for side, where in enumerate(_sides(case)):
            rows = [row for j, row in enumerate(scores[side]) if j != i]
            q = float(torch.cat(rows).quantile(LEVEL))
            half[:, where] = q * scale[:, where]
        low, high = (case.centre - half).clamp(0, 1), (case.centre + half).clamp(0, 1)
        total += interval_score(low, high, case.truth, LEVEL)
    return total / len(cases)


def strata(case: Case) -> dict[str, Tensor]:
    """Masks of strata of the true image, bool [H, W]."""
    luma = case.truth.mean(0)
    edges = torch.as_tensor(gaussian_filter(_gradient(luma[None])[0].numpy(), 1)) > 0.06
    flat = (_local_std(luma[None], 7)[0] < 0.02) & ~edges
    found = {"edges": edges, "texture": ~edges & ~flat, "flat": flat, "dark": luma < 0.25, "bright": luma > 0.75}
    if case.known is not None:
        found |= {"known": case.known, "missing": ~case.known}
    return found
