"""Sensor noise, with variance a + b x at a value x: estimated from raw values, and stabilised to white noise.

Stabilisation: Starck, Murtagh and Bijaoui 1998, "Image Processing and Data Analysis" (generalised Anscombe transform);
its inverse: Makitalo and Foi 2013, "Optimal inversion of the generalized Anscombe transformation for Poisson-Gaussian
noise", IEEE Transactions on Image Processing 22.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError

__all__ = ["SensorNoise", "estimate_sensor_noise"]

SMALLEST = (1e-9, 1e-7)
"""Smallest a and b that are distinguished from 0."""

CELL = 4
"""Side of the cells for which the variance is computed, in differences of 2 x 2 values of one colour."""

FLAT = 0.1
"""Share of the cells of equal brightness that count as flat: the cells with the least variation show only noise."""

BINS, MIN_CELLS = 64, 40
"""Number of brightness bins, and minimum number of cells per bin."""

SATURATED = 0.95


@dataclass(frozen=True)
class SensorNoise:
    """Poisson-Gaussian noise: x is measured as b n + sqrt(a) e, n ~ Poisson(x / b), e normal.

    With k = x / b counts and s^2 = a / b^2, t = 2 sqrt(k + 3/8 + s^2) has noise of standard deviation about 1. `encode`
    scales t so that black is 0 and white is 1, similar to stored images. The likelihood of encoded values is that of
    white Gaussian noise of `level`. Developed photographs keep much of this noise; see `invsolve.noise.stabilise`.

    Args:
        a: variance at black, in [0, 1] units of the values.
        b: growth of the variance: the variance at white minus a.
    """

    a: float
    b: float

    @property
    def _counts(self) -> tuple[float, float]:
        """Counts at white, and the variance of the readout noise in counts."""
        a, b = max(self.a, SMALLEST[0]), max(self.b, SMALLEST[1])
        return 1 / b, a / b**2

    @property
    def _ends(self) -> tuple[float, float]:
        """t of black and white."""
        white, read = self._counts
        return 2 * math.sqrt(3 / 8 + read), 2 * math.sqrt(white + 3 / 8 + read)

    @property
    def level(self) -> float:
        """Standard deviation of the noise of encoded values."""
        black, white = self._ends
        return 1 / (white - black)

    def encode(self, x: Tensor) -> Tensor:
        """Return (t(x) - t(0)) / (t(1) - t(0)) in the precision of x; noisy values may be below 0."""
        counts, read = self._counts
        black, white = self._ends
        t = 2 * (counts * x.double() + 3 / 8 + read).clamp_min(0).sqrt()
        return ((t - black) / (white - black)).to(x)

    def decode(self, mean: Tensor) -> Tensor:
        """Return the x whose noisy encoded values have this mean (closed-form exact unbiased inverse); at least 0."""
        counts, read = self._counts
        black, white = self._ends
        t = (black + (white - black) * mean.double()).clamp_min(black)
        k = t**2 / 4 + (1.5**0.5 / 4) / t - 11 / 8 / t**2 + (5 * 1.5**0.5 / 8) / t**3 - 1 / 8 - read
        return (k.clamp_min(0) / counts).to(mean)


def estimate_sensor_noise(planes: Tensor) -> SensorNoise:
    """Estimate the noise of sensor values from the values alone.

    In cells of 8 x 8 values of one colour, the mean square of second differences along both axes, scaled to norm 1, is
    the noise variance, or larger if there is texture. Among the cells of equal brightness, the flattest tenth show only
    noise: their largest variance is the quantile of a chi-squared distribution. a + b x is fitted to these variances by
    least squares with weights 1 / variance^2, a and b at least 0.

    Args:
        planes: [P, H, W], one plane for each place in the colour filter tile; 0 is black, 1 is sensor saturation.

    Raises:
        InputError: too few values, or only black and white values.
    """
    from scipy.stats import chi2

    side = 2 * CELL
    height, width = (side * (n // side) for n in planes.shape[-2:])
    if not height or not width:
        raise InputError(f"{planes[0].numel()} values per colour are too few to estimate the noise: use a larger file")
    x = planes[:, :height, :width].double()
    second = torch.tensor([1.0, -2.0, 1.0], dtype=x.dtype) / 6**0.5
    bent = F.conv2d(
        F.pad(x[:, None], (0, 1, 0, 1), mode="replicate"), torch.outer(second, second)[None, None], stride=2
    )
    variance = F.avg_pool2d(bent.square(), CELL).flatten()
    mean, top = F.avg_pool2d(x, side).flatten(), F.max_pool2d(x, side).flatten()
    kept = (top < SATURATED) & (variance > 0)
    mean, variance = mean[kept], variance[kept]
    if len(mean) < MIN_CELLS:
        raise InputError(
            "too little of the raw file lies between black and white to estimate its noise: develop it to TIFF"
        )
    order = mean.argsort()
    bins = order.chunk(max(1, min(BINS, len(order) // MIN_CELLS)))
    freedom = CELL**2
    low = float(chi2.ppf(FLAT, freedom)) / freedom
    at = torch.tensor([float(mean[part][variance[part] <= variance[part].quantile(FLAT)].mean()) for part in bins])
    seen = torch.tensor([float(variance[part].quantile(FLAT)) / low for part in bins])
    a, b = _line(at.clamp_min(0), seen)
    return SensorNoise(a, b)


def _line(x: Tensor, v: Tensor) -> tuple[float, float]:
    """Fit the line a + b x, a and b at least 0, to v with weights 1 / (a + b x)^2."""
    from scipy.optimize import nnls

    a, b, weight = 0.0, 0.0, 1 / v
    for _ in range(5):
        design = torch.stack([weight, weight * x], 1).double()
        (a, b), _ = nnls(design.numpy(), (weight * v).double().numpy())
        weight = 1 / (a + b * x).clamp_min(1e-12)
    return float(a), float(b)
