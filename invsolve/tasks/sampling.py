"""How an image was made smaller, told from its spectrum near the Nyquist frequency.

Filters that average leave little power there: bicubic's and Lanczos' a quarter of it, the mean of a block half of it.
An image of which only every so many pixels were kept has more there than any photograph, as what is finer than its grid
is folded back (aliasing). The law of photographs varies by as much, so that the answer is a probability for each kind.
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

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BANDS", "DENSE", "GAINS", "KINDS", "Sampling", "packaged_regressions", "read_sampling", "spectral_bands"]

KINDS = ("bicubic", "area", "nearest")
"""Smoothed by a filter that ends at the new Nyquist frequency (bicubic, Lanczos), by the mean of blocks, not at all."""

BANDS = 5
"""Of |frequency| along each axis, from 0 to the Nyquist frequency."""

SMALLEST, LARGEST = 24, 512
"""Sides in pixels of images of which something can be told, and of the middle that is looked at."""


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
"""PSNR in dB above bicubic interpolation, losses five times, by factor, what is assumed and what was done: means over
eight crops by `python -m benchmarks.sampling gains --photos PHOTOS --told bicubic area aliased`, with `--side 40` for a
factor of 2, `--factor 4 --side 28`, and `--quality 85`."""

DENSE = 2
"""The largest factor at which the values at the middles of an aliased image's pixels do better than interpolation."""

DROPPED = {"lossless": 1.0, "jpeg": 0.25}
"""How often pixels were dropped, against the other kinds: programs that write JPEG files smooth what they shrink."""

WORDS = {"bicubic": "a smoothing filter", "area": "averaging blocks", "nearest": "keeping every so many pixels"}


@dataclass(frozen=True)
class Sampling:
    """What an image shows of how it was made smaller.

    Attributes:
        probabilities: of each of `KINDS`; they sum to one.
        file: "lossless" or "jpeg", as it was compressed.
        factor: by which the image was made smaller.
    """

    probabilities: Mapping[str, float]
    file: Literal["lossless", "jpeg"] = "lossless"
    factor: int = 2

    @property
    def safest(self) -> str:
        """The kind to assume: that of the largest expected gain over interpolation, in which losses count more."""
        table = GAINS[2 if self.factor <= DENSE else 4][self.file]

        def expected(assumed: str) -> float:
            return sum(p * table[assumed][kind] for kind, p in self.probabilities.items())

        return max(KINDS, key=expected)

    @property
    def description(self) -> str:
        """What was found and what follows, in words."""
        told = ", ".join(f"by {WORDS[kind]} {100 * p:.0f} %" for kind, p in self.probabilities.items())
        enlarged = "enlarged close to" if self.factor <= DENSE else "enlarged by"
        follows = {
            "bicubic": "taken as bicubic",
            "area": "taken as the mean of blocks",
            "nearest": f"it may be aliased, and is {enlarged} interpolation",
        }
        return f"made smaller {told}, as its spectrum near the Nyquist frequency shows: {follows[self.safest]}"


def read_sampling(image: Tensor, factor: int, *, compressed: bool) -> Sampling | None:
    """How probably an image [C, h, w] in [0, 1] was made smaller in each way; None where it is too small to tell.

    By a softmax regression on `spectral_bands`, fitted to photographs: `python -m benchmarks.sampling fit`.

    Args:
        image: the small image.
        factor: by which it was made smaller; what was measured for the nearest one counts.
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
    """Logarithms of the grey image's mean power in bands of |f_y| and |f_x|, less that of the lowest, [14].

    A Hann window is put on the image, of large ones on the middle; (i, j) and (j, i) are one band.
    """
    grey = image.double().mean(0)
    top, left = (max(side - LARGEST, 0) // 2 for side in grey.shape)
    grey = grey[top : top + LARGEST, left : left + LARGEST]
    down, across = (torch.hann_window(side, dtype=grey.dtype) for side in grey.shape)
    window = down[:, None] * across
    mean = (grey * window).sum() / window.sum()
    power = torch.fft.fft2((grey - mean) * window).abs().square() / window.square().sum()
    rows, columns = (
        (torch.fft.fftfreq(side, dtype=grey.dtype).abs() * 2 * BANDS).long().clamp_max(BANDS - 1) for side in grey.shape
    )
    places = (rows[:, None] * BANDS + columns).flatten()
    total = torch.zeros(BANDS * BANDS, dtype=grey.dtype).index_add(0, places, power.flatten())
    mean_power = (total / places.bincount(minlength=BANDS * BANDS)).view(BANDS, BANDS)
    first, second = torch.triu_indices(BANDS, BANDS)
    bands = (0.5 * (mean_power + mean_power.T)[first, second]).clamp_min(1e-12).log()
    return bands[1:] - bands[0]


@cache
def packaged_regressions() -> Mapping[str, Any]:
    """Weights and biases by "lossless" or "jpeg" and factor."""
    return json.loads((files("invsolve") / "presets" / "sampling.json").read_text(encoding="utf-8"))
