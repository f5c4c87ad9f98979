"""Photographs at several sizes, downsampled in several ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import stored

__all__ = ["MADE", "as_jpeg", "scenes"]

Array = NDArray[Any]

LONGEST = (1600, 1000, 700, 450)
RESAMPLERS = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX, Image.Resampling.HAMMING)


def _pillow(how: Image.Resampling) -> Callable[[Array, int], Array]:
    def smaller(x: Array, factor: int) -> Array:
        size = (x.shape[1] // factor, x.shape[0] // factor)
        return np.asarray(Image.fromarray(x).resize(size, how))

    return smaller


def _decimated(offset: int) -> Callable[[Array, int], Array]:
    return lambda x, factor: x[min(offset, factor - 1) :: factor, min(offset, factor - 1) :: factor]


MADE: Mapping[str, tuple[str, Callable[[Array, int], Array]]] = {
    "bicubic": ("bicubic", _pillow(Image.Resampling.BICUBIC)),
    "lanczos": ("bicubic", _pillow(Image.Resampling.LANCZOS)),
    "area": ("area", _pillow(Image.Resampling.BOX)),
    "first": ("nearest", _decimated(0)),
    "second": ("nearest", _decimated(1)),
}
"""Ways of downsampling [H, W, 3] uint8, each with its kind."""


def as_jpeg(x: Array, quality: int, subsampled: bool) -> Array:
    """The image after JPEG compression."""
    return stored(x, quality=quality, subsampling=2 if subsampled else 0)


def scenes(photos: Path, sides: Sequence[int], rng: np.random.Generator) -> Iterator[tuple[int, Array]]:
    """(number of the photograph, crop [side, side, 3] uint8) of each photograph at several sizes, for each side.

    Crops are drawn from the more detailed half, because flat areas contain no information.
    """
    files = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    for number, file in enumerate(files):
        with Image.open(file) as opened:
            whole = opened.convert("RGB")
        for longest in LONGEST:
            scale = longest / max(whole.size)
            if scale > 1.3:
                continue
            size = (round(whole.width * scale), round(whole.height * scale))
            small = np.asarray(whole if scale >= 1 else whole.resize(size, RESAMPLERS[rng.integers(4)]))
            for side in sides:
                if min(small.shape[:2]) >= side:
                    yield number, _crop(small, side, rng)


def _crop(x: Array, side: int, rng: np.random.Generator) -> Array:
    tops, lefts = (rng.integers(length - side + 1, size=4) for length in x.shape[:2])
    crops = [x[top : top + side, left : left + side] for top, left in zip(tops, lefts, strict=True)]
    return sorted(crops, key=_detail)[int(rng.integers(2, 4))]


def _detail(x: Array) -> float:
    grey = x[..., 1].astype(np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
