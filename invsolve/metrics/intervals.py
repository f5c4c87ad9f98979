"""Intervals of pixels and how good they are: scale of the uncertainty, coverage, width, interval score, AUSE."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError, ShapeError
from invsolve.metrics.base import IntervalScore, SampleScore

__all__ = [
    "FLOOR",
    "activity",
    "ause",
    "ause_of_samples",
    "energy_score",
    "interval_score",
    "interval_score_90",
    "paired_crps",
    "pixel_deviation",
    "pixel_scale",
    "share_inside",
    "student",
    "width",
    "width90",
]

FLOOR = 0.0015
"""Added to the standard deviation of a pixel, in [0, 1] units, so that no interval has width 0."""

NEAR, WIDE, REGION = 1.0, 6.0, 12.0
"""Standard deviations in pixels of Gaussian windows, cut at three of them."""

USUAL = 0.02
"""The deviation of a region at which `pixel_scale` is `pixel_deviation`."""

POWER = 0.2
"""Errors grow faster than the samples say where a whole region is uncertain: what a sampler misses, it misses in every
sample. Of 0, 0.1, 0.2 and 0.3 it has the best interval scores over nine degradations of training photographs."""


def pixel_deviation(samples: Tensor, known: Tensor | None = None) -> Tensor:
    """(G_1 * sd + G_6 * sd) / 2 + 0.0015: how far the samples are from each other at each pixel, [C, H, W].

    sd is the standard deviation of the samples at a pixel and channel, G_r * the mean under a Gaussian window of
    standard deviation r pixels: of a few samples alone sd is itself noisy, and what the denoiser does not know in one
    place of an image it knows no better beside it. Known and missing pixels are averaged among themselves.

    Args:
        samples: [S, C, H, W] in [0, 1], S at least 2.
        known: bool [H, W], true where pixels were measured; None where all are alike.

    Raises:
        ShapeError: another shape, or a single sample.
    """
    std = _checked(samples).std(0)
    return (_mean_under(std, NEAR, known) + _mean_under(std, WIDE, known)) / 2 + FLOOR


def pixel_scale(samples: Tensor, known: Tensor | None = None) -> Tensor:
    """s = d ((G_12 * sd + 0.0015) / 0.02)^0.2: how uncertain each pixel is, [C, H, W]; d is `pixel_deviation`.

    Args:
        samples, known: see `pixel_deviation`.

    Raises:
        ShapeError: see `pixel_deviation`.
    """
    region = _mean_under(_checked(samples).std(0), REGION, known) + FLOOR
    return pixel_deviation(samples, known) * (region / USUAL) ** POWER


def _checked(samples: Tensor) -> Tensor:
    if samples.ndim != 4 or len(samples) < 2:
        raise ShapeError(f"samples [S, C, H, W] with S of at least 2 expected, got {list(samples.shape)}")
    return samples


def _mean_under(std: Tensor, radius: float, known: Tensor | None) -> Tensor:
    """G_r * std, of known and missing pixels among themselves."""
    if known is None:
        return _smoothed(std, radius)
    total = torch.zeros_like(std)
    for part in (known, ~known):
        weight = part[None].to(std)
        share = _smoothed(weight, radius).clamp_min(torch.finfo(std.dtype).tiny)
        total += torch.where(part, _smoothed(std * weight, radius) / share, 0.0)
    return total


def activity(image: Tensor) -> Tensor:
    """G_1 * |grad luma|: how much goes on about each pixel of an image [C, H, W], [H, W].

    Differences of neighbouring pixels of the channels' mean, under a Gaussian window of 1 pixel.
    """
    luma = image.mean(0, keepdim=True)
    rows = F.pad(luma[None], (0, 0, 0, 1), mode="replicate")[0].diff(dim=1)
    columns = F.pad(luma[None], (0, 1, 0, 0), mode="replicate")[0].diff(dim=2)
    return _smoothed((rows.square() + columns.square()).sqrt(), NEAR)[0]


def _smoothed(values: Tensor, radius: float) -> Tensor:
    """G * values for each channel of [C, H, W], borders repeated."""
    reach = round(3 * radius)
    places = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    weights = torch.exp(-0.5 * (places / radius) ** 2)
    weights = weights / weights.sum()
    channels = values.shape[0]
    padded = F.pad(values[None], (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)[0]


def student(level: float, samples: int) -> float:
    """Half the width of the interval of probability `level` for one more draw, in units of the samples' deviation.

    t sqrt(1 + 1 / S) with the quantile t of Student's distribution of S - 1 degrees of freedom: exact where the draws
    are Gaussian.

    Raises:
        InputError: fewer than two samples, or a level outside (0, 1).
    """
    from scipy.special import stdtrit

    if samples < 2:
        raise InputError(f"an interval needs at least 2 samples, got {samples}")
    if not 0 < level < 1:
        raise InputError(f"a level is a probability between 0 and 1, got {level}")
    return float(stdtrit(samples - 1, (1 + level) / 2)) * (1 + 1 / samples) ** 0.5


def interval_score(low: Tensor, high: Tensor, truth: Tensor, level: float) -> float:
    """mean of (high - low) + 2 / (1 - level) (distance by which the truth lies outside); the smaller, the better.

    Gneiting and Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", equation 43.
    """
    outside = (low - truth).clamp_min(0) + (truth - high).clamp_min(0)
    return float(((high - low) + 2 / (1 - level) * outside).double().mean())


def ause(error: Tensor, scale: Tensor, steps: int = 100) -> float:
    """Area between two sparsification curves: how well `scale` ranks the errors; 0 is the order of the errors.

    The curve is the mean error of what remains after the most uncertain share f of the entries is removed, divided by
    the mean error of all, for f = 0, 1 / steps, ..., 1 - 1 / steps; the other curve removes the largest errors. The
    area is the mean difference. Ilg et al. 2018, arXiv 1802.07095.

    Args:
        error: absolute errors, any shape.
        scale: uncertainties of the same shape.
        steps: points of the curves.
    """
    error, scale = error.double().flatten(), scale.double().flatten()
    total = error.mean().clamp_min(torch.finfo(error.dtype).tiny)
    count = len(error)
    kept = [max(1, count - k * count // steps) for k in range(steps)]
    index = torch.tensor(kept, device=error.device) - 1

    def curve(order: Tensor) -> Tensor:
        means = error[order].cumsum(0) / torch.arange(1, count + 1, dtype=error.dtype, device=error.device)
        return means[index] / total

    return float((curve(scale.argsort()) - curve(error.argsort())).mean())


def paired_crps(samples: Tensor, truth: Tensor) -> float:
    """The fair CRPS of antithetic samples: mean |x_i - y| - mean |x_i - x_j| / 2, j in another pair than i.

    Samples 2 k and 2 k + 1 are a pair; those of different pairs are independent. NaN for a single pair.

    Args:
        samples: [S, C, H, W].
        truth: [C, H, W].
    """
    x, count = samples.double(), len(samples)
    apart = [(x[i] - x[j]).abs().mean() for i in range(count) for j in range(i) if i // 2 != j // 2]
    if not apart:
        return float("nan")
    return float((x - truth).abs().mean() - 0.5 * torch.stack(apart).mean())


def width90() -> SampleScore:
    """Mean width of the samples' Student intervals of 90 %, 2 t sd sqrt(1 + 1 / S), in units of the image."""

    def score(samples: Tensor, truth: Tensor) -> float:
        return 2 * student(0.9, len(samples)) * float(samples.double().std(0).mean())

    return score


def energy_score() -> SampleScore:
    """The fair energy score over sqrt(entries), for whole images what the CRPS is for pixels."""

    def score(samples: Tensor, truth: Tensor) -> float:
        from invsolve.diagnostics import calibrate_truth

        return calibrate_truth(samples[None], truth[None]).energy_score[0]

    return score


def ause_of_samples() -> SampleScore:
    """`ause` of the mean's errors ranked by `pixel_scale`."""

    def score(samples: Tensor, truth: Tensor) -> float:
        return ause((samples.mean(0) - truth).abs(), pixel_scale(samples))

    return score


def share_inside() -> IntervalScore:
    """Share of an image's values inside their intervals."""

    def score(low: Tensor, high: Tensor, truth: Tensor) -> float:
        return float(((low <= truth) & (truth <= high)).double().mean())

    return score


def width() -> IntervalScore:
    """Mean width of the intervals in units of the image."""

    def score(low: Tensor, high: Tensor, truth: Tensor) -> float:
        return float((high - low).double().mean())

    return score


def interval_score_90() -> IntervalScore:
    """`interval_score` of 90 % intervals."""

    def score(low: Tensor, high: Tensor, truth: Tensor) -> float:
        return interval_score(low, high, truth, 0.9)

    return score
