"""How much noise an image can have at most: noise is everywhere, so that the quietest places bound it.

A network that reads noise takes fine texture for it now and then. Three bounds do not: what is left of the flattest
windows; the high frequencies of the quietest ones, which white noise fills as well as the others; and, where a file
tells its quantisation steps, how many of the coefficients of its quietest blocks are zero.
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
"""Windows of 8 x 8 pixels, and blocks of a JPEG file, that are looked at."""

_MANY = 100
_FEW, _FEW_BLOCKS, _USABLE = 50, 24, 0.1
"""Fewer windows, blocks or share of blocks that are hardly clipped tell nothing: in much noise those have least."""

_CLIPPED = 0.05
_FLATTEST, _FLAT_SHARE = 0.02, 0.80
"""Quantile of the windows, and what it is of white noise's level: less than 1, being among the smallest."""

_QUIETEST, _QUIET_SHARE = 0.1, 0.85
_QUIETEST_BLOCKS, _BLOCK_SHARE, _RANK = 0.2, 0.9, 3
_FIRST, _HIGH, _BANDS = 2, 10, ((12, 14), (8, 9), (6, 7))
"""Sums of the two frequencies, 14 at most: from which a coefficient counts; from which it is high; what is compared."""

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


@dataclass(frozen=True)
class Bounds:
    """The most luma noise that an image shows room for; infinite where too little of it can be looked at.

    Attributes:
        flat: left of the flattest windows when a quadratic surface is taken away.
        white: if its noise is white, from the high frequencies of the quietest windows.
        even: the highest of these frequencies over the next lower ones: 1 of white noise, less of texture, which has
            ever less of them; 0 where too few windows can be looked at.
        before: noise before it was compressed, if white, from the zeros of the quietest blocks; None without tables.
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
    """The bounds of an image [C, H, W] in [0, 1].

    Args:
        image: upright.
        known: bool [H, W]: pixels that count; all of them if not given.
        tables: of the JPEG file that it was read from.
        gain: (a, b) of noise whose variance at brightness x is a + b x: the bounds are on its level at mean brightness.
        clear: how far from 0 and 1 places have to be: nearer, the file has clipped their noise.
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
    """Luma of windows [n, 8, 8] that are known and not clipped, in float64."""
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
    """Which windows [C, n, 8, 8] are hardly clipped, and clear of black and white in every channel."""
    means = cut.mean((2, 3))
    inside = ((means > clear) & (means < 1 - clear)).all(0)
    return inside & (((cut <= 0) | (cut >= 1)).any(0).float().mean((1, 2)) <= _CLIPPED)


def _before(image: Tensor, known: Tensor | None, tables: JPEGTables, clear: float) -> float:
    """The Gaussian noise that leaves as many coefficients zero as are found: the fourth smallest over the frequencies.

    P(|n| < q / 2) = share of zeroes; where most are not zero, their root mean square.
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
    """An estimate with what the quietest places of the image say to it.

    Args:
        found: as it was read.
        bounds: on the luma noise.
        lossy: whether a codec has smoothed the image.
    """
    plain = bounds.even > _EVEN and not lossy and bounds.white > found.luma and found.method != "eigenvalues"
    if plain:  # texture has no such spectrum
        found = replace(found.scaled(bounds.white / found.luma), sure=True)
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
        found.scaled(min(1.0, max(slack, least))),
        cautious=max(digits(cautious), QUANTISATION),
        at_most=digits(share * found.sigma) if math.isfinite(share) else math.inf,
        shown=share >= _SHOWN,
        sure=found.sure and share >= _CONTRADICTED,
    )
