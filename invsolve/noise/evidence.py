"""Upper bounds for the noise of an image: noise is everywhere, so the quietest places bound it.

A network that estimates noise sometimes mistakes fine texture for noise. Three bounds avoid this: the residual of the
flattest windows; the high frequencies of the quietest windows, which contain as much white noise as other frequencies;
and, if the quantisation steps of the file are known, the share of zero coefficients in its quietest blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invsolve.io.cosines import DCT, YCC, cosines
from invsolve.io.jpeg import JPEGTables, unturned
from invsolve.noise.estimated import NoiseEstimate, digits
from invsolve.noise.white import QUANTISATION

__all__ = ["Bounds", "bounded", "bounds_of"]

WINDOW = 8
MAX_WINDOWS = 8000
"""Largest number of windows of 8 x 8 pixels, and of blocks of a JPEG file, that are used."""

_MANY = 100
_FEW, _FEW_BLOCKS, _USABLE = 50, 24, 0.1
"""Minimum number of nearly unclipped windows and blocks, and minimum share of such blocks. With fewer, no bound is
computed: in strong noise, these windows and blocks have the least noise."""

_CLIPPED = 0.05
_FLATTEST, _FLAT_SHARE = 0.02, 0.80
"""Quantile of the windows, and its ratio to the level of white noise: below 1, as it is among the smallest values."""

_QUIETEST, _QUIET_SHARE = 0.1, 0.85
_QUIETEST_BLOCKS, _BLOCK_SHARE, _RANK = 0.2, 0.9, 3
_FIRST, _HIGH, _BANDS = 2, 10, ((12, 14), (8, 9), (6, 7))
"""Sums of the two frequencies (at most 14): minimum for a coefficient to count, minimum for a high frequency, and the
bands that are compared."""

_SHOWN, _CONTRADICTED = 0.7, 0.5
"""Minimum ratio of the bound to the estimated noise, for the estimate to be accepted and to be sure."""

_EVEN = 0.92
"""Evenness of the high frequencies in the quietest places above which they only contain white noise."""

_FALL, _JPEG_FALL, _WIDE, _WIDTH = 6.0, 3.0, 1.5, 0.8
"""Exponents with which the cautious level falls with the ratio above (second value: JPEG files with known steps) and,
below _WIDTH, with low / sigma."""

_SOFT, _COLOURED = 0.6, 0.4
"""Minimum ratio low / sigma at which correlated noise is certain, if chroma / luma exceeds the second value. Noise that
a camera has smoothed has no high frequencies, so the bounds for white noise do not apply to it."""

_CORRELATED_FALL, _CORRELATED_LEAST = 0.42, 0.5
"""Share of correlated noise in a window without its quadratic surface: 1 minus the first value per pixel of correlation
length, and at least the second value."""

_SLACK, _LOSSY_SLACK = 1.33, 2.5
"""Allowed ratio of the noise of a file to that of its quietest places; the second value if a codec smoothed these."""


@dataclass(frozen=True)
class Bounds:
    """Upper bounds for the luma noise of an image; infinite if too little of the image can be used.

    Attributes:
        flat: residual of the flattest windows after a quadratic surface is subtracted.
        white: bound for white noise, from the high frequencies of the quietest windows.
        even: ratio of the highest of these frequencies to the next lower ones: 1 for white noise, less for texture,
            whose spectrum decreases; 0 if too few windows can be used.
        before: bound for white noise before compression, from the zeros of the quietest blocks; None without tables.
    """

    flat: float
    white: float
    even: float
    before: float | None


def bounds_of(
    image: Tensor,
    known: Tensor | None = None,
    tables: JPEGTables | None = None,
    gain: tuple[float, float] = (1.0, 0.0),
    clear: float = 0.0,
) -> Bounds:
    """Compute the bounds for an image [C, H, W] in [0, 1].

    Args:
        image: the upright image.
        known: bool [H, W], true for pixels to use; all pixels if not given.
        tables: tables of the JPEG file that it was read from.
        gain: (a, b) of noise with variance a + b x at brightness x; the bounds are for its level at mean brightness.
        clear: minimum distance from 0 and 1 of the places to use; nearer, the file has clipped their noise.
    """
    before = None if tables is None else _before(image, known, tables, clear)
    windows = _windows(image, known, clear)
    if len(windows) < _FEW:
        return Bounds(float("inf"), float("inf"), 0.0, before)
    variance = gain[0] + gain[1] * windows.mean((1, 2)).clamp_min(1 / 255)
    windows = windows * (variance.mean() / variance).sqrt()[:, None, None]
    basis = _quadratics()
    flat = windows.flatten(1)
    rest = (flat.square().sum(1) - (flat @ basis).square().sum(1)).clamp_min(0) / (WINDOW**2 - basis.shape[1])
    level = float(rest.quantile(_FLATTEST)) ** 0.5 / _FLAT_SHARE
    power = (DCT @ windows @ DCT.T).square()
    frequency = torch.arange(WINDOW)[:, None] + torch.arange(WINDOW)
    energy = power[:, frequency >= _FIRST].mean(1)
    quiet = power[energy <= energy.quantile(_QUIETEST)]
    top, *lower = (float(quiet[:, (frequency >= a) & (frequency <= b)].mean()) ** 0.5 for a, b in _BANDS)
    even = 0.0 if len(windows) < _MANY else min(top / max(low, 1e-12) for low in lower)
    return Bounds(level, float(quiet[:, frequency >= _HIGH].mean()) ** 0.5 / _QUIET_SHARE, even, before)


def _windows(image: Tensor, known: Tensor | None, clear: float) -> Tensor:
    """Luma of known and unclipped windows [n, 8, 8], in float64."""
    height, width = image.shape[1:]
    if min(height, width) < WINDOW:
        return image.new_zeros(0, WINDOW, WINDOW, dtype=torch.float64)
    stride = max(WINDOW // 2, int((height * width / MAX_WINDOWS) ** 0.5))
    cut = image.unfold(1, WINDOW, stride).unfold(2, WINDOW, stride).flatten(1, 2)
    use = _unclipped(cut, clear)
    if known is not None:
        use &= known.unfold(0, WINDOW, stride).unfold(1, WINDOW, stride).flatten(0, 1).flatten(1).all(1)
    return cut[:, use].double().mean(0)


def _quadratics() -> Tensor:
    """An orthonormal basis [64, 6] of the quadratic surfaces on a window."""
    place = torch.linspace(-1, 1, WINDOW, dtype=torch.float64)
    y, x = torch.meshgrid(place, place, indexing="ij")
    return torch.linalg.qr(torch.stack([torch.ones_like(x), x, y, x * y, x * x, y * y]).flatten(1).T)[0]


def _unclipped(cut: Tensor, clear: float) -> Tensor:
    """Mask of windows [C, n, 8, 8] that are hardly clipped, and far from black and white in every channel."""
    means = cut.mean((2, 3))
    inside = ((means > clear) & (means < 1 - clear)).all(0)
    return inside & (((cut <= 0) | (cut >= 1)).any(0).float().mean((1, 2)) <= _CLIPPED)


def _before(image: Tensor, known: Tensor | None, tables: JPEGTables, clear: float) -> float:
    """The Gaussian noise level that explains the share of zero coefficients: the fourth smallest over frequencies.

    P(|n| < q / 2) = share of zeros. If most coefficients are not zero, their root mean square is used.
    """
    stored = unturned(image, tables.orientation)
    rows, columns = (side // WINDOW for side in stored.shape[1:])
    if rows * columns < _FEW_BLOCKS:
        return float("inf")
    stride = max(1, int((rows * columns / MAX_WINDOWS) ** 0.5 + 0.999))
    cut = stored.unfold(1, WINDOW, WINDOW * stride).unfold(2, WINDOW, WINDOW * stride).flatten(1, 2)
    use = _unclipped(cut, clear)
    if known is not None:
        stored_known = unturned(known, tables.orientation).unfold(0, WINDOW, WINDOW * stride)
        use &= stored_known.unfold(1, WINDOW, WINDOW * stride).flatten(0, 1).flatten(1).all(1)
    cut = 255 * cut[:, use].double()
    luma = cut[0] if tables.chroma is None or len(cut) == 1 else torch.einsum("c,cnhw->nhw", YCC[0], cut)
    if len(luma) < max(_FEW_BLOCKS, _USABLE * len(use)):
        return float("inf")
    steps = tables.steps(0).flatten()[1:]
    found = (cosines(luma).flatten(1)[:, 1:] / steps).round()
    energy = (found * steps).square().sum(1)
    quiet = found[energy.topk(max(int(_QUIETEST_BLOCKS * len(found)), 12), largest=False).indices]
    zero = (quiet == 0).double().mean(0)
    hidden = steps / 2 / torch.special.ndtri((1 + zero.clamp(0.02, 1 - 0.5 / len(quiet))) / 2)
    level = torch.where(zero < 0.5, (quiet * steps).square().mean(0).sqrt(), hidden)
    return float(level.sort().values[_RANK]) / 255 / _BLOCK_SHARE


def bounded(found: NoiseEstimate, bounds: Bounds, *, lossy: bool) -> NoiseEstimate:
    """Correct a noise estimate by the bounds from the quietest places of the image.

    Args:
        found: the estimate.
        bounds: bounds for the luma noise.
        lossy: whether a codec has smoothed the image.
    """
    plain = bounds.even > _EVEN and not lossy and bounds.white > found.luma and found.method != "eigenvalues"
    if plain:  # texture does not have this spectrum
        found = replace(found.scaled(bounds.white / found.luma), sure=True)
    seen = max(_CORRELATED_LEAST, 1 - _CORRELATED_FALL * found.correlation_length)  # of correlated noise in a window
    flat = bounds.flat / seen
    white = bounds.white if bounds.before is None else bounds.before
    coloured = found.chroma > _COLOURED * found.luma  # unlike most texture
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
        found.scaled(min(1.0, max(slack, least))),
        cautious=max(digits(cautious), QUANTISATION),
        at_most=digits(share * found.sigma) if math.isfinite(share) else math.inf,
        shown=share >= _SHOWN,
        sure=found.sure and share >= _CONTRADICTED,
    )
