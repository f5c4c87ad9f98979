"""Clocks of guidance, and combinations of two predictions that need more than one weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError, check_positive
from invsolve.core.linalg import per_sample
from invsolve.core.schedule import Schedule

__all__ = ["Clock", "FrequencyWeights", "collapse", "logsnr_clock", "pyramid", "rescaled", "step_clock"]

Clock = Callable[[float], float]
"""A function t -> u in [0, 1], with u = 1 at noise."""


def pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """The bands x_l - up(down(x_l)) from high to low frequency; the last entry is the remainder; x [N, C, H, W].

    down is 2x2 average pooling, up is bilinear; for any choice of both, `collapse` restores x exactly.

    Raises:
        InputError: height or width is not divisible by 2^(levels - 1).
    """
    factor = 2 ** (levels - 1)
    if x.ndim != 4 or x.shape[-2] % factor or x.shape[-1] % factor:
        raise InputError(
            f"{levels} levels need images [N, C, H, W] with sides divisible by {factor}, got {list(x.shape)}"
        )
    bands = []
    for _ in range(levels - 1):
        low = F.avg_pool2d(x, 2)
        bands.append(x - _up(low))
        x = low
    return [*bands, x]


def collapse(bands: list[Tensor]) -> Tensor:
    """Reconstruct the image from its pyramid."""
    x = bands[-1]
    for band in reversed(bands[:-1]):
        x = band + _up(x)
    return x


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class FrequencyWeights:
    """Frequency-decoupled guidance: level l of the pyramids is P(u)_l + w_l (P(c)_l - P(u)_l).

    Sadat et al. 2025, arXiv 2506.19713. Equal weights give plain guidance.

    Args:
        weights: one per level, from the highest to the lowest frequency, for example (10, 5).
    """

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.weights:
            raise InputError("frequency-decoupled guidance needs one weight for each level, got none")
        check_positive(torch.tensor(self.weights), "each frequency weight", zero=True)

    def __call__(self, one: Tensor, two: Tensor) -> Tensor:
        """The guided tensor from the conditional one and the unconditional one."""
        n = len(self.weights)
        bands = zip(self.weights, pyramid(one, n), pyramid(two, n), strict=True)
        return collapse([u + w * (c - u) for w, c, u in bands])


def rescaled(guided: Tensor, conditional: Tensor, phi: float) -> Tensor:
    """phi guided std(conditional) / std(guided) + (1 - phi) guided, with the standard deviations of each sample."""
    ratio = conditional.flatten(1).std(1) / guided.flatten(1).std(1).clamp_min(torch.finfo(guided.dtype).tiny)
    return guided * (phi * per_sample(ratio, guided) + (1 - phi))


def step_clock(times: tuple[float, ...]) -> Clock:
    """A clock with u = 1 - i / (N - 1) at the i-th of N decreasing times, linear between them."""
    n = len(times)
    if n < 2 or any(b >= a for a, b in zip(times, times[1:], strict=False)):
        raise InputError("a clock of steps needs two or more falling times")

    def clock(t: float) -> float:
        below = next((i for i, time in enumerate(times) if time <= t), n - 1)
        if below == 0 or times[below] > t:
            return 1.0 if below == 0 else 0.0
        part = (times[below - 1] - t) / (times[below - 1] - times[below])
        return 1 - (below - 1 + part) / (n - 1)

    return clock


def logsnr_clock(schedule: Schedule, t_min: float = 1e-3) -> Clock:
    """A clock u = log(sigma / alpha), scaled to 0 at `t_min` and 1 at t = 1; alpha is limited to at least 1e-4."""

    def log_ratio(t: float) -> float:
        alpha, sigma = schedule(t)
        return math.log(sigma / max(alpha, 1e-4))

    low, high = log_ratio(t_min), log_ratio(1.0)
    return lambda t: min(1.0, max(0.0, (log_ratio(max(t, t_min)) - low) / (high - low)))
