"""Calibration: are the samples of a solver distributed like the posterior?

Two questions, two functions:

    calibrate(samples, reference)      with an exact posterior (Gaussian and mixture priors with linear-Gaussian data):
                                       every statistic compares distributions
    calibrate_truth(samples, truth)    with ground truth only: each true image must look like one more sample

Every statistic comes with its resolution: its values for the same number of exact samples. A difference smaller than
that is not evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.rng import NoiseSource, Rng
from invsolve.diagnostics.reference import Coordinates, PosteriorReference
from invsolve.diagnostics.truth import TruthCalibration, calibrate_truth
from invsolve.diagnostics.twosample import c2st, sliced_wasserstein

__all__ = [
    "LEVELS",
    "Band",
    "Calibration",
    "Coordinates",
    "PosteriorReference",
    "TruthCalibration",
    "calibrate",
    "calibrate_truth",
    "resolution",
]

LEVELS = (0.5, 0.9, 0.95)
"""Levels of the central intervals whose coverage is measured."""


@dataclass(frozen=True)
class Calibration:
    """How samples of B items compare with their exact posteriors; directions are those of the reference.

    Attributes:
        mmse_gap: (|mean(samples) - E[x | y]|^2 - tr(Cov samples) / S) / tr(Cov[x | y]), averaged over items: the excess
            of the sample mean's squared error over the smallest possible one, corrected for the finite S. 0 is right,
            0.1 is an error 10 % above the minimum; it can fall below 0 by chance.
        z_observed: ratio of sample to exact standard deviation, root mean square over observed directions. 1 is right,
            below 1 is overconfident, 0 is a point estimate.
        z_unobserved: the same over unobserved directions; NaN if there are none.
        coverage: for each of `LEVELS`, the exact probability of the samples' central interval, averaged over
            directions.
        coverage_observed, coverage_unobserved: the same over each group of directions.
        sliced_wasserstein: see `twosample.sliced_wasserstein`, in posterior standard deviations.
        c2st: see `twosample.c2st`; 0.5 is right.
        mode_weights: mean responsibility of each component over the samples, averaged over items; (1.0,) for one
            component.
        mode_error: sum_k |mode weight - exact weight| / 2, averaged over items.
        samples: S, the number of samples of each item.
        failed: number of samples left out because they are not finite.
    """

    mmse_gap: float
    z_observed: float
    z_unobserved: float
    coverage: tuple[float, ...]
    coverage_observed: tuple[float, ...]
    coverage_unobserved: tuple[float, ...]
    sliced_wasserstein: float
    c2st: float
    mode_weights: tuple[float, ...]
    mode_error: float
    samples: int
    failed: int = 0

    def numbers(self) -> dict[str, float]:
        """All statistics as one flat table."""
        flat: dict[str, float] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("samples", "failed"):
                continue
            if isinstance(value, float):
                flat[item.name] = value
                continue
            names = [f"{level * 100:g}" for level in LEVELS] if item.name.startswith("coverage") else range(len(value))
            flat |= {f"{item.name}_{name}": entry for name, entry in zip(names, value, strict=True)}
        return flat


@dataclass(frozen=True)
class Band:
    """The values of one statistic for exact samples: mean, standard deviation, and false-alarm limits.

    Attributes:
        mean, std: mean and standard deviation over replicates.
        low, high: mean -+ 2.6 std. A calibrated solver is outside in about 1 % of the cases (normal approximation).
    """

    mean: float
    std: float
    low: float = field(init=False)
    high: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", self.mean - 2.6 * self.std)
        object.__setattr__(self, "high", self.mean + 2.6 * self.std)


def calibrate(samples: Tensor, reference: PosteriorReference) -> Calibration:
    """Compare samples with exact posteriors.

    Args:
        samples: [B, S, *shape] in [0, 1] units, S at least 20. Those that are not finite are left out and counted.
        reference: the exact posteriors of the B items; it should have at least S draws.

    Returns:
        The statistics; all NaN if an item has fewer than 20 finite samples left.

    Raises:
        InputError: there are fewer than 20 samples of each item.
    """
    if samples.ndim < 3 or samples.shape[1] < 20:
        raise InputError(f"samples [B, S, ...] with S of at least 20 expected, got {list(samples.shape)}")
    finite = torch.isfinite(samples.flatten(2)).all(2)
    failed = int((~finite).sum())
    z = reference.to_z(torch.nan_to_num(samples, posinf=0.0, neginf=0.0))
    if int(finite.sum(1).min()) < 20:
        return _nothing(reference.modes, samples.shape[1], failed)
    items = [_Item(z[b][finite[b]], reference, b) for b in range(reference.items)]
    observed = torch.cat([item.observed for item in items])
    variance = torch.cat([item.variance for item in items])
    cover = torch.cat([item.coverage() for item in items])
    weights = torch.stack([item.mode_weights() for item in items])
    gaps = [
        _gap(samples[b][finite[b]], reference.posterior.mean[b], reference.posterior.cov[b].diagonal().sum())
        for b in range(reference.items)
    ]
    distances = [sliced_wasserstein(item.z, reference.draws[b], seed=b) for b, item in enumerate(items)]
    accuracies = [c2st(item.z, reference.draws[b], reference, b) for b, item in enumerate(items)]
    return Calibration(
        mmse_gap=_mean(gaps),
        z_observed=_root_mean(variance[observed]),
        z_unobserved=_root_mean(variance[~observed]),
        coverage=_columns(cover),
        coverage_observed=_columns(cover[observed]),
        coverage_unobserved=_columns(cover[~observed]),
        sliced_wasserstein=_mean(distances),
        c2st=_mean(accuracies),
        mode_weights=tuple(weights.mean(0).tolist()),
        mode_error=((weights - reference.posterior.weights).abs().sum(1) / 2).mean().item(),
        samples=samples.shape[1],
        failed=failed,
    )


def resolution(
    reference: PosteriorReference, samples: int, *, replicates: int = 20, rng: NoiseSource | None = None
) -> dict[str, Band]:
    """The false-alarm band of every entry of `Calibration.numbers`: what `calibrate` gives for exact samples.

    The bands are simulated, because the statistics of an image's directions share their samples. For orientation: with
    k directions, B items and S samples, standard deviations are about 1 / sqrt(2 B k S) for a z-spread, sqrt(p
    (1 - p) / (B k S)) for the coverage of independent directions at level p, and 0.5 / sqrt(2 B S) for the C2ST.

    Args:
        reference: the exact posteriors.
        samples: S, the number of samples of each item.
        replicates: number of sets of exact samples.
        rng: noise source of these samples; a separate stream if not given.
    """
    rng = rng or Rng(seed=1)
    draws = reference.posterior.sample(samples * replicates, rng).split(samples, 1)
    rows = [calibrate(draw, reference).numbers() for draw in draws]
    table = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}
    return {name: Band(values.mean().item(), values.std().item()) for name, values in table.items()}


class _Item:
    """One item's samples in z, and the statistics computed from them alone."""

    def __init__(self, z: Tensor, reference: PosteriorReference, index: int) -> None:
        self.z, self.reference, self.index = z, reference, index
        self.observed = reference.coordinates.observed[index if len(reference.coordinates.observed) > 1 else 0]
        self.variance = z.var(0)

    def coverage(self) -> Tensor:
        """The exact probability of each direction's central intervals, [k, levels].

        Interval ends are at ranks p (n + 1): for exact samples of any continuous distribution, the expected probability
        between them is the nominal one for every n.
        """
        levels = torch.tensor(LEVELS, dtype=self.z.dtype)
        tails = torch.cat([(1 - levels) / 2, (1 + levels) / 2])
        n = len(self.z)
        rank = (tails * (n + 1) - 1).clamp(0, n - 1)
        ordered = self.z.sort(0).values
        low = rank.floor().long()
        high = (low + 1).clamp_max(n - 1)
        ends = torch.lerp(ordered[low], ordered[high], (rank - low)[:, None])
        probability = self.reference.marginal_cdf(ends.expand(self.reference.items, -1, -1))[self.index]
        return (probability[len(LEVELS) :] - probability[: len(LEVELS)]).T

    def mode_weights(self) -> Tensor:
        """Mean responsibilities [K]; under the exact posterior their expectation is the exact weight."""
        if self.reference.modes == 1:
            return self.z.new_ones(1)
        return self.reference.log_components(self.z, self.index)[0].softmax(1).mean(0)


def _gap(samples: Tensor, mean: Tensor, trace: Tensor) -> float:
    rows = samples.double().flatten(1)
    error = (rows.mean(0) - mean.flatten()).square().sum() - rows.var(0).sum() / len(rows)
    return (error / trace).item()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _root_mean(values: Tensor) -> float:
    return values.mean().sqrt().item() if len(values) else math.nan


def _columns(values: Tensor) -> tuple[float, ...]:
    return tuple(values.mean(0).tolist()) if len(values) else (math.nan,) * len(LEVELS)


def _nothing(modes: int, samples: int, failed: int) -> Calibration:
    nan, row = math.nan, (math.nan,) * len(LEVELS)
    return Calibration(nan, nan, nan, row, row, row, nan, nan, (nan,) * modes, nan, samples, failed)
