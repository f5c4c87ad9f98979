"""`estimate_noise`: estimate the noise of an image from the image."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from invsolve.core.checks import ShapeError
from invsolve.core.context import own_context
from invsolve.io.image import middle
from invsolve.io.inputs import Source, as_image, without_hidden_colours
from invsolve.io.jpeg import JPEGTables
from invsolve.io.jpeg_history import found_quality
from invsolve.noise.estimated import SURE, NoiseEstimate, clipped_share, digits, white_noise
from invsolve.noise.evidence import bounded, bounds_of
from invsolve.noise.network import HISTORIES, LEVELS, packaged_noise_network
from invsolve.noise.tiles import MIN_SIDE, Cells, FileReading, read_file, tiles_of
from invsolve.noise.white import QUANTISATION, estimate_sigma, sigma_or_none

__all__ = ["estimate_noise", "noise_of"]

_CLIPPED_WHITE = 0.01
_UNCORRELATED = 0.2
_HIDDEN = 0.004
_SIDE = 512
"""Side of the middle of a large image, which has enough patches."""

_AGREEMENT_ROUNDED, _AGREEMENT = 1.25, 1.6
_MIN_CELLS, _MIN_RANGE = 40, 0.05
_CLEAR, _FITS, _GROWS = 1.0, 0.4, 2.0
_CLEAR_WINDOWS = 2.0


@own_context()
def estimate_noise(image: Source, known: Tensor | None = None) -> NoiseEstimate:
    """Estimate the noise of an image from the image alone.

    A small network reads up to nine tiles of 96 x 96 pixels. If it finds white noise that is independent in the
    channels, and no lossy compression, and the smallest eigenvalues of the patch covariance agree, the eigenvalues are
    used instead, because they are more accurate; see `estimate_sigma`. If a mask leaves no whole tile, or a side is
    below 32 pixels, the level comes from this estimator and is not sure. For sides from 8 pixels on, the network gives
    the lower limit of the level, and how sure it is.

    Args:
        image: a file, an `Image`, a tensor [C, H, W] in [0, 1] or an array [H, W, C]. If the image was blurred or
            enlarged, the result is the noise of the blurred or enlarged image.
        known: bool [H, W], true for pixels to use; all pixels if not given. Fully transparent pixels are never used.

    Raises:
        InputError: an image that cannot be read, or is too small for an estimate.
        ShapeError: the mask has another size.
    """
    read = as_image(image)
    if known is not None and tuple(known.shape) != read.size:
        raise ShapeError(f"known must have the shape of the image, {list(read.size)}, got {list(known.shape)}")
    seen = read.seen
    if seen is not None and not bool(seen.all()):
        known = seen if known is None else known & seen
    return noise_of(without_hidden_colours(read), known, tables=read.jpeg)


def noise_of(
    pixels: Tensor,
    known: Tensor | None = None,
    assumed: float | None = None,
    tables: JPEGTables | None = None,
) -> NoiseEstimate:
    """`estimate_noise` for pixels [C, H, W] of any range; all numbers have three digits.

    The estimate is not more accurate, and rounding hides differences between runs in the last digit.

    Args:
        pixels, known: see `estimate_noise`; upright.
        assumed: the level to use if no estimate is possible; if None, this is an error.
        tables: tables of the JPEG file that the pixels come from.
    """
    found = _read_anyhow(pixels, known, assumed)
    if found.method == "assumed":
        return found
    if tables is None and found.history == "jpeg":
        quality = found_quality(pixels)
        tables = None if quality is None else JPEGTables.of_quality(quality, colour=len(pixels) == 3)
    bounds = bounds_of(pixels, known, tables, found.gain, _CLEAR_WINDOWS * found.sigma)
    return bounded(found, bounds, lossy=tables is not None or found.history != "none")


def _read_anyhow(pixels: Tensor, known: Tensor | None, assumed: float | None) -> NoiseEstimate:
    """Estimate by the network or the eigenvalues, or by differences if there is too little data for these."""
    tiles, clipped = tiles_of(pixels, known), clipped_share(pixels, known)
    if not len(tiles):
        return _by_differences(pixels, known, clipped, assumed)
    found = _read(read_file(packaged_noise_network(), tiles.expand(-1, 3, -1, -1).float()), clipped)
    if min(pixels.shape[1:]) < MIN_SIDE:  # in a very small image, detail can look like noise
        level = _by_differences(pixels, known, clipped, assumed)
        agreed = 1 / _AGREEMENT < level.sigma / found.sigma < _AGREEMENT
        return replace(level, low=min(level.low, found.low), sure=found.sure and agreed)
    rounded = _rounded(tiles)
    if _may_be_white(found, len(pixels), lossless=not rounded or found.history == "none"):
        sigma = max(estimate_sigma(middle(pixels, _SIDE) if known is None else pixels, known), QUANTISATION)
        allowed = _AGREEMENT_ROUNDED if rounded else _AGREEMENT
        if 1 / allowed < sigma / found.sigma < allowed:
            return white_noise(sigma, len(pixels), clipped, "eigenvalues")
    return found


def _by_differences(pixels: Tensor, known: Tensor | None, clipped: float, assumed: float | None) -> NoiseEstimate:
    """Estimate for an image with too few whole tiles: the level of the channels, and of their mean."""
    read = estimate_sigma(pixels, known) if assumed is None else sigma_or_none(pixels, known)
    if read is None:
        return white_noise(assumed or QUANTISATION, len(pixels), clipped, "assumed")
    sigma = max(read, QUANTISATION)
    luma = min(estimate_sigma(pixels.mean(0, keepdim=True), known), sigma)
    found = white_noise(sigma, 1 if len(pixels) == 1 else 3, clipped, "differences")
    effective = max(digits(3**0.5 * luma), QUANTISATION)
    chroma = math.sqrt(max(sigma**2 - luma**2, 0.0))
    return replace(found, luma=luma, chroma=chroma, effective=effective, cautious=effective, sure=False)


def _read(reading: FileReading, clipped: float) -> NoiseEstimate:
    levels = dict(zip(LEVELS, [[digits(v) for v in row] for row in reading.levels.exp().tolist()], strict=True))
    low, sigma, high = levels["total"]
    luma, chroma, unclipped = (levels[name][1] for name in ("luma", "chroma", "unclipped"))
    told = luma > _HIDDEN and reading.correlation > _UNCORRELATED
    length = digits(0.5 / math.sqrt(-math.log(min(reading.correlation, 0.97)))) if told else 0.0
    effective = digits(max(_correlated(reading.correlation) * 3**0.5 * luma, QUANTISATION))
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
        sure=high / low < SURE**2,
    )


def _correlated(correlation: float) -> float:
    """The factor by which white noise must be stronger to harm a restoration as much as noise of this correlation.

    Fitted to the best levels on training photographs found by `python -m benchmarks.noise effective`: 1 for white
    noise, 1.2 at a correlation of 0.3, 1.4 to 1.5 at 0.6, about 1.8 at 0.8.
    """
    rho = min(max(correlation, 0.0), 1.0)
    return 1 + 0.5 * rho + 0.6 * rho**2


def _gain(cells: Cells, variance: float) -> tuple[float, float]:
    """Fit the variance a + b x, a and b >= 0, to the map, scaled to the level of the file; b = 0 if the fit is poor.

    The fit is weighted least squares with weights 1 / (a + b x)^2, as for variances of normal values. It uses cells
    where no channel is so near to black or white that the file clipped some of the noise.
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
    return digits(scale * a), digits(scale * b)


def _may_be_white(found: NoiseEstimate, channels: int, *, lossless: bool) -> bool:
    """Whether the noise may be white and independent in the channels, in an image stored without loss."""
    independent = channels == 1 or 1.1 < (found.chroma / found.luma) ** 2 < 3.6
    even = found.clipped < _CLIPPED_WHITE and not found.depends_on_brightness
    return lossless and independent and even and found.correlation_length == 0


def _rounded(image: Tensor) -> bool:
    """Whether the values are rounded to 8 bits."""
    values = 255 * image
    return float((values - values.round()).abs().gt(0.01).float().mean()) < 0.01
