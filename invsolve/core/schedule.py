"""Noise schedules: x_t = alpha_t x_0 + sigma_t n for t from 1 (noise) down to 0 (clean).

A step goes from `t` to `s` < `t`. Times and coefficients are Python floats (float64) that are computed once for a path,
so no step has to read them from the device.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from invsolve.core.checks import InputError, as_tensor

__all__ = ["CosineSchedule", "DDPMSchedule", "FlowSchedule", "Schedule", "Step", "VESchedule", "VPSchedule", "path"]


class Step(NamedTuple):
    """One step of a path, from time `t` to `s`, with the coefficients at both ends."""

    t: float
    s: float
    alpha_t: float
    sigma_t: float
    alpha_s: float
    sigma_s: float


class Schedule(ABC):
    """t in [0, 1] -> (alpha_t, sigma_t), with alpha_0 = 1 and sigma_0 = 0. Schedules are immutable."""

    @abstractmethod
    def coefficients(self, t: float) -> tuple[float, float]:
        """(alpha_t, sigma_t) at one time."""

    def __call__(self, t: float) -> tuple[float, float]:
        """(alpha_t, sigma_t).

        Raises:
            InputError: `t` is outside [0, 1].
        """
        t = float(t)
        if not 0.0 <= t <= 1.0:
            raise InputError(f"a time must lie in [0, 1] (1 is noise, 0 is clean), got {t}")
        return self.coefficients(t)

    def grid(self, n: int, t_start: float = 1.0) -> list[float]:
        """n + 1 times from `t_start` to 0, equally spaced."""
        check_grid(n, t_start)
        return [t_start * (n - i) / n for i in range(n)] + [0.0]

    def time_of(self, noise_to_signal: float) -> float:
        """The time at which sigma_t / alpha_t equals `noise_to_signal`; 1.0 if it never does.

        This method uses bisection; the schedules of this module override it with closed forms.
        """
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            alpha, sigma = self.coefficients(middle)
            low, high = (middle, high) if sigma < noise_to_signal * alpha else (low, middle)
        return high

    def log_grid(self, n: int, first: float, last: float) -> tuple[float, ...]:
        """n times at which sigma_t / alpha_t falls from `first` to `last` by equal factors, then 0.

        They serve as a solver's `times`. If `last` is the measurement's noise in the prior's units, no step is spent on
        noise levels below that of the data. These are the levels of Zhang et al. 2021 (arXiv 2008.13751).

        Raises:
            InputError: the ratios do not decrease, or do not stay above 0.
        """
        check_grid(n, 1.0)
        if not (0 < last < first < math.inf):
            raise InputError(f"noise-to-signal ratios must fall, and to more than 0, got {first} to {last}")
        return (*(self.time_of(first * (last / first) ** (k / max(n - 1, 1))) for k in range(n)), 0.0)


class DDPMSchedule(Schedule):
    """The discrete variance-preserving table of DDPM (Ho et al. 2020, arXiv 2006.11239).

    Index k of N is the time t = (k + 1) / N; alpha_bar(0) = 1 exactly. Between indices, log alpha_bar is linear.

    Args:
        betas: N values in (0, 1), the last one at most 1 (pure noise); linspace(1e-4, 0.02, 1000) if not given.
    """

    def __init__(self, betas: Tensor | Sequence[float] | None = None) -> None:
        if betas is None:
            betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        table = as_tensor(betas, "betas").cpu().double()
        if (
            table.ndim != 1
            or len(table) == 0
            or not bool((table > 0).all() and (table[:-1] < 1).all() and table[-1] <= 1)
        ):
            raise InputError(f"betas must be a list of numbers in (0, 1), the last at most 1, got {list(table.shape)}")
        self.betas: tuple[float, ...] = tuple(table.tolist())
        bars = torch.cumprod(1 - table, 0)
        self.alpha_bars: tuple[float, ...] = (1.0, *bars.tolist())

    @property
    def n_times(self) -> int:
        """N, the number of indices."""
        return len(self.betas)

    def index(self, t: float) -> int:
        """The table index (0 to N - 1) nearest to the time `t`."""
        return min(max(round(t * self.n_times) - 1, 0), self.n_times - 1)

    def coefficients(self, t: float) -> tuple[float, float]:
        position = t * self.n_times
        k = round(position)
        if abs(position - k) < 1e-6:
            bar = self.alpha_bars[k]
        else:
            k = math.floor(position)
            before, after, way = self.alpha_bars[k], self.alpha_bars[k + 1], position - k
            # If the last index is pure noise, its logarithm does not exist: the signal falls to 0 linearly.
            bar = before ** (1 - way) * after**way if after > 0 else before * (1 - way)
        return math.sqrt(bar), math.sqrt(1.0 - bar)

    def time_of(self, noise_to_signal: float) -> float:
        bar = 1.0 / (1.0 + noise_to_signal**2)
        k = bisect_right(self.alpha_bars, -bar, key=operator.neg) - 1
        if k >= self.n_times:
            return 1.0
        before, after = self.alpha_bars[k], self.alpha_bars[k + 1]
        way = math.log(before / bar) / math.log(before / after) if after > 0 else 1.0 - bar / before
        return (k + way) / self.n_times

    def grid(self, n: int, t_start: float = 1.0) -> list[float]:
        """The index lists of the papers: range(0, end, end // n) with end = N t_start, in reverse order, then 0.

        If n does not divide `end`, the list is longer than n (as published: 400 steps of 1000 make 500).
        """
        check_grid(n, t_start)
        end = round(t_start * self.n_times)
        if n > end:
            raise InputError(f"at most {end} steps fit below t_start={t_start} on a table of {self.n_times}, got {n}")
        return [(k + 1) / self.n_times for k in reversed(range(0, end, end // n))] + [0.0]

    def __repr__(self) -> str:
        return f"DDPMSchedule({self.n_times} steps, beta {self.betas[0]:g} to {self.betas[-1]:g})"


class VPSchedule(Schedule):
    """Continuous variance-preserving SDE, beta(t) = beta_min + (beta_max - beta_min) t.

    Song et al. 2021, arXiv 2011.13456.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        if not 0 < beta_min <= beta_max:
            raise InputError(f"expected 0 < beta_min <= beta_max, got {beta_min} and {beta_max}")
        self.beta_min, self.beta_max = beta_min, beta_max

    def beta(self, t: float) -> float:
        """The drift rate at time `t`."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def coefficients(self, t: float) -> tuple[float, float]:
        integral = self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t * t
        return math.exp(-0.5 * integral), math.sqrt(-math.expm1(-integral))

    def time_of(self, noise_to_signal: float) -> float:
        integral = math.log1p(noise_to_signal**2)
        root = math.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral)
        return min(1.0, 2 * integral / (self.beta_min + root))

    def __repr__(self) -> str:
        return f"VPSchedule(beta_min={self.beta_min:g}, beta_max={self.beta_max:g})"


class VESchedule(Schedule):
    """Variance-exploding: alpha = 1, sigma(t) = sigma_max t^rho (Karras et al. 2022, arXiv 2206.00364).

    The grid comes from the same paper: sigma^(1/rho) equally spaced from sigma(t_start) to `sigma_min`, then 0.
    """

    def __init__(self, sigma_max: float = 80.0, sigma_min: float = 0.002, rho: float = 7.0) -> None:
        if not 0 < sigma_min < sigma_max or rho <= 0:
            raise InputError(f"expected 0 < sigma_min < sigma_max and rho > 0, got {sigma_min}, {sigma_max}, {rho}")
        self.sigma_max, self.sigma_min, self.rho = sigma_max, sigma_min, rho

    def coefficients(self, t: float) -> tuple[float, float]:
        return 1.0, self.sigma_max * t**self.rho

    def time_of(self, noise_to_signal: float) -> float:
        return min(1.0, (noise_to_signal / self.sigma_max) ** (1 / self.rho))

    def grid(self, n: int, t_start: float = 1.0) -> list[float]:
        check_grid(n, t_start)
        last = min((self.sigma_min / self.sigma_max) ** (1 / self.rho), t_start)
        return [t_start + (last - t_start) * i / max(n - 1, 1) for i in range(n)] + [0.0]

    def __repr__(self) -> str:
        return f"VESchedule(sigma_max={self.sigma_max:g}, sigma_min={self.sigma_min:g}, rho={self.rho:g})"


class CosineSchedule(Schedule):
    """alpha_bar(t) = f(t)/f(0), f = cos^2(pi/2 (t + s)/(1 + s)) (Nichol and Dhariwal 2021, arXiv 2102.09672)."""

    def __init__(self, offset: float = 0.008) -> None:
        if not 0 <= offset < 1:
            raise InputError(f"expected an offset in [0, 1), got {offset}")
        self.offset = offset

    def coefficients(self, t: float) -> tuple[float, float]:
        start = math.cos(math.pi / 2 * self.offset / (1 + self.offset))
        alpha = 0.0 if t == 1.0 else math.cos(math.pi / 2 * (t + self.offset) / (1 + self.offset)) / start
        return alpha, math.sqrt(max(0.0, 1.0 - alpha * alpha))

    def time_of(self, noise_to_signal: float) -> float:
        start = math.cos(math.pi / 2 * self.offset / (1 + self.offset))
        angle = math.acos(start / math.hypot(1.0, noise_to_signal))
        return min(max(angle * 2 / math.pi * (1 + self.offset) - self.offset, 0.0), 1.0)

    def __repr__(self) -> str:
        return f"CosineSchedule(offset={self.offset:g})"


class FlowSchedule(Schedule):
    """Straight-line flow matching: alpha = 1 - t, sigma = t (Lipman et al. 2023, arXiv 2210.02747).

    Args:
        shift: s, which moves the times of a grid towards noise: t = s u / (1 + (s - 1) u) for u equally spaced
            (Esser et al. 2024, arXiv 2403.03206, equation 23).
    """

    def __init__(self, shift: float = 1.0) -> None:
        if not shift > 0:
            raise InputError(f"shift must be above 0, got {shift}")
        self.shift = shift

    def grid(self, n: int, t_start: float = 1.0) -> list[float]:
        check_grid(n, t_start)
        first = t_start / (self.shift + (1 - self.shift) * t_start)
        steps = [first * (n - i) / n for i in range(n)]
        return [t_start, *(self.shift * u / (1 + (self.shift - 1) * u) for u in steps[1:]), 0.0]

    def coefficients(self, t: float) -> tuple[float, float]:
        return 1.0 - t, t

    def time_of(self, noise_to_signal: float) -> float:
        return noise_to_signal / (1.0 + noise_to_signal)

    def __repr__(self) -> str:
        return "FlowSchedule()" if self.shift == 1.0 else f"FlowSchedule(shift={self.shift:g})"


def check_grid(n: int, t_start: float) -> None:
    """Raise `InputError` unless `n` steps from `t_start` form a grid."""
    if n < 1:
        raise InputError(f"a path needs at least 1 step, got n_steps={n}")
    if not 0.0 < t_start <= 1.0:
        raise InputError(f"t_start must lie in (0, 1], got {t_start}")


def check_times(times: Sequence[float], noisy_end: bool = False) -> None:
    """Raise `InputError` unless the times decrease from at most 1 to 0, or with `noisy_end` to any time."""
    end = times[-1] if times else -1.0
    ended = end == 0 or (noisy_end and end > 0)
    if len(times) < 2 or times[0] > 1 or any(s >= t for t, s in pairwise(times)) or not ended:
        raise InputError(f"times must fall from at most 1 to 0, got {list(times[:3])} ... {list(times[-1:])}")


@lru_cache(maxsize=64)
def path(
    schedule: Schedule,
    n: int,
    t_start: float = 1.0,
    times: tuple[float, ...] | None = None,
    noisy_end: bool = False,
) -> tuple[Step, ...]:
    """The steps of a path with their coefficients, computed once for a schedule and a grid.

    Args:
        n: number of steps, see `Schedule.grid`.
        t_start: first time.
        times: explicit times (decreasing to 0) instead of `n` and `t_start`.
        noisy_end: whether the path may end above 0, so that the result keeps a little noise.
    """
    grid = list(times) if times is not None else schedule.grid(n, t_start)
    check_times(grid, noisy_end)
    ends = [(t, *schedule(t)) for t in grid]
    return tuple(Step(t, s, at, gt, as_, gs) for (t, at, gt), (s, as_, gs) in pairwise(ends))
