"""Weights omega of classifier-free guidance, as functions of the sampler's position.

The convention is eps = eps_u + omega (eps_c - eps_u): 1 is the conditional model, 0 the unconditional one, and values
above 1 extrapolate. Papers that write (1 + w) eps_c - w eps_u have omega = 1 + w. u in [0, 1] is the clock of the
guidance: 1 at noise and 0 at a clean sample. "growing" means growing during sampling.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from invsolve.core.checks import InputError, check_positive
from invsolve.core.linalg import row_norm
from invsolve.core.prior import Prediction

__all__ = [
    "C2FG", "RAAG", "BetaWeight", "Clamp", "Constant", "Cosine", "Interval", "Linear", "MeanMatched", "Moment",
    "Sine", "Tent", "Weight", "as_weight", "mean_weight",
]  # fmt: skip


class Moment(NamedTuple):
    """Position of the sampler: u on the guidance clock, and the noise-to-signal ratio sigma_t / alpha_t."""

    u: float
    ratio: float = math.nan


class Weight(ABC):
    """omega at a moment: a number, or one per sample [N] if it depends on the predictions."""

    @property
    def feedback(self) -> bool:
        """Whether the weight depends on the two predictions, so that both are always needed."""
        return False

    def at(self, now: Moment) -> Weight:
        """The weight that is active at a moment: itself, unless it is composed of several weights."""
        return self

    @abstractmethod
    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float | Tensor:
        """Return omega; `pair` is the conditional and the unconditional prediction."""


@dataclass(frozen=True)
class _Level(Weight, ABC):
    """A weight proportional to omega, at least 0."""

    omega: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self.omega, "the guidance weight omega", zero=True)


@dataclass(frozen=True)
class Constant(_Level):
    """A constant weight omega (Ho and Salimans 2022, arXiv 2207.12598)."""

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float:
        return self.omega


@dataclass(frozen=True)
class C2FG(_Level):
    """omega exp(lam (1 - u)): omega at the start and omega e^lam at the end (Gao et al. 2026, arXiv 2603.08155)."""

    lam: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.lam, "C2FG's lambda", zero=True)

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float:
        return self.omega * math.exp(self.lam * (1 - now.u))


@dataclass(frozen=True)
class Linear(_Level):
    """omega (1 - u) if growing, else omega u; twice that if `mean_preserving`, so that the mean is omega."""

    growing: bool = True
    mean_preserving: bool = False

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float:
        ramp = 1 - now.u if self.growing else now.u
        return self.omega * ramp * (2 if self.mean_preserving else 1)


@dataclass(frozen=True)
class Sine(_Level):
    """omega sin(pi u)."""

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float:
        return self.omega * math.sin(math.pi * now.u)


@dataclass(frozen=True)
class Cosine(_Level):
    """omega (1 + cos(pi u)), growing, with mean omega."""

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float:
        return self.omega * (1 + math.cos(math.pi * now.u))


@dataclass(frozen=True)
class Tent(_Level):
    """2 omega (1 - |2u - 1|) if `peak`, with the maximum in the middle, else 2 omega |2u - 1|; the mean is omega."""

    peak: bool = True

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float:
        away = abs(2 * now.u - 1)
        return 2 * self.omega * (1 - away if self.peak else away)


@dataclass(frozen=True)
class BetaWeight(_Level):
    """beta-CFG: omega B(1 - u; a, b) / |eps_c - eps_u|^gamma with the Beta density B (Malarz et al. 2025).

    arXiv 2502.10574. At the ends, where B = 0, the sampler follows the unconditional model. With gamma = 0 the weight
    does not depend on the predictions.
    """

    a: float = 2.0
    b: float = 2.0
    gamma: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.a, self.b) < 1:
            raise InputError(f"the Beta density needs a and b of at least 1 to stay finite, got {self.a} and {self.b}")
        check_positive(self.gamma, "gamma", zero=True)

    @property
    def feedback(self) -> bool:
        """Whether the weight is divided by a norm."""
        return self.gamma > 0

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float | Tensor:
        v, log_norm = 1 - now.u, math.lgamma(self.a + self.b) - math.lgamma(self.a) - math.lgamma(self.b)
        density = math.exp(log_norm) * v ** (self.a - 1) * (1 - v) ** (self.b - 1)
        if not self.feedback:
            return self.omega * density
        assert pair is not None
        norm = row_norm(pair[0].eps - pair[1].eps)
        return self.omega * density / norm.clamp_min(torch.finfo(norm.dtype).tiny) ** self.gamma


@dataclass(frozen=True)
class RAAG(Weight):
    """1 + (omega_max - 1) exp(-alpha rho), rho = |v_c - v_u| / |v_u| of the velocities v = eps - x0.

    Zhu et al. 2025, arXiv 2508.03442. During most of a run of a weakly conditional model, rho is small and the weight
    is close to omega_max.
    """

    omega_max: float = 18.0
    alpha: float = 12.0
    squared: bool = False

    def __post_init__(self) -> None:
        check_positive(self.omega_max, "the largest guidance weight", zero=True)
        check_positive(self.alpha, "RAAG's alpha", zero=True)

    @property
    def feedback(self) -> bool:
        """Always."""
        return True

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> Tensor:
        assert pair is not None
        v_c, v_u = (p.eps - p.x0 for p in pair)
        rho = row_norm(v_c - v_u) / row_norm(v_u).clamp_min(torch.finfo(v_u.dtype).tiny)
        return 1 + (self.omega_max - 1) * torch.exp(-self.alpha * (rho.square() if self.squared else rho))


@dataclass(frozen=True)
class Interval(Weight):
    """Another weight if low <= u <= high, `outside` otherwise (Kynkaanniemi et al. 2024, arXiv 2404.07724).

    With `outside` = 1 the unconditional network is not called outside the interval. With clock "sigma" the bounds are
    values of the noise-to-signal ratio sigma_t / alpha_t, as for EDM models. The inner weight uses the u of the whole
    run.
    """

    inner: Weight | float = 1.0
    low: float = 0.0
    high: float = 0.7
    outside: float = 1.0
    clock: Literal["u", "sigma"] = "u"

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise InputError(f"an interval needs 0 <= low <= high, got {self.low} and {self.high}")
        as_weight(self.inner)
        check_positive(self.outside, "the weight outside the interval", zero=True)

    @property
    def feedback(self) -> bool:
        """Whether the inner weight depends on the predictions."""
        return as_weight(self.inner).feedback

    def at(self, now: Moment) -> Weight:
        place = now.u if self.clock == "u" else now.ratio
        if math.isnan(place):
            raise InputError(
                f"{self} follows sigma_t / alpha_t: its mean over u depends on the schedule, use clock='u'"
            )
        return as_weight(self.inner).at(now) if self.low <= place <= self.high else Constant(self.outside)

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float | Tensor:
        return self.at(now)(now, pair)


@dataclass(frozen=True)
class Clamp(Weight):
    """Another weight with a lower bound: max(minimum, inner)."""

    inner: Weight
    minimum: float = 1.0

    @property
    def feedback(self) -> bool:
        """Whether the inner weight depends on the predictions."""
        return self.inner.feedback

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float | Tensor:
        value = self.inner(now, pair)
        return value.clamp_min(self.minimum) if isinstance(value, Tensor) else max(self.minimum, value)


@dataclass(frozen=True)
class MeanMatched(Weight):
    """Another weight scaled to a given mean over u, to compare schedules at equal average strength."""

    inner: Weight
    target: float

    def __post_init__(self) -> None:
        if mean_weight(self.inner) <= 0:
            raise InputError(f"{self.inner} has no positive mean that could be matched")

    def __call__(self, now: Moment, pair: tuple[Prediction, Prediction] | None = None) -> float | Tensor:
        return self.inner(now, pair) * (self.target / mean_weight(self.inner))


@lru_cache(maxsize=256)
def mean_weight(weight: Weight | float, n: int = 1000) -> float:
    """The mean of a weight over u in [0, 1] (midpoints of `n` cells).

    Raises:
        InputError: the weight depends on the predictions or on the noise-to-signal ratio, so its mean is not defined.
    """
    weight = as_weight(weight)
    if weight.feedback:
        raise InputError(f"{weight} follows the predictions: its mean depends on the run")
    return sum(float(weight(Moment((i + 0.5) / n))) for i in range(n)) / n


def as_weight(weight: Weight | float) -> Weight:
    """Convert a number to a constant weight."""
    return weight if isinstance(weight, Weight) else Constant(float(weight))
