"""Calibration without an exact posterior: samples compared with the ground truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.core.checks import InputError, ShapeError

__all__ = ["TruthCalibration", "calibrate_truth"]


@dataclass(frozen=True)
class TruthCalibration:
    """How true images rank among S posterior samples each; entries are (value, standard error over the B items).

    For a calibrated solver, the truth is like one more sample. Entries of one image depend on each other, items do not.
    Standard errors are therefore over items alone, and NaN for a single item.

    Attributes:
        coverage: {level: share of entries whose truth lies in the samples' central interval}; right if the two are
            equal.
        z_spread: root mean square of (truth - mean) / (std sqrt(1 + 1 / S)) over entries, above 1 if the samples are
            too narrow. Its expectation under calibrated Gaussian samples is sqrt((S - 1) / (S - 3)).
        crps: continuous ranked probability score, mean |x - y| - mean |x - x'| / 2 over distinct pairs (the fair form),
            in image units; smaller is better, and the exact posterior has the smallest expected score.
        energy_score: the same for whole images with the Euclidean norm, divided by sqrt(entries).
        rank_counts: how often the truth had a rank from 0 to S among its samples, [S + 1] counts summed into `bins`
            equal bins. Flat is right; a hump means too wide, a cup too narrow, a slope biased.
        rank_p: p-value of the hypothesis that the bins are equally likely, from the mean over the items of their shares
            and its covariance (Hotelling's T^2, which allows dependence within an image); NaN with too few items.
        items, samples: B and S.
    """

    coverage: dict[float, tuple[float, float]]
    z_spread: tuple[float, float]
    crps: tuple[float, float]
    energy_score: tuple[float, float]
    rank_counts: tuple[int, ...]
    rank_p: float
    items: int
    samples: int


def calibrate_truth(
    samples: Tensor,
    truth: Tensor,
    *,
    levels: tuple[float, ...] = (0.5, 0.9, 0.95),
    bins: int = 10,
    mask: Tensor | None = None,
) -> TruthCalibration:
    """Compare the true images with posterior samples of each.

    Ranks follow Talts et al. 2018, arXiv 1804.06788; scores Gneiting and Raftery 2007, "Strictly proper scoring rules".

    Args:
        samples: [B, S, *shape], S at least 4.
        truth: [B, *shape].
        levels: levels of the central intervals.
        bins: number of bins of the rank histogram.
        mask: [*shape] or [B, *shape], true at the entries that count (for example the missing pixels). All of them if
            None.

    Raises:
        ShapeError: the shapes do not fit together.
        InputError: there are too few samples, or values that are not finite.
    """
    if samples.ndim < 2 or samples.shape[2:] != truth.shape[1:] or len(samples) != len(truth):
        raise ShapeError(
            f"samples [B, S, *shape] and truth [B, *shape] expected, got {list(samples.shape)} and {list(truth.shape)}"
        )
    if samples.shape[1] < 4:
        raise InputError(f"at least 4 samples of each image are needed, got {samples.shape[1]}")
    x, y = samples.double().flatten(2), truth.double().flatten(1)
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise InputError("samples and truth must be finite: leave out the items whose status says otherwise")
    keep = torch.ones_like(y, dtype=torch.bool) if mask is None else mask.bool().flatten(-truth.ndim + 1).expand_as(y)
    weight = keep / keep.sum(1, keepdim=True).clamp_min(1)
    n = samples.shape[1]
    ordered = x.sort(1).values
    ranks = (ordered < y[:, None]).sum(1)
    z = (y - x.mean(1)).square() / (x.var(1).clamp_min(1e-24) * (1 + 1 / n))
    pair = _mean_pair(ordered)
    fair = (x - y[:, None]).abs().mean(1) - 0.5 * pair
    histogram = _histogram(ranks, keep, n, bins)
    square = (z * weight).sum(1)
    spread, error = _summary(square)
    return TruthCalibration(
        coverage={level: _summary((_covered(ordered, y, level) * weight).sum(1)) for level in levels},
        z_spread=(math.sqrt(spread), error / (2 * math.sqrt(max(spread, 1e-300)))),
        crps=_summary((fair * weight).sum(1)),
        energy_score=_summary(_energy(x, y, keep)),
        rank_counts=tuple(histogram.sum(0).int().tolist()),
        rank_p=_flatness(histogram / histogram.sum(1, keepdim=True).clamp_min(1)),
        items=len(samples),
        samples=n,
    )


def _summary(values: Tensor) -> tuple[float, float]:
    """Mean over the items and its standard error."""
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return values.mean().item(), error


def _mean_pair(ordered: Tensor) -> Tensor:
    """mean |x_i - x_j| over distinct pairs of sorted samples, [B, d]."""
    n = ordered.shape[1]
    weight = (2 * torch.arange(1, n + 1, dtype=ordered.dtype) - n - 1) * 2 / (n * (n - 1))
    return torch.einsum("n,bnd->bd", weight, ordered)


def _covered(ordered: Tensor, truth: Tensor, level: float) -> Tensor:
    """The probability that the truth is inside the interval; ranks at the interval's ends count in part.

    Under calibration the truth's rank is uniform on 0 to S, so an interval between whole ranks has a coverage on a grid
    of 1 / (S + 1). Its two end bins are counted in part, so that the expected coverage is the level itself.
    """
    n = ordered.shape[1]
    rank = (ordered < truth[:, None]).sum(1).double()
    out = (1 - level) / 2 * (n + 1)
    inside_low = (rank + 1 - out).clamp(0, 1)
    inside_high = (n + 1 - out - rank).clamp(0, 1)
    return torch.minimum(inside_low, inside_high)


def _histogram(ranks: Tensor, keep: Tensor, n: int, bins: int) -> Tensor:
    """Counts of each item's ranks in equal bins, [B, bins]; a rank that straddles two bins is shared."""
    edges = torch.linspace(0, n + 1, bins + 1, dtype=torch.float64)
    rank = torch.arange(n + 1, dtype=torch.float64)[:, None]
    share = (torch.minimum(rank + 1, edges[1:]) - torch.maximum(rank, edges[:-1])).clamp_min(0)
    return torch.stack([share[row[kept]].sum(0) for row, kept in zip(ranks, keep, strict=True)])


def _flatness(shares: Tensor) -> float:
    """Hotelling's T^2 test that the items' mean shares [B, bins] are flat."""
    b, bins = shares.shape
    p = bins - 1
    if b <= p + 1:
        return math.nan
    from scipy.special import fdtrc

    rows = shares[:, :p]
    centred = rows - rows.mean(0)
    cov = centred.T @ centred / (b - 1) + 1e-12 * torch.eye(p, dtype=rows.dtype)
    shift = rows.mean(0) - 1 / bins
    t2 = b * (shift @ torch.linalg.solve(cov, shift)).item()
    return float(fdtrc(p, b - p, t2 * (b - p) / (p * (b - 1))))


def _energy(x: Tensor, y: Tensor, keep: Tensor) -> Tensor:
    """The fair energy score of each item, [B]."""
    n = x.shape[1]
    scores = []
    for rows, truth, kept in zip(x, y, keep, strict=True):
        rows, truth = rows[:, kept], truth[kept]
        root = math.sqrt(max(len(truth), 1))
        pairs = torch.cdist(rows, rows).sum() / (n * (n - 1))
        scores.append((torch.linalg.vector_norm(rows - truth, dim=1).mean() - 0.5 * pairs) / root)
    return torch.stack(scores)
