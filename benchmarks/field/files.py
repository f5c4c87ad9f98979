"""Real-world files made from test photographs: codecs, resizers, blurs, shakes, holes, scans and pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import eight_bits
from benchmarks.photographs import middles, pixels_of

__all__ = ["KINDS", "PAGES", "Kind", "Made", "clean_images", "write_file"]

Array = NDArray[np.uint8]

PAGES = ("page", "text")
"""Grey photographs of printed and handwritten text."""


@dataclass(frozen=True)
class Made:
    """A degraded file: its pixels, how they are stored, and the options of the command.

    Attributes:
        pixels: [h, w, 3 or 4] or [h, w].
        suffix, storage: suffix of the file, and Pillow's options for writing it.
        options: options of `invsolve.restore` that a person with this file would give.
        mask: true where pixels are missing.
    """

    pixels: Array
    suffix: str
    storage: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: name of the row.
        make: makes the file from a clean image and a random generator.
        tool: one-line tool for comparison, a name of `benchmarks.field.tools.TOOLS`.
        pages: whether the file is made from `PAGES` instead of photographs.
    """

    name: str
    make: Callable[[Array, np.random.Generator], Made]
    tool: str
    pages: bool = False


def clean_images(pages: bool, side: int = 256) -> dict[str, Array]:
    """The middle of each photograph of the README's table, [side, side, 3], or of each page, [at most side, side].

    No prior of the package was trained on them.
    """
    return {name: _middle(pixels_of(name), side) for name in PAGES} if pages else middles(side)


