"""What is known about the noise of an image, read off it or given."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invsolve.noise.clipping import undo_clipped_mean
from invsolve.noise.white import QUANTISATION

__all__ = ["SURE", "NoiseEstimate", "clipped_share", "digits", "given_noise", "white_noise"]

CLIPPED = 0.002
"""Share of clipped values from which the mean of a dark or bright region is worth correcting."""


SURE = 1.4
"""Below this factor the level of a sure estimate may be wrong."""

_DOUBTS = {"eigenvalues": 1.05, "differences": 1.3, "assumed": 3.0, "given": 1.0}
"""By what factor the level may be wrong."""


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise of an image. Levels are standard deviations in [0, 1] units of the image as it is stored.

    Attributes:
        sigma: root mean square of (image - clean image) over all channels.
        low, high: between them lies sigma in 8 of 10 files.
        luma: of the mean of the channels.
        chroma: of what is left in the channels; 0 where they are equal.
        effective: the level that a likelihood of white noise, independent in three channels, should be told.
        correlation_length: standard deviation in pixels of a Gaussian blur that makes white noise as correlated as the
            luma noise is; 0 where it is white.
        gain: (a, b) of the variance a + b x of a channel at brightness x, where no value is clipped.
        unclipped: level before the file clipped values to [0, 1].
        clipped: share of the values that are 0 or 1 in an image that has none beyond.
        history: lossy compression that the image has seen: "none", "jpeg" or "webp".
        method: "network", "eigenvalues" (white noise, stored without loss), "differences" (too few whole patches: a
            mask, or a very small image), "assumed" (nothing could be read) or "given".
        sure: whether `low` and `high` are near each other, and the quietest places of the image show about as much;
            else `sigma` may be wrong by a factor of two or more.
        at_most: the level that the quietest places leave room for: white noise, unless it is surely correlated, and for
            a JPEG file before it was compressed (what its steps hide cannot be seen). Infinite where it cannot be told.
        shown: whether that is about as much as was read; else fine texture was probably read as noise.
        cautious: an effective level that is lower where `sigma` is not sure or not shown: what denoising is told, for
            which too little does less harm than too much.
        description: all this in a sentence.
    """

    sigma: float
    low: float
    high: float
    luma: float
    chroma: float
    effective: float
    correlation_length: float
    gain: tuple[float, float]
    unclipped: float
    clipped: float
    history: str
    method: str
    sure: bool
    cautious: float
    at_most: float = math.inf
    shown: bool = True

    @property
    def description(self) -> str:
        """All this in a sentence."""
        if self.method == "assumed":
            return f"noise cannot be read off so few neighbouring pixels, {self.sigma:.2g} is assumed: give it if known"
        parts = [f"noise of {self.sigma:.3g} ({self.low:.2g} to {self.high:.2g})"]
        if not self.shown:
            parts = [f"noise of at most {max(self.at_most, QUANTISATION):.2g}"]
        if self.chroma < 0.25 * self.luma and self.method != "given":
            parts.append("the same in all channels" if self.equal_channels else "weak in colour")
        if self.correlation_length > 0:
            parts.append(f"correlated over {self.correlation_length:.1f} pixels")
        if self.depends_on_brightness:
            parts.append(f"variance {self.gain[0]:.2g} + {self.gain[1]:.2g} x brightness")
        if self.clipped >= CLIPPED:
            parts.append(f"{100 * self.clipped:.1f} % of the values clipped")
        if self.history != "none":
            parts.append(f"after {'JPEG' if self.history == 'jpeg' else 'WebP'} compression")
        if not self.sure:
            parts.append("not sure: give the level if you know it")
        return ", ".join(parts)

    @property
    def depends_on_brightness(self) -> bool:
        """Whether the variance at white is more than three times that at black."""
        return self.gain[1] > 0

    @property
    def equal_channels(self) -> bool:
        """Whether the noise is the same in all channels, as in grey images."""
        return self.chroma < 0.1 * self.luma

    @property
    def lifts_black(self) -> bool:
        """Whether clipping changed the mean of dark or bright regions by more than rounding does."""
        return self.clipped >= CLIPPED and self.unclipped > 10 * QUANTISATION

    def unbiased(self, x: Tensor) -> Tensor:
        """An image of mean values, corrected for clipped noise: x where `lifts_black` is False; see `clipping`."""
        if not self.lifts_black:
            return x
        a, b = self.gain if self.depends_on_brightness else (self.unclipped**2, 0.0)
        return undo_clipped_mean(x, a, b)

    def scaled(self, factor: float) -> NoiseEstimate:
        """The estimate with all levels so many times as high, at least that of rounding."""
        a, b = self.gain
        return replace(
            self,
            sigma=max(digits(factor * self.sigma), QUANTISATION),
            low=digits(factor * self.low),
            high=digits(factor * self.high),
            luma=factor * self.luma,
            chroma=factor * self.chroma,
            effective=max(digits(factor * self.effective), QUANTISATION),
            gain=(factor**2 * a, factor**2 * b),
            unclipped=factor * self.unclipped,
        )


def given_noise(sigma: float, image: Tensor) -> NoiseEstimate:
    """The noise of an image [C, H, W] whose level somebody knows; the same in all channels where these are equal."""
    grey = len(image) == 1 or bool((image == image[:1]).all())
    return white_noise(max(sigma, QUANTISATION), 1 if grey else 3, clipped_share(image, None), "given")


def white_noise(sigma: float, channels: int, clipped: float, method: str) -> NoiseEstimate:
    """White noise of `sigma` in one channel, or in three that are independent."""
    luma = sigma / channels**0.5
    doubt = _DOUBTS[method]
    sigma = sigma if method == "given" else digits(sigma)
    return NoiseEstimate(
        sigma=sigma,
        low=sigma / doubt,
        high=sigma * doubt,
        luma=luma,
        chroma=math.sqrt(max(sigma**2 - luma**2, 0.0)),
        effective=3**0.5 * luma,
        cautious=3**0.5 * luma,
        correlation_length=0.0,
        gain=(sigma**2, 0.0),
        unclipped=sigma,
        clipped=clipped,
        history="none",
        method=method,
        sure=doubt < SURE,
    )


def digits(value: float) -> float:
    """A level with the three digits that it has."""
    return float(f"{value:.3g}")


def clipped_share(image: Tensor, known: Tensor | None) -> float:
    """Share of values that are 0 or 1; 0 where some lie beyond, so that nothing was clipped."""
    values = image if known is None else image[:, known]
    if not values.numel():
        return 0.0
    low, high = (float(v) for v in torch.aminmax(values))
    if low < 0 or high > 1 or (low > 0 and high < 1):
        return 0.0
    return int(torch.count_nonzero((values <= 0) | (values >= 1))) / values.numel()
