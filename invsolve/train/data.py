"""Photographs at several scales in memory, and random crops of them, weighted by local contrast."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invsolve import io
from invsolve.core.checks import InputError
from invsolve.io.folder import images_in

__all__ = ["SCALES", "PhotoSet", "find_images", "read_image", "reduce_image", "split_images"]

logger = logging.getLogger(__name__)

SCALES = (1600, 1260, 1000, 775, 600, 465, 360, 280, 220)
"""Longest sides in pixels to which every photograph is downscaled; photographs are never enlarged."""

_CELL = 16


def find_images(directory: Path) -> list[Path]:
    """Return the image files below `directory`, see `images_in`.

    Raises:
        InputError: if there is no such directory, or no image in it.
    """
    if not directory.is_dir():
        raise InputError(f"there is no folder {directory}: --images needs a folder of images")
    paths = images_in(directory)
    if not paths:
        raise InputError(f"no images in {directory} (looked for {', '.join(sorted(io.READABLE))})")
    return paths


def split_images(paths: list[Path], validation: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """Split into training and validation images.

    Args:
        paths: all images, sorted.
        validation: prefixes of the names of the images to hold out; if empty, every tenth image is held out.

    Raises:
        InputError: if a prefix matches no image, or one of the two sets would be empty.
    """
    if validation:
        unknown = [v for v in validation if not any(p.name.startswith(v) for p in paths)]
        if unknown:
            raise InputError(f"no image's name starts with {unknown}; check --validation")
        held = [p for p in paths if p.name.startswith(validation)]
    else:
        held = paths[4::10] or paths[-1:]
    train = [p for p in paths if p not in held]
    if not train:
        raise InputError(
            f"{len(paths)} images are too few: at least one for training and one for validation are needed"
        )
    return train, held


def read_image(path: Path, longest: int) -> NDArray[np.uint8]:
    """Read an image as RGB, `[H, W, 3]`, downscaled by area averaging so that its longest side is at most `longest`.

    Raises:
        InputError: if the file cannot be read as an image.
    """
    pixels = io.read_image(path).pixels.expand(3, -1, -1)
    return reduce_image((255 * pixels).round().clamp(0, 255).byte().permute(1, 2, 0).numpy(), longest)


def reduce_image(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Downscale `[H, W, 3]` by area averaging so that its longest side is at most `longest`; never enlarge."""
    from PIL import Image

    height, width = image.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _cell_contrast(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute the mean absolute difference of neighbouring grey levels in cells of 16 x 16, `[H // 16, W // 16]`."""
    grey = image.astype(np.float32).mean(axis=2)
    grad = np.zeros_like(grey)
    grad[:, 1:] += np.abs(np.diff(grey, axis=1))
    grad[1:] += np.abs(np.diff(grey, axis=0))
    rows, cols = (side // _CELL for side in grey.shape)
    cells = grad[: rows * _CELL, : cols * _CELL].reshape(rows, _CELL, cols, _CELL)
    return cells.mean(axis=(1, 3), dtype=np.float64)


@dataclass(frozen=True)
class _Level:
    """All photographs at one scale with the probability of drawing each cell."""

    images: list[NDArray[np.uint8]]
    cells: NDArray[np.int32]
    cumulative: NDArray[np.float64]


@dataclass(frozen=True)
class PhotoSet:
    """Photographs at several scales, and random crops of them that depend only on the given random generator.

    A scale is drawn first, then a cell of 16 x 16 pixels with a probability that grows with its contrast
    (`min(contrast, 24 grey levels) + 1.5`), then a crop that contains the cell.

    Args:
        paths: the images to read.
        min_side: images are not used at scales where their shortest side is below this many pixels.
        scales: longest sides, see `SCALES`.
    """

    paths: list[Path]
    min_side: int
    scales: tuple[int, ...] = SCALES
    levels: list[_Level] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_scale: dict[int, list[NDArray[np.uint8]]] = {scale: [] for scale in self.scales}
        for path in self.paths:
            previous: tuple[int, ...] = ()
            original = read_image(path, max(self.scales))
            for scale in self.scales:
                image = reduce_image(original, scale)
                if min(image.shape[:2]) >= max(self.min_side, _CELL) and image.shape != previous:
                    by_scale[scale].append(image)
                previous = image.shape
        levels = [_make_level(images) for images in by_scale.values() if images]
        if not levels:
            raise InputError(
                f"every image is smaller than {self.min_side} pixels; choose a smaller --crop or larger images"
            )
        object.__setattr__(self, "levels", levels)
        megapixels = sum(i.shape[0] * i.shape[1] for level in levels for i in level.images) / 1e6
        logger.info("%d images at %d scales, %.0f megapixels", len(self.paths), len(levels), megapixels)

    def draw(self, n: int, size: int, rng: np.random.Generator) -> tuple[Tensor, None]:
        """Draw crops as in `crops`; photographs have no labels."""
        return self.crops(n, size, rng), None

    def crops(self, n: int, size: int, rng: np.random.Generator, *, augment: bool = True) -> Tensor:
        """Draw `n` crops, `[n, 3, size, size]` in [-1, 1].

        Args:
            n: number of crops.
            size: side in pixels, at most `min_side`.
            rng: the only source of randomness.
            augment: flip, rotate by multiples of 90 degrees, sometimes permute the colours or lower the contrast.
        """
        out = np.empty((n, size, size, 3), np.float32)
        for i in range(n):
            level = self.levels[rng.integers(len(self.levels))]
            index = np.searchsorted(level.cumulative, rng.random() * level.cumulative[-1], side="right")
            which, row, col = level.cells[min(int(index), len(level.cells) - 1)]
            image = level.images[which]
            top, left = (
                int(np.clip(cell * _CELL - rng.integers(max(1, size - _CELL + 1)), 0, side - size))
                for cell, side in zip((row, col), image.shape[:2], strict=True)
            )
            crop = image[top : top + size, left : left + size].astype(np.float32) / 127.5 - 1
            out[i] = _augment(crop, rng) if augment else crop
        return torch.from_numpy(out).permute(0, 3, 1, 2)


def _make_level(images: list[NDArray[np.uint8]]) -> _Level:
    cells: list[NDArray[np.int32]] = []
    weights: list[NDArray[np.float64]] = []
    for which, image in enumerate(images):
        contrast = _cell_contrast(image)
        rows, cols = np.indices(contrast.shape)
        cells.append(np.stack([np.full(contrast.size, which), rows.ravel(), cols.ravel()], axis=1).astype(np.int32))
        weights.append(np.minimum(contrast.ravel(), 24) + 1.5)
    return _Level(images, np.concatenate(cells), np.cumsum(np.concatenate(weights)))


def _augment(crop: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Flip and rotate at random; permute the colours with probability 0.2, and lower the contrast with 0.2."""
    crop = np.rot90(crop, int(rng.integers(4)))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if rng.random() < 0.2:
        crop = crop[..., rng.permutation(3)]
    if rng.random() < 0.2:
        gain = rng.uniform(0.5, 1)
        crop = crop * np.float32(gain) + np.float32(rng.uniform(-1, 1) * (1 - gain))
    return crop
