"""Crops of photographs with noise as it occurs in files, and the true properties of that noise.

The noise is white or correlated, of equal or different strength in the channels, common to them (grey images stored as
RGB, toned scans), demosaiced, constant or growing with brightness, or absent. Files are clipped and rounded, or hold
floating point values. Some images are resized after the noise is added. They are stored losslessly, as JPEG (once or
twice) or as WebP.
"""

from __future__ import annotations

import io
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.noise.network import CELL, TILE
from invsolve.train.data import read_image

__all__ = ["NoisyFiles", "NoisyTiles", "degraded"]

logger = logging.getLogger(__name__)

Floats: TypeAlias = NDArray[Any]
"""float32, or float64 for intermediate results."""

FLOORS = (0.0011, 0.0008, 0.0008, 0.0011)
"""Smallest levels that are distinguished, in the order of `LEVELS`: rounding to 8 bits gives 0.0011."""

LONGEST = 1600
_MARGIN = 16
_SIGMA = (0.0015, 0.35)
_HIDDEN = 0.004
"""The correlation of noise below this level is not measured."""


class NoisyTiles(NamedTuple):
    """A batch: tiles [n, 3, 96, 96] and their targets.

    Attributes:
        tiles: pixels as stored in the files, in [0, 1].
        levels: log levels [n, 4], in the order of `LEVELS`.
        correlation: correlation of the luma noise of neighbouring pixels [n]; NaN if there is too little noise.
        history: index into `HISTORIES` [n].
        energy: mean squared deviation in cells [n, 12, 12].
    """

    tiles: Tensor
    levels: Tensor
    correlation: Tensor
    history: Tensor
    energy: Tensor


