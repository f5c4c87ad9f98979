"""Noise that is not Gaussian: Laplace, impulses, speckle, quantisation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.cost import Likelihood, broadcast_sigma
from invsolve.core.operator import EMPTY, Operator, Params
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import Positive, Range, check_settings
from invsolve.costs.gaussian import check_level

__all__ = ["ImpulseLikelihood", "LaplaceLikelihood", "QuantisedLikelihood", "SpeckleLikelihood"]

TINY = 1e-6
"""Speckle needs a brightness above 0, so A(x) is clamped to at least this."""


@dataclass(frozen=True, eq=False)
class LaplaceLikelihood(Likelihood):
    """y = A(x) + n with density exp(-|n| / b) / (2 b): -log p = sum |y - A(x)| / b + m log(2 b).

    Args:
        operator: A, with real outputs.
        y: measurements [B, *operator.out_shape], or None.
        scale: b, in [0, 1] units, above 0: one number, or one for each item [B]. The standard deviation is sqrt(2) b.
    """

    operator: Operator
    y: Tensor | None
    scale: float | Tensor

    per_item = ("scale",)

    def __post_init__(self) -> None:
        check_level(self.scale, "the scale of Laplace noise")
        super().__post_init__()

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        residual = self.residual(x, theta)
        scale = torch.as_tensor(broadcast_sigma(self.scale, residual), dtype=residual.dtype, device=residual.device)
        return (residual.abs() / scale + torch.log(2 * scale)).flatten(1).sum(1)

    def simulate(self, x: Tensor, rng: NoiseSource, theta: Params = EMPTY) -> Tensor:
        clean = self.operator(x, theta)
        u = rng.uniform(clean) - 0.5
        noise = -u.sign() * torch.log1p(-(2 * u.abs()).clamp_max(1 - 2**-24))
        return self.operator.observed(clean + broadcast_sigma(self.scale, clean) * noise)


@dataclass(frozen=True, eq=False)
class ImpulseLikelihood(Likelihood):
    """An entry is replaced by a uniform value with probability q, and has Gaussian noise otherwise:

        -log p = -sum log( (1 - q) N(y; A(x), sigma^2) + q / (high - low) [low <= y <= high] )

    Entries far from A(x) have almost no gradient: a robust cost for dead pixels, salt and pepper, and outliers of any
    kind.

    Args:
        operator: A, with real outputs.
        y: measurements [B, *operator.out_shape], or None.
        sigma: standard deviation of the entries that are not replaced, above 0.
        probability: q, in (0, 1).
        low, high: range of the impulses.
    """

    operator: Operator
    y: Tensor | None
    sigma: Positive
    probability: Annotated[float, Range(0, 1, above=True, below=True)]
    low: float = 0.0
    high: float = 1.0

    per_item = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)
        if self.low >= self.high:
            raise InputError(f"impulses need low < high, got {self.low} and {self.high}")

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        residual = self.residual(x, theta)
        good = math.log1p(-self.probability) - math.log(self.sigma) - 0.5 * math.log(2 * math.pi)
        inside = (self.measurement >= self.low) & (self.measurement <= self.high)
        bad = torch.full_like(residual, math.log(self.probability / (self.high - self.low)))
        bad = bad.masked_fill(~inside, -math.inf)
        density = torch.logaddexp(good - 0.5 * (residual / self.sigma).square(), bad)
        return -density.flatten(1).sum(1)

    def simulate(self, x: Tensor, rng: NoiseSource, theta: Params = EMPTY) -> Tensor:
        clean = self.operator(x, theta)
        noisy = clean + self.sigma * rng.normal(clean)
        hit, value = rng.uniform(clean) < self.probability, rng.uniform(clean)
        return self.operator.observed(torch.where(hit, self.low + (self.high - self.low) * value, noisy))


@dataclass(frozen=True, eq=False)
class SpeckleLikelihood(Likelihood):
    """y = A(x) g, g ~ Gamma(shape L, mean 1): the intensity of coherent imaging averaged over L looks.

        -log p = sum [ L y / r - (L - 1) log y + L log(r / L) + log Gamma(L) ],   r = max(A(x), 1e-6)

    Args:
        operator: A, with outputs of at least 0.
        y: measurements [B, *operator.out_shape], above 0, or None.
        looks: L, above 0; 1 is fully developed speckle. The standard deviation is r / sqrt(L).
    """

    operator: Operator
    y: Tensor | None
    looks: Positive

    per_item = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)
        if self.y is not None:
            measured = self.operator.measures(self.y)
            if bool((self.y[measured] <= 0).any()):
                raise InputError("measurements with speckle must be above 0: mask the others, or add a small offset")

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        y, looks = self.measurement, self.looks
        rate = self.operator(x, theta).clamp_min(TINY)
        logs = torch.where(y > 0, y, 1.0).log()
        terms = looks * y / rate - (looks - 1) * logs + looks * (rate / looks).log() + math.lgamma(looks)
        return torch.where(y > 0, terms, 0.0).flatten(1).sum(1)

    def simulate(self, x: Tensor, rng: NoiseSource, theta: Params = EMPTY) -> Tensor:
        from scipy.special import gammaincinv

        clean = self.operator(x, theta).clamp_min(TINY)
        u = rng.uniform(clean.double()).clamp_min(2**-25).cpu().numpy()
        return self.operator.observed(clean * torch.from_numpy(gammaincinv(self.looks, u) / self.looks).to(clean))


@dataclass(frozen=True, eq=False)
class QuantisedLikelihood(Likelihood):
    """Gaussian noise, then rounding to the nearest of `levels` equally spaced values from 0 to 1:

        -log p = -sum log [ F((y + d/2 - A(x)) / sigma) - F((y - d/2 - A(x)) / sigma) ],   d = 1 / (levels - 1)

    with F the standard normal distribution function. The first and the last level also include all values beyond them,
    because the rounding clips.

    Args:
        operator: A, with real outputs.
        y: measurements [B, *operator.out_shape], each one of the levels, or None.
        sigma: standard deviation of the noise before the rounding, above 0.
        levels: 256 for 8 bits, 2 for a comparator.
    """

    operator: Operator
    y: Tensor | None
    sigma: Positive
    levels: Annotated[int, Range(2)] = 256

    per_item = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)
        if self.y is not None:
            index = self.y * (self.levels - 1)
            off = float((index - index.round()).abs().max())
            if off > 1e-3 or bool((self.y < -1e-6).any()) or bool((self.y > 1 + 1e-6).any()):
                raise InputError(f"every entry of y must be one of {self.levels} levels from 0 to 1: round it first")

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        y, half = self.measurement, 0.5 / (self.levels - 1)
        centre = y - self.operator(x, theta)
        upper = torch.where(y > 1 - half, math.inf, (centre + half) / self.sigma)
        lower = torch.where(y < half, -math.inf, (centre - half) / self.sigma)
        return -_log_interval(lower, upper).flatten(1).sum(1)

    def simulate(self, x: Tensor, rng: NoiseSource, theta: Params = EMPTY) -> Tensor:
        clean = self.operator(x, theta)
        steps = self.levels - 1
        return self.operator.observed(
            (steps * (clean + self.sigma * rng.normal(clean))).round().clamp(0, steps) / steps
        )


def _log_interval(lower: Tensor, upper: Tensor) -> Tensor:
    """log(F(upper) - F(lower)) without cancellation: the interval is mirrored into the lower tail first."""
    flip = lower > -upper
    a, b = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    finite = torch.isfinite(a)
    log_b = torch.special.log_ndtr(torch.where(torch.isfinite(b), b, 40.0))
    log_a = torch.special.log_ndtr(torch.where(finite, a, -1.0))
    gap = torch.where(finite, log_a - log_b, -1.0).clamp_max(-1e-12)
    return torch.where(finite, log_b + torch.log(-torch.expm1(gap)), log_b)
