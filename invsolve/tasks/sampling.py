"""Detect how an image was downsampled, from its spectrum near the Nyquist frequency.

Smoothing filters leave little power there: bicubic and Lanczos filters leave a quarter of it, block averages half of
it. If only every n-th pixel was kept, the image has more power there than any photograph, because finer detail is
folded back (aliasing). The spectra of photographs vary as much, so the result is a probability for each kind.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from invsolve.core.lazy import torch
from invsolve.io.image import middle

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BANDS", "DENSE", "GAINS", "KINDS", "Sampling", "packaged_regressions", "read_sampling", "spectral_bands"]

KINDS = ("bicubic", "area", "nearest")
"""Kinds of smoothing: a filter that ends at the new Nyquist frequency (bicubic, Lanczos), block averages, none."""

BANDS = 5
"""Number of bands of |frequency| along each axis, from 0 to the Nyquist frequency."""

SMALLEST, LARGEST = 24, 512
"""Smallest side in pixels of an image that can be analysed, and largest side of the central part that is used."""


GAINS = {
    2: {
        "lossless": {
            "bicubic": {"bicubic": 2.5, "area": 1.5, "nearest": -5.9},
            "area": {"bicubic": 1.8, "area": 2.2, "nearest": -2.0},
            "nearest": {"bicubic": 1.0, "area": 1.0, "nearest": 0.4},
        },
        "jpeg": {
            "bicubic": {"bicubic": 1.2, "area": 0.9, "nearest": -3.4},
            "area": {"bicubic": 1.1, "area": 1.3, "nearest": -1.1},
            "nearest": {"bicubic": 0.6, "area": 0.9, "nearest": 0.4},
        },
    },
    4: {
        "lossless": {
            "bicubic": {"bicubic": 1.9, "area": 1.6, "nearest": -5.8},
            "area": {"bicubic": 1.3, "area": 1.5, "nearest": -2.4},
            "nearest": {"bicubic": 0.0, "area": 0.0, "nearest": 0.0},
        },
        "jpeg": {
            "bicubic": {"bicubic": 1.1, "area": 0.8, "nearest": -3.6},
            "area": {"bicubic": 0.9, "area": 1.0, "nearest": -1.5},
            "nearest": {"bicubic": 0.0, "area": 0.0, "nearest": 0.0},
        },
    },
}
"""PSNR gain in dB over bicubic interpolation, by factor, file, assumed kind and true kind. Losses count five times.
Means over eight crops, by `python -m benchmarks.sampling gains --photos PHOTOS --told bicubic area aliased`, with
`--side 40` for a factor of 2, `--factor 4 --side 28`, and `--quality 85`."""

DENSE = 2
"""The largest factor at which values at the pixel centres of an aliased image are better than interpolation."""

DROPPED = {"lossless": 1.0, "jpeg": 0.25}
"""Prior weight of "nearest" relative to the other kinds: programs that write JPEG files usually smooth."""

WORDS = {"bicubic": "a smoothing filter", "area": "averaging blocks", "nearest": "keeping one pixel of each block"}


@dataclass(frozen=True)
class Sampling:
    """How an image was downsampled, according to its spectrum.

    Attributes:
        probabilities: probability of each of `KINDS`; they sum to one.
        file: compression of the file, "lossless" or "jpeg".
        factor: downsampling factor.
    """

    probabilities: Mapping[str, float]
    file: Literal["lossless", "jpeg"] = "lossless"
    factor: int = 2

    @property
    def safest(self) -> str:
        """The kind to assume: the one with the largest expected gain over interpolation; losses count more."""
        table = GAINS[2 if self.factor <= DENSE else 4][self.file]

        def expected(assumed: str) -> float:
            return sum(p * table[assumed][kind] for kind, p in self.probabilities.items())

        return max(KINDS, key=expected)

    @property
    def description(self) -> str:
        """A text description of the result and its consequence."""
        told = ", ".join(f"by {WORDS[kind]} {100 * p:.0f} %" for kind, p in self.probabilities.items())
        enlarged = "enlarged close to" if self.factor <= DENSE else "enlarged by"
        follows = {
            "bicubic": "bicubic is assumed",
            "area": "the mean of blocks is assumed",
            "nearest": f"it may be aliased, so it is {enlarged} interpolation",
        }
        return f"made smaller {told}, as its spectrum near the Nyquist frequency shows: {follows[self.safest]}"


def read_sampling(image: Tensor, factor: int, *, compressed: bool) -> Sampling | None:
    """Estimate how an image [C, h, w] in [0, 1] was downsampled; None if it is too small.

    The probabilities come from a softmax regression on `spectral_bands`, fitted to photographs:
    `python -m benchmarks.sampling fit`.

    Args:
        image: the small image.
        factor: downsampling factor; the regression of the nearest known factor is used.
        compressed: whether it was a JPEG file, whose quantisation changes the spectrum.
    """
    if min(image.shape[1:]) < SMALLEST:
        return None
    file: Literal["lossless", "jpeg"] = "jpeg" if compressed else "lossless"
    tables = packaged_regressions()[file]
    table = tables[min(tables, key=lambda known: abs(int(known) - factor))]
    weight = torch.tensor(table["weight"], dtype=torch.float64)
    bias = torch.tensor(table["bias"], dtype=torch.float64)
    bias[KINDS.index("nearest")] += math.log(DROPPED[file])
    probabilities = torch.softmax(weight @ spectral_bands(image) + bias, 0)
    return Sampling(dict(zip(KINDS, probabilities.tolist(), strict=True)), file, factor)


def spectral_bands(image: Tensor) -> Tensor:
    """Return the log mean power of the grey image in bands of |f_y| and |f_x|, minus that of the lowest band, [14].

    A Hann window is applied to the image, or to the middle of a large image. (i, j) and (j, i) are one band.
    """
    grey = middle(image.double().mean(0), LARGEST)
    power = windowed_power(grey)
    rows, columns = (
        (torch.fft.fftfreq(side, dtype=grey.dtype).abs() * 2 * BANDS).long().clamp_max(BANDS - 1) for side in grey.shape
    )
    places = (rows[:, None] * BANDS + columns).flatten()
    total = torch.zeros(BANDS * BANDS, dtype=grey.dtype).index_add(0, places, power.flatten())
    mean_power = (total / places.bincount(minlength=BANDS * BANDS)).view(BANDS, BANDS)
    first, second = torch.triu_indices(BANDS, BANDS)
    bands = (0.5 * (mean_power + mean_power.T)[first, second]).clamp_min(1e-12).log()
    return bands[1:] - bands[0]


def windowed_power(grey: Tensor) -> Tensor:
    """The power spectrum [H, W] of a grey image under a Hann window; white noise has its variance at each frequency."""
    down, across = (torch.hann_window(side, dtype=grey.dtype) for side in grey.shape)
    window = down[:, None] * across
    mean = (grey * window).sum() / window.sum()
    return torch.fft.fft2((grey - mean) * window).abs().square() / window.square().sum()


@cache
def packaged_regressions() -> Mapping[str, Any]:
    """Return the packaged weights and biases, by "lossless" or "jpeg" and by factor."""
    return json.loads((files("invsolve") / "presets" / "sampling.json").read_text(encoding="utf-8"))
