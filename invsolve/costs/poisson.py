"""Photon counting noise, alone and with read-out noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.cost import Likelihood
from invsolve.core.operator import EMPTY, Operator, Params
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import AtLeastZero, Positive, check_settings

__all__ = ["PoissonGaussianLikelihood", "PoissonLikelihood"]


@dataclass(frozen=True, eq=False)
class PoissonLikelihood(Likelihood):
    """peak y ~ Poisson(peak A(x) + background): -log p = sum [ r - n log r + log n! ], n = peak y, r the rate.

    Rates are clamped to at least 1e-3 counts, so that the gradient stays finite where A(x) <= 0.

    Args:
        operator: A, with outputs of at least 0.
        y: measurements [B, *operator.out_shape] in units of A(x), at least 0 (counts divided by `peak`), or None.
        peak: expected counts where A(x) = 1.
        background: expected counts where A(x) = 0.

    Raises:
        InputError: peak is not above 0, background is below 0, or y is negative or has another shape.
    """

    operator: Operator
    y: Tensor | None
    peak: Positive
    background: AtLeastZero = 0.0

    per_item = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)
        if self.y is not None and bool((self.y < 0).any()):
            raise InputError("Poisson measurements are counts divided by peak and cannot be negative")

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        rate, counts = _expected(self, x, theta).clamp_min(1e-3), self.peak * self.measurement
        return (rate - counts * rate.log() + torch.lgamma(counts + 1)).flatten(1).sum(1)

    def simulate(self, x: Tensor, rng: NoiseSource, theta: Params = EMPTY) -> Tensor:
        rate = _expected(self, x, theta).clamp_min(0.0)
        return self.operator.observed(rng.poisson(rate) / self.peak)


@dataclass(frozen=True, eq=False)
class PoissonGaussianLikelihood(Likelihood):
    """y = n / peak + sigma e, n ~ Poisson(r), r = peak A(x) + background: a sensor with read-out noise.

        -log p = -sum log sum_n exp(-r) r^n / n! N(y; n / peak, sigma^2)

    The inner sum runs over the counts within 9 standard deviations of its largest term and is exact to rounding; the
    number of counts grows with the smaller of sqrt(r) and peak sigma. Rates are clamped to at least 1e-3 counts.

    Args:
        operator: A, with outputs of at least 0.
        y: measurements [B, *operator.out_shape] in units of A(x), or None.
        peak: expected counts where A(x) = 1.
        sigma: standard deviation of the read-out noise in units of A(x), above 0.
        background: expected counts where A(x) = 0.
    """

    operator: Operator
    y: Tensor | None
    peak: Positive
    sigma: Positive
    background: AtLeastZero = 0.0

    per_item = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma == 0:
            raise InputError("sigma must be above 0: without read-out noise use PoissonLikelihood")
        check_settings(self)

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        rate = _expected(self, x, theta).clamp_min(1e-3)
        counts, noise = self.peak * self.measurement, self.peak * self.sigma
        middle = _likeliest(rate.detach(), counts, noise)
        width = (1 / (1 / middle.clamp_min(1.0) + 1 / noise**2)).sqrt()
        reach = math.ceil(9 * float(width.max())) + 1
        total = torch.full_like(rate, -math.inf)
        log_rate = rate.log()
        for offset in range(-reach, reach + 1):
            n = middle.round() + offset
            term = n * log_rate - torch.lgamma(n.clamp_min(0.0) + 1) - 0.5 * ((counts - n) / noise).square()
            total = torch.logaddexp(total, torch.where(n >= 0, term, -math.inf))
        constant = math.log(self.sigma) + 0.5 * math.log(2 * math.pi)
        return (rate - total + constant).flatten(1).sum(1)

    def simulate(self, x: Tensor, rng: NoiseSource, theta: Params = EMPTY) -> Tensor:
        rate = _expected(self, x, theta).clamp_min(0.0)
        return self.operator.observed(rng.poisson(rate) / self.peak + self.sigma * rng.normal(rate))


def _expected(cost: PoissonLikelihood | PoissonGaussianLikelihood, x: Tensor, theta: Params) -> Tensor:
    """peak A(x) + background, the expected counts."""
    return cost.peak * cost.operator(x, theta) + cost.background


def _likeliest(rate: Tensor, counts: Tensor, noise: float) -> Tensor:
    """The count n >= 0 of the largest term n log r - log n! - (c - n)^2 / (2 s^2), by bisection on its slope."""
    low = torch.zeros_like(rate)
    high = torch.maximum(rate, counts).clamp_min(0.0) + 2.0
    for _ in range(max(1, math.ceil(math.log2(float(high.max()) + 1)) + 2)):
        n = 0.5 * (low + high)
        slope = rate.log() - torch.special.digamma(n + 1) + (counts - n) / noise**2
        low, high = torch.where(slope > 0, n, low), torch.where(slope > 0, high, n)
    return 0.5 * (low + high)
