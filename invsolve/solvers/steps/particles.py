"""Several particles per sample: [N, P, ...] is flattened to [N * P, ...] for the prior and the cost."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.rng import NoiseSource

__all__ = ["RowNoise", "choose", "pick", "systematic"]


class RowNoise(NoiseSource):
    """Noise for [N * P, ...] drawn as [N, P, ...]: the numbers of a particle come from the stream of its sample."""

    def __init__(self, rng: NoiseSource, size: int) -> None:
        self.rng, self.size = rng, size

    def normal(self, like: Tensor) -> Tensor:
        return self.rng.normal(like.unflatten(0, (-1, self.size))).flatten(0, 1)

    def uniform(self, like: Tensor) -> Tensor:
        return self.rng.uniform(like.unflatten(0, (-1, self.size))).flatten(0, 1)

    def poisson(self, rate: Tensor) -> Tensor:
        return self.rng.poisson(rate.unflatten(0, (-1, self.size))).flatten(0, 1)

    def state(self) -> Tensor:
        return self.rng.state()

    def restore(self, state: Tensor) -> None:
        self.rng.restore(state)


def pick(values: Tensor, index: Tensor) -> Tensor:
    """values[i, index[i]]: [N, P, ...] and [N] -> [N, ...], or [N, Q] -> [N, Q, ...]."""
    rows = torch.arange(len(values), device=values.device)
    return values[rows, index] if index.ndim == 1 else values[rows[:, None], index]


def choose(log_weights: Tensor, rng: NoiseSource) -> Tensor:
    """Draw one index per row in proportion to exp(log_weights) [N, P], with one uniform number each (none if P = 1)."""
    if log_weights.shape[1] == 1:
        return torch.zeros(len(log_weights), dtype=torch.long, device=log_weights.device)
    u = rng.uniform(log_weights.new_empty(len(log_weights), 1))
    levels = log_weights.softmax(1).cumsum(1)
    return torch.searchsorted(levels, u * levels[:, -1:], right=True)[:, 0].clamp_max(log_weights.shape[1] - 1)


def systematic(log_weights: Tensor, rng: NoiseSource, threshold: float) -> tuple[Tensor, Tensor]:
    """Systematic resampling of the rows whose effective sample size 1 / sum w^2 is at most `threshold` P.

    Returns the indices [N, P] (unchanged for rows that are not resampled) and the new log weights (0 for resampled
    rows). Every row draws one uniform number in both cases, unless there is nothing to choose (P = 1 or threshold 0).
    """
    n, size = log_weights.shape
    own = torch.arange(size, device=log_weights.device).expand(n, size)
    if size == 1 or threshold == 0.0:
        return own, log_weights
    weights = log_weights.softmax(1)
    low = weights.square().sum(1) * threshold * size >= 1.0
    u = rng.uniform(log_weights.new_empty(n, 1))
    points = (torch.arange(size, device=u.device, dtype=u.dtype) + u) / size
    levels = weights.cumsum(1)
    drawn = torch.searchsorted(levels, points * levels[:, -1:], right=True).clamp_max(size - 1)
    return torch.where(low[:, None], drawn, own), torch.where(low[:, None], 0.0, log_weights)
