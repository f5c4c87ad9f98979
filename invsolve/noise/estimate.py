"""`estimate_noise`: what an image says about its own noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.core.checks import ShapeError
from invsolve.io.inputs import Source, as_image
from invsolve.noise.clipping import undo_clipped_mean
from invsolve.noise.network import HISTORIES, LEVELS, packaged_noise_network
from invsolve.noise.tiles import MIN_SIDE, Cells, FileReading, read_file, tiles_of
from invsolve.noise.white import QUANTISATION, estimate_sigma, sigma_or_none

__all__ = ["NoiseEstimate", "estimate_noise", "given_noise", "noise_of"]

CLIPPED = 0.002
"""Share of clipped values from which the mean of a dark or bright region is worth correcting."""

_CLIPPED_WHITE = 0.01
_UNCORRELATED = 0.2
_HIDDEN = 0.004
_SIDE = 512
_AGREEMENT_ROUNDED, _AGREEMENT = 1.25, 1.6
_MIN_CELLS, _MIN_RANGE = 40, 0.05
_CLEAR, _FITS, _GROWS = 1.0, 0.4, 2.0
_SURE = 1.4
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
        sure: whether `low` and `high` are near each other; else `sigma` may be wrong by a factor of two.
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

    @property
    def description(self) -> str:
        """All this in a sentence."""
        if self.method == "assumed":
            return f"noise cannot be read off so few neighbouring pixels, {self.sigma:.2g} is assumed: give it if known"
        parts = [f"noise of {self.sigma:.3g} ({self.low:.2g} to {self.high:.2g})"]
        if self.chroma < 0.25 * self.luma and self.method != "given":
            parts.append("the same in all channels" if self.chroma < 0.1 * self.luma else "weak in colour")
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
    def lifts_black(self) -> bool:
        """Whether clipping changed the mean of dark or bright regions by more than rounding does."""
        return self.clipped >= CLIPPED and self.unclipped > 10 * QUANTISATION

    def unbiased(self, x: Tensor) -> Tensor:
        """An image of mean values, corrected for clipped noise: x where `lifts_black` is False; see `clipping`."""
        if not self.lifts_black:
            return x
        a, b = self.gain if self.depends_on_brightness else (self.unclipped**2, 0.0)
        return undo_clipped_mean(x, a, b)


def estimate_noise(image: Source, known: Tensor | None = None) -> NoiseEstimate:
    """Read the noise of an image from the image alone.

    A small network reads up to nine tiles of 96 x 96 pixels. Where it finds white noise that is independent in the
    channels, and no lossy compression, and the smallest eigenvalues of the patches' covariance agree, these are more
    exact and count instead; see `estimate_sigma`. Where a mask leaves no whole tile, or the image is very small, that
    estimator is all there is.

    Args:
        image: a file, an `Image`, a tensor [C, H, W] in [0, 1] or an array [H, W, C]; not blurred or enlarged, or the
            noise is that of the blurred or enlarged image.
        known: bool [H, W]: pixels that count; all of them if not given.

    Raises:
        InputError: an image that cannot be read, or is too small to tell.
        ShapeError: the mask has another size.
    """
    pixels = as_image(image).pixels
    if known is not None and tuple(known.shape) != tuple(pixels.shape[1:]):
        raise ShapeError(f"known has the shape of the image, {list(pixels.shape[1:])}, got {list(known.shape)}")
    return noise_of(pixels, known)


def noise_of(pixels: Tensor, known: Tensor | None = None, assumed: float | None = None) -> NoiseEstimate:
    """`estimate_noise` of pixels [C, H, W] that may lie anywhere, with numbers of three digits.

    An estimate has no more, and what differs between runs in the last place does not show.

    Args:
        pixels, known: see `estimate_noise`.
        assumed: the level where nothing can be read; that is an error if None.
    """
    tiles = tiles_of(pixels, known) if min(pixels.shape[1:]) >= MIN_SIDE else pixels[:0]
    clipped = _clipped(pixels, known)
    if not len(tiles):
        read = estimate_sigma(pixels, known) if assumed is None else sigma_or_none(pixels, known)
        if read is None:
            return _white(assumed or QUANTISATION, len(pixels), clipped, "assumed")
        return _white(read, len(pixels), clipped, "differences")
    found = _read(read_file(packaged_noise_network(), tiles.expand(-1, 3, -1, -1).float()), clipped)
    rounded = _rounded(tiles)
    if _may_be_white(found, len(pixels), lossless=not rounded or found.history == "none"):
        sigma = max(estimate_sigma(_middle(pixels) if known is None else pixels, known), QUANTISATION)
        allowed = _AGREEMENT_ROUNDED if rounded else _AGREEMENT
        if 1 / allowed < sigma / found.sigma < allowed:
            return _white(sigma, len(pixels), clipped, "eigenvalues")
    return found


def given_noise(sigma: float, image: Tensor) -> NoiseEstimate:
    """The noise of an image [C, H, W] whose level somebody knows; the same in all channels where these are equal."""
    grey = len(image) == 1 or bool((image == image[:1]).all())
    return _white(max(sigma, QUANTISATION), 1 if grey else 3, _clipped(image, None), "given")


def _white(sigma: float, channels: int, clipped: float, method: str) -> NoiseEstimate:
    """White noise of `sigma` in one channel, or in three that are independent."""
    luma = sigma / channels**0.5
    doubt = _DOUBTS[method]
    sigma = sigma if method == "given" else _digits(sigma)
    return NoiseEstimate(
        sigma=sigma,
        low=sigma / doubt,
        high=sigma * doubt,
        luma=luma,
        chroma=math.sqrt(max(sigma**2 - luma**2, 0.0)),
        effective=3**0.5 * luma,
        correlation_length=0.0,
        gain=(sigma**2, 0.0),
        unclipped=sigma,
        clipped=clipped,
        history="none",
        method=method,
        sure=doubt < _SURE,
    )


def _read(reading: FileReading, clipped: float) -> NoiseEstimate:
    levels = dict(zip(LEVELS, [[_digits(v) for v in row] for row in reading.levels.exp().tolist()], strict=True))
    low, sigma, high = levels["total"]
    luma, chroma, unclipped = (levels[name][1] for name in ("luma", "chroma", "unclipped"))
    told = luma > _HIDDEN and reading.correlation > _UNCORRELATED
    length = _digits(0.5 / math.sqrt(-math.log(min(reading.correlation, 0.97)))) if told else 0.0
    return NoiseEstimate(
        sigma=max(sigma, QUANTISATION),
        low=low,
        high=high,
        luma=luma,
        chroma=chroma,
        effective=_digits(max(_correlated(reading.correlation) * 3**0.5 * luma, QUANTISATION)),
        correlation_length=length,
        gain=_gain(reading.cells, unclipped**2),
        unclipped=max(unclipped, sigma),
        clipped=clipped,
        history=HISTORIES[int(reading.history.argmax())],
        method="network",
        sure=high / low < _SURE**2,
    )


def _correlated(correlation: float) -> float:
    """How much stronger white noise does as much harm to a restoration as noise of this correlation of neighbours.

    Fitted to the best levels on training photographs that `python -m benchmarks.noise effective` finds: 1 for white
    noise, 1.2 at a correlation of 0.3, 1.4 to 1.5 at 0.6, about 1.8 at 0.8.
    """
    rho = min(max(correlation, 0.0), 1.0)
    return 1 + 0.5 * rho + 0.6 * rho**2


def _gain(cells: Cells, variance: float) -> tuple[float, float]:
    """(a, b) >= 0 of the a + b x that fits the map best, scaled to the level of the file; b = 0 where it does not fit.

    Weighted least squares with weights 1 / (a + b x)^2, as variances of normal values have, in cells where no channel
    is so near to black or white that the file clipped some of the noise.
    """
    reach = _CLEAR * math.sqrt(variance)
    low, high = cells.channels.amin(1), cells.channels.amax(1)
    clear = (low > reach) & (high < 1 - reach)
    x, v = cells.channels[clear].mean(1), cells.variance[clear]
    if len(x) < _MIN_CELLS or float(x.std()) < _MIN_RANGE or variance < _HIDDEN**2:
        return variance, 0.0
    a, b = float(v.mean()), 0.0
    for _ in range(10):
        w = 1 / (a + b * x).square()
        mean_x, mean_v = float((w * x).sum() / w.sum()), float((w * v).sum() / w.sum())
        b = float((w * (x - mean_x) * (v - mean_v)).sum() / (w * (x - mean_x).square()).sum())
        a = mean_v - b * mean_x
        if b <= 0:
            return variance, 0.0
        if a <= 0:
            a, b = 1e-3 * mean_v, mean_v / mean_x
    fit = a + b * x
    if float(torch.corrcoef(torch.stack([x, v.log()]))[0, 1]) < _FITS or b < _GROWS * a:
        return variance, 0.0
    scale = variance / float(fit.mean())
    return _digits(scale * a), _digits(scale * b)


def _may_be_white(found: NoiseEstimate, channels: int, *, lossless: bool) -> bool:
    """Whether nothing speaks against white noise, independent in the channels, in an image stored without loss."""
    independent = channels == 1 or 1.1 < (found.chroma / found.luma) ** 2 < 3.6
    even = found.clipped < _CLIPPED_WHITE and not found.depends_on_brightness
    return lossless and independent and even and found.correlation_length == 0


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def _middle(image: Tensor) -> Tensor:
    """Enough of a large image for its patches."""
    top, left = (max(side - _SIDE, 0) // 2 for side in image.shape[1:])
    return image[:, top : top + _SIDE, left : left + _SIDE]


def _rounded(image: Tensor) -> bool:
    """Whether the values are those of an 8 bit file."""
    values = 255 * image
    return float((values - values.round()).abs().gt(0.01).float().mean()) < 0.01


def _clipped(image: Tensor, known: Tensor | None) -> float:
    """Share of values that are 0 or 1; 0 where some lie beyond, so that nothing was clipped."""
    values = image if known is None else image[:, known]
    if not values.numel() or float(values.min()) < 0 or float(values.max()) > 1:
        return 0.0
    return float(((values <= 0) | (values >= 1)).float().mean())
