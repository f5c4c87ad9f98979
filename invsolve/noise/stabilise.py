"""Variance-stabilising transform for images whose noise grows with brightness."""

from __future__ import annotations

from invsolve.noise.estimated import NoiseEstimate
from invsolve.noise.sensor import SensorNoise

__all__ = ["stabiliser_of"]

LEAST = 0.3
"""Minimum share of the constant part in the mean variance: with less, small errors of the curve become large at
black."""


def stabiliser_of(noise: NoiseEstimate) -> SensorNoise | None:
    """Convert a noise estimate to noise that can be stabilised; None if the noise does not depend on brightness."""
    variance = noise.unclipped**2
    a, b = noise.gain
    if not noise.depends_on_brightness or a >= variance:
        return None
    least = LEAST * variance
    return SensorNoise(a, b) if a >= least else SensorNoise(least, b * (variance - least) / (variance - a))