@dataclass(frozen=True)
class NoisyFiles:
    """Photographs in memory, and random degraded crops of them that depend only on the given random generator.

    Args:
        paths: the image files.
    """

    paths: list[Path]
    pyramids: list[list[NDArray[Any]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import cv2

        pyramids: list[list[NDArray[Any]]] = []
        for path in self.paths:
            levels: list[NDArray[Any]] = [read_image(path, LONGEST)]
            while min(levels[-1].shape[:2]) >= 4 * TILE:
                height, width = levels[-1].shape[:2]
                half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
                levels.append(np.asarray(half))
            if min(levels[0].shape[:2]) >= 2 * (TILE + _MARGIN):
                pyramids.append(levels)
        if not pyramids:
            raise InputError(f"every image is smaller than {2 * (TILE + _MARGIN)} pixels; choose larger images")
        object.__setattr__(self, "pyramids", pyramids)

    def draw(self, n: int, rng: np.random.Generator) -> NoisyTiles:
        """Draw a batch of n tiles."""
        parts = [_tile(*degraded(self.clean(rng, TILE + 2 * _MARGIN), rng), rng) for _ in range(n)]
        tiles, levels, correlation, history, energy = (np.stack([p[i] for p in parts]) for i in range(5))
        return NoisyTiles(
            torch.from_numpy(tiles).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(levels),
            torch.from_numpy(correlation),
            torch.from_numpy(history),
            torch.from_numpy(energy),
        )

    def clean(self, rng: np.random.Generator, side: int) -> Floats:
        """Draw a crop [side, side, 3] in [0, 1] of a photograph, downscaled to remove its own noise."""
        pyramid = self.pyramids[rng.integers(len(self.pyramids))]
        crops = [self._crop(pyramid, rng, side) for _ in range(1 + (rng.random() < 0.5))]
        crop = max(crops, key=lambda c: float(np.abs(np.diff(c[..., 1], axis=1)).mean()))
        crop = np.rot90(crop, int(rng.integers(4)))
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if rng.random() < 0.2:
            crop = crop[..., rng.permutation(3)]
        if rng.random() < 0.15:
            crop = _mean(crop)[..., None].repeat(3, 2)
        if rng.random() < 0.15:
            gain = rng.uniform(0.3, 1)
            crop = crop * gain + rng.random() * (1 - gain)
        if rng.random() < 0.15:
            crop = np.clip(crop * rng.uniform(1, 1.8) - rng.uniform(0, 0.3), 0, 1)
        return np.ascontiguousarray(crop, dtype=np.float32)

    def _crop(self, pyramid: list[NDArray[Any]], rng: np.random.Generator, side: int) -> Floats:
        import cv2

        shortest = min(pyramid[0].shape[:2])
        scale = math.exp(rng.uniform(math.log(max((side + 1) / shortest, 0.12)), math.log(0.75)))
        scale = max(scale, (side + 1) / shortest)
        level = min(int(math.log2(1 / scale) * (rng.random() < 0.8)), len(pyramid) - 1)
        image = pyramid[level]
        window = min(round(side / (scale * 2**level)), *image.shape[:2])
        top, left = (int(rng.integers(s - window + 1)) for s in image.shape[:2])
        part = image[top : top + window, left : left + window].astype(np.float32) / 255
        how = (cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_CUBIC)[rng.integers(3)] if window > side else cv2.INTER_LINEAR
        return np.clip(cv2.resize(part, (side, side), interpolation=how), 0, 1)


def degraded(clean: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats, int]:
    """Degrade an image; return the pixels of the file, the clean image, the noise before clipping, and the history.

    Args:
        clean: [h, w, 3] in [0, 1].
        rng: the only source of randomness.
    """
    sigma = math.exp(rng.uniform(math.log(_SIGMA[0]), math.log(_SIGMA[1])))
    toned = rng.random() < 0.07
    if toned:
        clean = _mean(clean)[..., None].repeat(3, 2)
    noise = np.float32(sigma if rng.random() >= 0.08 else 0.0) * _noise(clean, rng)
    if toned or rng.random() < 0.05:
        tint = np.array([1, rng.uniform(0.75, 1), rng.uniform(0.5, 1)], np.float32)[rng.permutation(3)]
        clean, noise = clean * tint, noise * tint
    form = rng.random()
    if form < 0.1:
        return clean + noise, clean, noise, 0
    noisy = np.clip(clean + noise, 0, 1)
    if form < 0.13:
        return noisy, clean, noise, 0
    if rng.random() < 0.15:
        noisy, clean, noise = _resized(noisy, clean, noise, rng)
    pixels = (np.clip(noisy, 0, 1) * 255).round().astype(np.uint8)
    u = rng.random()
    history = 0
    if u < 0.5:
        history = 1
        for _ in range(2 if rng.random() < 0.1 else 1):
            options = {"quality": int(rng.integers(30, 100)), "subsampling": int(rng.choice([0, 1, 2, 2, 2, 2]))}
            pixels = _coded(pixels, "JPEG", **options)
    elif u < 0.64:
        history = 2
        pixels = _coded(pixels, "WEBP", quality=int(rng.integers(50, 100)), method=int(rng.integers(2, 5)))
    return pixels.astype(np.float32) / 255, clean, noise, history


def _mean(image: Floats) -> Floats:
    """Compute the mean of the channels; numpy's `mean` is slow along a short axis."""
    return (image[..., 0] + image[..., 1] + image[..., 2]) / np.float32(3)


def _noise(clean: Floats, rng: np.random.Generator) -> Floats:
    """Draw noise of unit mean square for an image [h, w, 3]."""
    import cv2

    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    kind = rng.random()
    if kind < 0.2:
        noise = noise[..., :1].repeat(3, 2)
    elif kind < 0.28:
        share = np.float32(rng.uniform(0.1, 0.9))
        noise = math.sqrt(share) * noise + math.sqrt(1 - share) * rng.standard_normal((*clean.shape[:2], 1))
    elif kind < 0.38:
        noise = noise * rng.uniform(0.3, 1.6, 3)
    elif kind < 0.45:
        mosaic = np.clip(noise[..., 0] * 4096 + 32768, 0, 65535).astype(np.uint16)
        noise = cv2.cvtColor(mosaic, cv2.COLOR_BayerBG2RGB).astype(np.float32) - 32768
    if np.abs(clean[..., 0] - clean[..., 1]).max() + np.abs(clean[..., 2] - clean[..., 1]).max() < 1e-4:
        noise = noise[..., :1].repeat(3, 2)
    if rng.random() < 0.3:
        radius = rng.uniform(0.3, 1.5)
        noise = cv2.GaussianBlur(noise, (0, 0), radius)
    if rng.random() < 0.25:
        offset = math.exp(rng.uniform(math.log(0.003), math.log(0.5)))
        noise = noise * np.sqrt(clean + offset)
    noise = np.asarray(noise, np.float32)
    return noise / np.float32(max(math.sqrt(float(np.square(noise).mean())), 1e-6))


def _resized(noisy: Floats, clean: Floats, noise: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Resize all three in the same way, then crop or mirror them back to their original size."""
    import cv2

    side = clean.shape[0]
    new = round(side * math.exp(rng.uniform(math.log(0.8), math.log(1.7))))
    how = [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_AREA][rng.integers(4)]
    out = []
    for image in (noisy, clean, noise):
        image = cv2.resize(image, (new, new), interpolation=how)
        short = max(side - new, 0)
        image = np.pad(image, ((0, short), (0, short), (0, 0)), mode="reflect")[:side, :side]
        out.append(np.asarray(image, np.float32))
    return out[0], out[1], out[2]


def _coded(pixels: NDArray[Any], name: str, **options: Any) -> NDArray[Any]:
    from PIL import Image

    with io.BytesIO() as buffer:
        Image.fromarray(pixels).save(buffer, name, **options)
        return np.asarray(Image.open(buffer).convert("RGB"))


def _tile(pixels: Floats, clean: Floats, noise: Floats, history: int, rng: np.random.Generator) -> tuple[Any, ...]:
    """Cut a tile of a degraded crop, 70% of the time on the 8-pixel grid of its codec, and compute the targets."""
    limit = pixels.shape[0] - TILE
    top, left = (int(v) for v in (rng.integers(limit // 8 + 1, size=2) * 8 if rng.random() < 0.7 else
                                  rng.integers(limit + 1, size=2)))  # fmt: skip
    window = (slice(top, top + TILE), slice(left, left + TILE))
    pixels, clean, noise = pixels[window], clean[window], noise[window]
    error = pixels - clean
    luma = _mean(error)
    squares = _mean(np.square(error))
    total = float(squares.mean())
    chroma = max(total - float(np.square(luma).mean()), 0.0)
    luma = luma - luma.mean()
    before = max(total, float(np.square(noise).mean()))
    found = np.sqrt(np.array([total, np.square(luma).mean(), chroma, before]))
    levels = np.log(np.maximum(found, FLOORS)).astype(np.float32)
    power = float(np.square(luma).mean())
    beside = float((luma[1:] * luma[:-1]).mean() + (luma[:, 1:] * luma[:, :-1]).mean()) / 2
    correlation = beside / power if math.sqrt(power) > _HIDDEN else math.nan
    cells = squares.reshape(TILE // CELL, CELL, TILE).mean(1).reshape(TILE // CELL, TILE // CELL, CELL).mean(2)
    return pixels, levels, np.float32(correlation), np.int64(history), cells + np.float32(FLOORS[0] ** 2)
