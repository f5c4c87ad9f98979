"""Making noise that grows with brightness the same everywhere, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from invsolve.noise.estimate import NoiseEstimate

__all__ = ["Stabiliser"]

LEAST = 0.3
"""Least share of the constant part in the mean variance: with less, small errors of the curve become large at black."""


@dataclass(frozen=True)
class Stabiliser:
    """The transformation of x with noise of variance a + b x to values of one noise level, 0 at 0 and 1 at 1:

        f(x) = (sqrt(a + b x) - sqrt(a)) / (sqrt(a + b) - sqrt(a))

    A denoiser of white noise serves f(x). On the way back b / 4 is added: E[f(x + noise)] is f(x - b / 4) to first
    order, as sqrt is concave.

    Anscombe 1948, Biometrika 35; Makitalo and Foi 2013, "Optimal inversion of the generalized Anscombe transformation
    for Poisson-Gaussian noise", IEEE Transactions on Image Processing 22.

    Attributes:
        a, b: above 0.
    """

    a: float
    b: float

    @classmethod
    def of(cls, noise: NoiseEstimate) -> Self | None:
        """The transformation for what was read off an image; None where its noise does not depend on brightness."""
        variance = noise.unclipped**2
        a, b = noise.gain
        if not noise.depends_on_brightness or a >= variance:
            return None
        least = LEAST * variance
        return cls(a, b) if a >= least else cls(least, b * (variance - least) / (variance - a))

    @property
    def _span(self) -> float:
        return math.sqrt(self.a + self.b) - math.sqrt(self.a)

    @property
    def level(self) -> float:
        """Standard deviation of the noise of f(x), to first order."""
        return self.b / (2 * self._span)

    def __call__(self, x: Tensor) -> Tensor:
        """f(x) of any shape."""
        return ((self.a + self.b * x).clamp_min(1e-3 * self.a).sqrt() - math.sqrt(self.a)) / self._span

    def inverse(self, value: Tensor) -> Tensor:
        """The x whose noisy values have this mean of f, to first order."""
        root = (value * self._span + math.sqrt(self.a)).clamp_min(0)
        return (root.square() - self.a) / self.b + self.b / 4
