"""The noise of an image, estimated or given."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invsolve.noise.clipping import undo_clipped_mean
from invsolve.noise.white import QUANTISATION

__all__ = ["SURE", "NoiseEstimate", "clipped_share", "digits", "given_noise", "white_noise"]

CLIPPED = 0.002
"""Share of clipped values above which the mean of dark and bright regions is corrected."""


SURE = 1.4
"""A sure estimate is accurate to within this factor."""

_DOUBTS = {"eigenvalues": 1.05, "differences": 1.3, "assumed": 3.0, "given": 1.0}
"""Factor within which the level is accurate, by method."""


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise of an image. Levels are standard deviations in [0, 1] units of the image as stored.

    Attributes:
        sigma: root mean square of (image - clean image) over all channels.
        low, high: sigma is between them in 8 of 10 files.
        luma: noise level of the mean of the channels.
        chroma: noise level of the rest of the channels; 0 if all channels are equal.
        effective: the level to use in a likelihood of white noise that is independent in three channels.
        correlation_length: standard deviation in pixels of a Gaussian blur that makes white noise as correlated as the
            luma noise; 0 for white noise.
        gain: (a, b) of the variance a + b x of a channel at brightness x, without clipping.
        unclipped: level before the file clipped values to [0, 1].
        clipped: share of the values that are 0 or 1; 0 if any value lies outside [0, 1].
        history: earlier lossy compression of the image: "none", "jpeg" or "webp".
        method: "network", "eigenvalues" (white noise, stored without loss), "differences" (too few whole patches: a
            mask, or a very small image), "assumed" (no estimate was possible), "given", or "task" (the task's own).
        sure: whether `low` and `high` are close together, and the quietest places of the image show a similar level;
            else `sigma` may be wrong by a factor of two or more.
        at_most: upper bound of the level from the quietest places: for white noise, unless it is certainly correlated,
            and for a JPEG file before compression (its steps hide noise). Infinite if unknown.
        shown: whether this bound is about as large as the estimate; else texture was probably mistaken for noise.
        cautious: an effective level that is lower if `sigma` is not sure or not shown. Denoising uses it, because a
            level that is too low does less harm than one too high.
        description: a text description of the estimate.
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
        """A text description of the estimate."""
        if self.method == "assumed":
            return (
                f"noise cannot be estimated from so few neighbouring pixels, so {self.sigma:.2g} is assumed: give the "
                "level if you know it"
            )
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
        """Whether the noise is equal in all channels, as in grey images."""
        return self.chroma < 0.1 * self.luma

    @property
    def lifts_black(self) -> bool:
        """Whether clipping changed the mean of dark or bright regions by more than rounding."""
        return self.clipped >= CLIPPED and self.unclipped > 10 * QUANTISATION

    def unbiased(self, x: Tensor) -> Tensor:
        """Correct an image of mean values for clipped noise; x itself if `lifts_black` is False; see `clipping`."""
        if not self.lifts_black:
            return x
        a, b = self.gain if self.depends_on_brightness else (self.unclipped**2, 0.0)
        return undo_clipped_mean(x, a, b)

    def scaled(self, factor: float) -> NoiseEstimate:
        """Return the estimate with all levels multiplied by `factor`, but not below the level of rounding."""
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
    """Return the noise of an image [C, H, W] for a given level; equal channels have equal noise."""
    grey = len(image) == 1 or bool((image == image[:1]).all())
    return white_noise(max(sigma, QUANTISATION), 1 if grey else 3, clipped_share(image, None), "given")


def white_noise(sigma: float, channels: int, clipped: float, method: str) -> NoiseEstimate:
    """Return white noise of level `sigma` in one channel, or in three independent channels."""
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
    """Round a level to three significant digits."""
    return float(f"{value:.3g}")


def clipped_share(image: Tensor, known: Tensor | None) -> float:
    """Return the share of values that are 0 or 1; 0 if some are beyond, because then nothing was clipped."""
    values = image if known is None else image[:, known]
    if not values.numel():
        return 0.0
    low, high = (float(v) for v in torch.aminmax(values))
    if low < 0 or high > 1 or (low > 0 and high < 1):
        return 0.0
    return int(torch.count_nonzero((values <= 0) | (values >= 1))) / values.numel()
