"""Statistics of the tables: intervals, paired tests, ranks with their uncertainty, fronts. Items are the sample.

All resampling is over items, with one fixed stream of random numbers, so that tables can be reproduced exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

__all__ = ["bootstrap_interval", "holm", "paired_test", "pareto_front", "rank_intervals"]

REPLICATES = 2000
EXACT_ITEMS = 12


@lru_cache(maxsize=64)
def _counts(n: int) -> Any:
    """Return how often each of n items is drawn in each bootstrap sample, [R, n]."""
    import numpy

    rng = numpy.random.default_rng(n)
    return rng.multinomial(n, [1 / n] * n, size=REPLICATES).astype(numpy.float32)


def bootstrap_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979); NaN for fewer than two values or if one is not finite.

    Like every bootstrap interval, it is too narrow with few items (five: about 85 % coverage instead of 95 %).
    """
    import numpy

    x = numpy.asarray(values, dtype=float)
    if len(x) < 2 or not numpy.isfinite(x).all():
        return numpy.nan, numpy.nan
    means = _counts(len(x)) @ (x - x.mean()).astype(numpy.float32) / len(x) + x.mean()
    low, high = numpy.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_test(differences: Sequence[float]) -> float:
    """Two-sided p-value that differences have mean 0, by flipping their signs (Fisher 1935).

    Exact over all 2^n sign patterns for up to 12 items, else from 20 000 random ones, (1 + hits) / (1 + patterns). NaN
    for fewer than two differences or if one is not finite. Six items cannot give less than 2 / 64.
    """
    import numpy

    d = numpy.asarray(differences, dtype=float)
    n = len(d)
    if n < 2 or not numpy.isfinite(d).all():
        return numpy.nan
    if not d.any():
        return 1.0
    signs = _signs(n)
    least = abs(d.sum()) - 1e-12 * abs(d).sum()  # patterns that tie with the observed signs count despite rounding
    hits = int((numpy.abs(signs.astype(float) @ d) >= least).sum())
    return hits / len(signs) if n <= EXACT_ITEMS else (1 + hits) / (1 + len(signs))


@lru_cache(maxsize=8)
def _signs(n: int) -> Any:
    import numpy

    if n <= EXACT_ITEMS:
        patterns = numpy.arange(2**n)[:, None] >> numpy.arange(n) & 1
    else:
        patterns = numpy.random.default_rng(n).integers(0, 2, size=(20_000, n))
    return (2 * patterns - 1).astype(numpy.int8)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values to control the family-wise error rate (Holm 1979); NaN stays NaN and does not count."""
    import math

    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, least = [math.nan] * len(p_values), 0.0
    for place, (p, i) in enumerate(order):
        least = max(least, min(1.0, (len(order) - place) * p))
        adjusted[i] = least
    return adjusted


def rank_intervals(losses: Sequence[Sequence[float]], level: float = 0.95) -> list[tuple[int, int]]:
    """Return the central bootstrap interval of the rank of each row of losses [k][n] (smaller is better).

    Ranks start at 1; equal means share the better rank.
    """
    import numpy

    x = numpy.asarray(losses, dtype=float)
    k, n = x.shape
    means = _counts(n) @ x.T.astype(numpy.float32) / n if n > 1 else x.T.astype(numpy.float32)
    ranks = 1 + (means[:, None, :] < means[:, :, None]).sum(2)
    low = numpy.quantile(ranks, (1 - level) / 2, axis=0, method="lower")
    high = numpy.quantile(ranks, (1 + level) / 2, axis=0, method="higher")
    return [(int(low[i]), int(high[i])) for i in range(k)]


def pareto_front(costs: Sequence[float], losses: Sequence[float]) -> list[bool]:
    """Return which points are on the front: no other point is at least as good in both and better in one."""
    points = list(zip(costs, losses, strict=True))
    return [not any(c <= cost and m <= loss and (c < cost or m < loss) for c, m in points) for cost, loss in points]
