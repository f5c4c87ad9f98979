"""`estimate_noise`: what an image says about its own noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invsolve.core.checks import ShapeError
from invsolve.io.inputs import Source, as_image
from invsolve.io.jpeg import JPEGTables
from invsolve.io.jpeg_history import found_quality
from invsolve.noise.clipping import undo_clipped_mean
from invsolve.noise.evidence import Bounds, bounds_of
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
_CLEAR_WINDOWS = 2.0
_SURE = 1.4
_SHOWN, _CONTRADICTED = 0.7, 0.5
"""Share of the noise read that the quietest places must leave room for, to be taken as it is, and to be sure of."""

_EVEN = 0.92
"""How even the high frequencies of the quietest places are that hold nothing but white noise."""

_FALL, _JPEG_FALL, _WIDE, _WIDTH = 6.0, 3.0, 1.5, 0.8
"""How fast the cautious level falls with that share (in JPEG files of known steps: the second), and with low / sigma
below the last."""

_SOFT, _COLOURED = 0.6, 0.4
"""Least share of low in sigma where correlated noise of this much chroma in luma surely is some: what a camera has
smoothed leaves the high frequencies empty, and bounds of white noise say nothing of it."""

_CORRELATED_FALL, _CORRELATED_LEAST = 0.42, 0.5
"""What a window without its quadratic surface holds of correlated noise: 1 minus the first for each pixel of length."""

_SLACK, _LOSSY_SLACK = 1.33, 2.5
"""How far the noise of a file may exceed that of its quietest places; where a codec has smoothed these."""

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
    read = as_image(image)
    pixels = read.pixels
    if known is not None and tuple(known.shape) != tuple(pixels.shape[1:]):
        raise ShapeError(f"known has the shape of the image, {list(pixels.shape[1:])}, got {list(known.shape)}")
    return noise_of(pixels, known, tables=read.jpeg)


def noise_of(
    pixels: Tensor,
    known: Tensor | None = None,
    assumed: float | None = None,
    tables: JPEGTables | None = None,
) -> NoiseEstimate:
    """`estimate_noise` of pixels [C, H, W] that may lie anywhere, with numbers of three digits.

    An estimate has no more, and what differs between runs in the last place does not show.

    Args:
        pixels, known: see `estimate_noise`; upright.
        assumed: the level where nothing can be read; that is an error if None.
        tables: of the JPEG file whose pixels these are.
    """
    found = _read_anyhow(pixels, known, assumed)
    if found.method == "assumed":
        return found
    if tables is None and found.history == "jpeg":
        quality = found_quality(pixels)
        tables = None if quality is None else JPEGTables.of_quality(quality, colour=len(pixels) == 3)
    bounds = bounds_of(pixels, known, tables, found.gain, _CLEAR_WINDOWS * found.sigma)
    return _bounded(found, bounds, lossy=tables is not None or found.history != "none")


def _read_anyhow(pixels: Tensor, known: Tensor | None, assumed: float | None) -> NoiseEstimate:
    """What the network or the eigenvalues say, or differences where there is too little for these."""
    tiles = tiles_of(pixels, known) if min(pixels.shape[1:]) >= MIN_SIDE else pixels[:0]
    clipped = _clipped(pixels, known)
    if not len(tiles):
        return _by_differences(pixels, known, clipped, assumed)
    found = _read(read_file(packaged_noise_network(), tiles.expand(-1, 3, -1, -1).float()), clipped)
    rounded = _rounded(tiles)
    if _may_be_white(found, len(pixels), lossless=not rounded or found.history == "none"):
        sigma = max(estimate_sigma(_middle(pixels) if known is None else pixels, known), QUANTISATION)
        allowed = _AGREEMENT_ROUNDED if rounded else _AGREEMENT
        if 1 / allowed < sigma / found.sigma < allowed:
            return _white(sigma, len(pixels), clipped, "eigenvalues")
    return found


def _by_differences(pixels: Tensor, known: Tensor | None, clipped: float, assumed: float | None) -> NoiseEstimate:
    """Of an image with too few whole tiles: the level of the channels, and of their mean."""
    read = estimate_sigma(pixels, known) if assumed is None else sigma_or_none(pixels, known)
    if read is None:
        return _white(assumed or QUANTISATION, len(pixels), clipped, "assumed")
    sigma = max(read, QUANTISATION)
    luma = min(estimate_sigma(pixels.mean(0, keepdim=True), known), sigma)
    found = _white(sigma, 1 if len(pixels) == 1 else 3, clipped, "differences")
    effective = max(_digits(3**0.5 * luma), QUANTISATION)
    chroma = math.sqrt(max(sigma**2 - luma**2, 0.0))
    return replace(found, luma=luma, chroma=chroma, effective=effective, cautious=effective)


def _bounded(found: NoiseEstimate, bounds: Bounds, *, lossy: bool) -> NoiseEstimate:
    """An estimate with what the quietest places of the image say to it.

    Args:
        found: as it was read.
        bounds: on the luma noise.
        lossy: whether a codec has smoothed the image.
    """
    plain = bounds.even > _EVEN and not lossy and bounds.white > found.luma and found.method != "eigenvalues"
    if plain:  # texture has no such spectrum
        found = replace(_scaled(found, bounds.white / found.luma), sure=True)
    seen = max(_CORRELATED_LEAST, 1 - _CORRELATED_FALL * found.correlation_length)  # of correlated noise, in a window
    flat = bounds.flat / seen
    white = bounds.white if bounds.before is None else bounds.before
    coloured = found.chroma > _COLOURED * found.luma  # texture hardly is
    certain = found.low > (_SOFT if coloured else _WIDTH) * found.sigma
    soft = found.correlation_length > 0 and found.sure and certain  # surely correlated
    told = soft or (bounds.before is None and found.history == "jpeg")
    share = (flat if told else min(flat, white)) / max(found.luma, 1e-9)
    slack = 1.0 if found.history == "webp" else _LOSSY_SLACK * share if lossy else _SLACK * flat / max(found.luma, 1e-9)
    sharp = plain or found.method != "network"
    width = 1.0 if sharp else min(found.low / found.sigma / _WIDTH, 1.0) ** _WIDE
    fall = _FALL if bounds.before is None else _JPEG_FALL
    cautious = found.effective * min(share / _SHOWN, 1.0) ** fall * width
    least = QUANTISATION / max(found.sigma, QUANTISATION)
    return replace(
        _scaled(found, min(1.0, max(slack, least))),
        cautious=max(_digits(cautious), QUANTISATION),
        at_most=_digits(share * found.sigma) if math.isfinite(share) else math.inf,
        shown=share >= _SHOWN,
        sure=found.sure and share >= _CONTRADICTED,
    )


def _scaled(found: NoiseEstimate, factor: float) -> NoiseEstimate:
    """The estimate with all levels so many times as high, at least that of rounding."""
    a, b = found.gain
    return replace(
        found,
        sigma=max(_digits(factor * found.sigma), QUANTISATION),
        low=_digits(factor * found.low),
        high=_digits(factor * found.high),
        luma=factor * found.luma,
        chroma=factor * found.chroma,
        effective=max(_digits(factor * found.effective), QUANTISATION),
        gain=(factor**2 * a, factor**2 * b),
        unclipped=factor * found.unclipped,
    )


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
        cautious=3**0.5 * luma,
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
    effective = _digits(max(_correlated(reading.correlation) * 3**0.5 * luma, QUANTISATION))
    return NoiseEstimate(
        sigma=max(sigma, QUANTISATION),
        low=low,
        high=high,
        luma=luma,
        chroma=chroma,
        effective=effective,
        cautious=effective,
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
    if not values.numel():
        return 0.0
    low, high = (float(v) for v in torch.aminmax(values))
    if low < 0 or high > 1 or (low > 0 and high < 1):
        return 0.0
    return int(torch.count_nonzero((values <= 0) | (values >= 1))) / values.numel()
