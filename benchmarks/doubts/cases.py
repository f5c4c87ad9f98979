"""Degraded crops, some with correct settings of the task and some with wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import eight_bits, stored
from invsolve.core.rng import Rng
from invsolve.operators.kernels import camera_shake_kernel

__all__ = ["CASES", "Case", "Degraded"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Degraded:
    """A degraded image.

    Attributes:
        pixels: [h, w, 3] in [0, 1].
        options: options of `invsolve.restore`.
        simple: the result of a one-line tool, or the image itself, in the size of the clean image: the floor.
        clean: ground truth.
    """

    pixels: Array
    options: Mapping[str, Any]
    simple: Array
    clean: Array


@dataclass(frozen=True)
class Case:
    """A kind of degraded image, and whether the task gets the correct settings."""

    name: str
    right: bool
    make: Callable[[Array, np.random.Generator], Degraded]


def _file(x: Array) -> Array:
    return eight_bits(x) / 255


def _noisy(x: Array, sigma: float, rng: np.random.Generator) -> Array:
    return _file(x + sigma * rng.standard_normal(x.shape))


def jpeg(x: Array, quality: int) -> Array:
    """An image [h, w, 3] in [0, 1] after JPEG compression."""
    return stored(eight_bits(x), quality=quality) / 255.0


def _denoise(sigma: float, told: float | None = None, quality: int | None = None) -> Callable[..., Degraded]:
    def make(clean: Array, rng: np.random.Generator) -> Degraded:
        y = _noisy(clean, sigma, rng)
        y = y if quality is None else jpeg(y, quality)
        return Degraded(y, {"task": "denoise"} | ({} if told is None else {"noise": told}), y, clean)

    return make


def _told_jpeg(quality: int, task: str, **options: Any) -> Callable[..., Degraded]:
    def make(clean: Array, rng: np.random.Generator) -> Degraded:
        if task == "denoise":
            return Degraded(y := jpeg(clean, quality), {"task": task, **options}, y, clean)
        blurred = cv2.GaussianBlur(clean, (0, 0), options["blur_sigma"])
        return Degraded(y := jpeg(blurred, quality), {"task": task, **options}, y, clean)

    return make


def _deblur(sigma: float, told: float, noise: float = 1 / 255) -> Callable[..., Degraded]:
    def make(clean: Array, rng: np.random.Generator) -> Degraded:
        y = _noisy(cv2.GaussianBlur(clean, (0, 0), sigma), noise, rng)
        return Degraded(y, {"task": "deblur", "blur_sigma": told}, y, clean)

    return make


def shake(length: float, rng: np.random.Generator) -> Array:
    """The kernel [s, s] of a camera shake, with its centre of mass within half a pixel of the middle."""
    kernel = camera_shake_kernel(length, 0.5, Rng(int(rng.integers(1 << 30)))).double().numpy()
    return kernel / kernel.sum()


def _blurred(clean: Array, kernel: Array) -> Array:
    flipped = kernel[::-1, ::-1]
    anchor = (kernel.shape[1] - 1 - kernel.shape[1] // 2, kernel.shape[0] - 1 - kernel.shape[0] // 2)
    return cv2.filter2D(clean, -1, flipped, anchor=anchor, borderType=cv2.BORDER_REFLECT_101)


def _shaken(length: float, told: str, noise: float = 1 / 255) -> Callable[..., Degraded]:
    def make(clean: Array, rng: np.random.Generator) -> Degraded:
        kernel = shake(length, rng)
        y = _noisy(_blurred(clean, kernel), noise, rng)
        other = shake(length, rng) if told == "wrong" else kernel
        options = {"task": "blind-deblur"} if told == "blind" else {"task": "deblur", "kernel": other}
        return Degraded(y, options, y, clean)

    return make


def _superres(factor: int, how: str) -> Callable[..., Degraded]:
    def make(clean: Array, rng: np.random.Generator) -> Degraded:
        side = clean.shape[0] // factor
        if how == "decimated":
            y = clean[::factor, ::factor]
        elif how == "bicubic":
            from invsolve.operators import SuperResolution

            x = torch.from_numpy(clean).permute(2, 0, 1)[None]
            y = SuperResolution((3, *clean.shape[:2]), factor=factor)(x)[0].permute(1, 2, 0).numpy()
        else:
            y = cv2.resize(clean, (side, side), interpolation=cv2.INTER_AREA)
        y = _file(y)
        simple = cv2.resize(y, clean.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        return Degraded(y, {"task": "superres", "factor": factor}, simple, clean)

    return make


def _inpaint(missing: float = 0.0, hole: int = 0) -> Callable[..., Degraded]:
    def make(clean: Array, rng: np.random.Generator) -> Degraded:
        side = clean.shape[0]
        mask = rng.random((side, side)) < missing
        if hole:
            top = (side - hole) // 2
            mask[top : top + hole, top : top + hole] = True
        y = np.where(mask[..., None], 0.0, _noisy(clean, 0.005, rng))
        simple = cv2.inpaint(eight_bits(y), mask.astype(np.uint8), 3, cv2.INPAINT_TELEA) / 255.0
        return Degraded(y, {"task": "inpaint", "mask": mask, "noise": 0.005}, simple, clean)

    return make


CASES = [
    Case("denoise 0.02", True, _denoise(0.02)),
    Case("denoise 0.1", True, _denoise(0.1)),
    Case("denoise jpeg92 0.05", True, _denoise(0.05, quality=92)),
    Case("denoise 0.05 told", True, _denoise(0.05, told=0.05)),
    Case("superres2 bicubic", True, _superres(2, "bicubic")),
    Case("superres2 area", True, _superres(2, "area")),
    Case("superres4 bicubic", True, _superres(4, "bicubic")),
    Case("inpaint 50 %", True, _inpaint(missing=0.5)),
    Case("inpaint 80 %", True, _inpaint(missing=0.8)),
    Case("hole 12", True, _inpaint(hole=12)),
    Case("hole 24", True, _inpaint(hole=24)),
    Case("deblur 1.5", True, _deblur(1.5, 1.5)),
    Case("deblur 2", True, _deblur(2.0, 2.0)),
    Case("deblur 3", True, _deblur(3.0, 3.0)),
    Case("deblur 2 noise 0.02", True, _deblur(2.0, 2.0, 0.02)),
    Case("deblur shake told", True, _shaken(15, "true")),
    Case("blind shake 9", True, _shaken(9, "blind")),
    Case("blind shake 17", True, _shaken(17, "blind")),
    Case("blind shake 25 noise 0.02", False, _shaken(25, "blind", 0.02)),
    Case("denoise 0.1 told 0.02", False, _denoise(0.1, told=0.02)),
    Case("denoise 0.03 told 0.15", False, _denoise(0.03, told=0.15)),
    Case("superres2 decimated", False, _superres(2, "decimated")),
    Case("superres4 decimated", False, _superres(4, "decimated")),
    Case("hole 48", False, _inpaint(hole=48)),
    Case("hole 64", False, _inpaint(hole=64)),
    Case("deblur 1.5 told 1.875", False, _deblur(1.5, 1.875)),
    Case("deblur 2 told 2.5", False, _deblur(2.0, 2.5)),
    Case("deblur 3 told 3.75", False, _deblur(3.0, 3.75)),
    Case("deblur 2 told 4", False, _deblur(2.0, 4.0)),
    Case("deblur another shake", False, _shaken(15, "wrong")),
    Case("jpeg20 denoise told 0.002", False, _told_jpeg(20, "denoise", noise=0.002)),
    Case("jpeg30 deblur told 0.004", False, _told_jpeg(30, "deblur", blur_sigma=2.0, noise=0.004)),
]