def _middle(array: Array, side: int) -> Array:
    height, width = (min(side, length // 4 * 4) for length in array.shape)
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    return np.ascontiguousarray(array[top : top + height, left : left + width])


def write_file(made: Made, path: Path) -> Path:
    """Write the file, and return its path with its suffix."""
    path = path.with_name(path.name + made.suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(made.pixels).save(path, **made.storage)
    return path


def _noisy(clean: Array, sigma: float, rng: np.random.Generator) -> Array:
    return eight_bits(clean / 255.0 + sigma * rng.standard_normal(clean.shape))


JPEG, WEBP = ".jpg", ".webp"


def _noise(sigma: float, suffix: str = ".png", **storage: Any) -> Callable[..., Made]:
    def make(clean: Array, rng: np.random.Generator) -> Made:
        return Made(_noisy(clean, sigma, rng) if sigma else clean, suffix, storage, {"task": "denoise"})

    return make


def _phone(clean: Array, rng: np.random.Generator) -> Made:
    """Light-dependent noise, smoothed as by a camera's own processing, in a JPEG of quality 92."""
    x = clean / 255.0
    noise = cv2.GaussianBlur(rng.standard_normal(x.shape), (0, 0), 0.6)
    noise *= 0.06 * np.sqrt(0.1 + x) / noise.std()
    return Made(eight_bits(x + noise), JPEG, {"quality": 92}, {"task": "denoise"})


def _compressed(quality: int, task: str, suffix: str = JPEG) -> Callable[..., Made]:
    return lambda clean, rng: Made(clean, suffix, {"quality": quality}, {"task": task})


_PILLOW = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def _smaller(how: str, factor: int = 2, suffix: str = ".png", **storage: Any) -> Callable[..., Made]:
    def make(clean: Array, rng: np.random.Generator) -> Made:
        size = clean.shape[1] // factor, clean.shape[0] // factor
        if how == "decimated":
            small = np.ascontiguousarray(clean[::factor, ::factor])
        elif how == "area":
            small = np.asarray(cv2.resize(clean, size, interpolation=cv2.INTER_AREA), np.uint8)
        else:
            small = np.asarray(Image.fromarray(clean).resize(size, _PILLOW[how]))
        return Made(small, suffix, storage, {"task": "superres", "factor": factor})

    return make


def _soft(sigma: float, told: float, suffix: str = ".png", **storage: Any) -> Callable[..., Made]:
    def make(clean: Array, rng: np.random.Generator) -> Made:
        blurred = cv2.GaussianBlur(clean / 255.0, (0, 0), sigma)
        pixels = eight_bits(blurred + rng.standard_normal(clean.shape) / 255)
        return Made(pixels, suffix, storage, {"task": "deblur", "blur_sigma": told})

    return make


def _shaken(side: int, suffix: str = ".png", **storage: Any) -> Callable[..., Made]:
    """A hand that drifts during the exposure: a twice integrated random walk of at most `side` pixels about its mean.

    A blurred image does not show the position of the sharp one; here it is the mean position during the exposure.
    """

    def make(clean: Array, rng: np.random.Generator) -> Made:
        path = np.cumsum(np.cumsum(rng.standard_normal((400, 2)), 0), 0)
        path = (path - path.mean(0)) / np.ptp(path, 0).max() * (side - 5) + side
        kernel = np.zeros((2 * side + 1, 2 * side + 1))
        np.add.at(kernel, tuple(path.round().astype(int).T), 1)
        kernel = cv2.GaussianBlur(kernel, (0, 0), 0.7)
        blurred = cv2.filter2D(clean / 255.0, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
        pixels = eight_bits(blurred + 0.005 * rng.standard_normal(clean.shape))
        return Made(pixels, suffix, storage, {"task": "blind-deblur"})

    return make


def _missing(draw: Callable[[tuple[int, int], np.random.Generator], NDArray[np.bool_]]) -> Callable[..., Made]:
    """A PNG whose missing pixels are transparent."""

    def make(clean: Array, rng: np.random.Generator) -> Made:
        mask = draw(clean.shape[:2], rng)
        colour = clean if clean.ndim == 3 else np.repeat(clean[..., None], 3, 2)
        alpha = np.where(mask, 0, 255).astype(np.uint8)[..., None]
        return Made(np.concatenate([np.where(mask[..., None], 0, colour), alpha], 2), ".png", {}, {}, mask)

    return make


def _hole(size: int) -> Callable[..., NDArray[np.bool_]]:
    def draw(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
        mask = np.zeros(shape, bool)
        top, left = ((length - size) // 2 for length in shape)
        mask[top : top + size, left : left + size] = True
        return mask

    return draw


def _random(share: float) -> Callable[..., NDArray[np.bool_]]:
    return lambda shape, rng: rng.random(shape) < share


def _letters(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.uint8)
    for row in range(60, shape[0], 60):
        cv2.putText(mask, "SAMPLE COPY", (8, row), cv2.FONT_HERSHEY_SIMPLEX, 1.1, 255, 5)
    return mask > 0


def _scratches(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.uint8)
    for _ in range(14):
        ends = (rng.random((2, 2)) * np.array(shape[::-1])).astype(int)
        cv2.line(mask, ends[0].tolist(), ends[1].tolist(), 255, int(rng.integers(1, 4)))
    for _ in range(40):
        cv2.circle(mask, (rng.random(2) * np.array(shape[::-1])).astype(int).tolist(), int(rng.integers(1, 4)), 255, -1)
    return mask > 0


KINDS = (
    Kind("clean PNG, denoised", _noise(0.0), "itself"),
    Kind("clean JPEG 95, denoised", _noise(0.0, JPEG, quality=95), "itself"),
    Kind("noise 0.02, PNG", _noise(0.02), "nl-means"),
    Kind("noise 0.05, PNG", _noise(0.05), "nl-means"),
    Kind("noise 0.1, PNG", _noise(0.1), "nl-means"),
    Kind("noise 0.2, PNG", _noise(0.2), "nl-means"),
    Kind("noise 0.05, JPEG 92", _noise(0.05, JPEG, quality=92), "nl-means"),
    Kind("noise 0.1, JPEG 85", _noise(0.1, JPEG, quality=85), "nl-means"),
    Kind("noise 0.05, WebP 85", _noise(0.05, WEBP, quality=85), "nl-means"),
    Kind("phone in dim light, JPEG 92", _phone, "nl-means"),
    Kind("JPEG 20", _compressed(20, "jpeg"), "bilateral"),
    Kind("JPEG 50", _compressed(50, "jpeg"), "bilateral"),
    Kind("JPEG 85", _compressed(85, "jpeg"), "bilateral"),
    Kind("half size by area", _smaller("area"), "bicubic"),
    Kind("half size by bicubic", _smaller("bicubic"), "bicubic"),
    Kind("half size by Lanczos", _smaller("lanczos"), "bicubic"),
    Kind("half size by decimation", _smaller("decimated"), "bicubic"),
    Kind("half size, JPEG 80", _smaller("area", suffix=JPEG, quality=80), "bicubic"),
    Kind("quarter size by area", _smaller("area", 4), "bicubic"),
    Kind("blur 1.5", _soft(1.5, 1.5), "wiener"),
    Kind("blur 2.5", _soft(2.5, 2.5), "wiener"),
    Kind("blur 2, told 2.5", _soft(2.0, 2.5), "wiener"),
    Kind("blur 2, JPEG 90", _soft(2.0, 2.0, JPEG, quality=90), "wiener"),
    Kind("shake of 15, PNG", _shaken(15), "itself"),
    Kind("shake of 15, JPEG 90", _shaken(15, JPEG, quality=90), "itself"),
    Kind("shake of 25, PNG", _shaken(25), "itself"),
    Kind("hole of 16", _missing(_hole(16)), "telea"),
    Kind("hole of 40", _missing(_hole(40)), "telea"),
    Kind("50 % missing", _missing(_random(0.5)), "telea"),
    Kind("90 % missing", _missing(_random(0.9)), "telea"),
    Kind("letters over it", _missing(_letters), "telea"),
    Kind("scratches and dust", _missing(_scratches), "telea"),
    Kind("page: noise 0.05", _noise(0.05), "nl-means", pages=True),
    Kind("page: JPEG 30", _compressed(30, "jpeg"), "bilateral", pages=True),
    Kind("page: half size by area", _smaller("area"), "bicubic", pages=True),
    Kind("page: blur 1.5", _soft(1.5, 1.5), "wiener", pages=True),
)
"""The rows of the table."""
