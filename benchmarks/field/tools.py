"""What one line of a common tool makes of a file, with the tool's usual settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.field.files import Made

__all__ = ["TOOLS", "opened"]

Array = NDArray[Any]


def opened(path: Path) -> Array:
    """The colours or grey levels of a file, uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L" if image.mode == "L" else "RGB"))


def _itself(pixels: Array, made: Made) -> Array:
    return pixels / 255.0


def _nl_means(pixels: Array, made: Made) -> Array:
    from skimage.restoration import denoise_nl_means, estimate_sigma

    axis = -1 if pixels.ndim == 3 else None
    x = pixels / 255.0
    sigma = float(estimate_sigma(x, channel_axis=axis, average_sigmas=True))
    return denoise_nl_means(x, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=axis)


def _bilateral(pixels: Array, made: Made) -> Array:
    return cv2.bilateralFilter(pixels, 5, 20, 5) / 255.0


def _bicubic(pixels: Array, made: Made) -> Array:
    factor = int(made.options["factor"])
    size = pixels.shape[1] * factor, pixels.shape[0] * factor
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)) / 255.0


def _wiener(pixels: Array, made: Made) -> Array:
    from skimage.restoration import wiener

    sigma = float(made.options["blur_sigma"])
    side = np.arange(-int(4 * sigma + 1), int(4 * sigma + 1) + 1)
    psf = np.exp(-(side[:, None] ** 2 + side[None] ** 2) / (2 * sigma**2))
    padded = np.pad(pixels / 255.0, [(32, 32), (32, 32), (0, 0)][: pixels.ndim], mode="reflect")
    planes = np.atleast_3d(padded)
    done = [np.asarray(wiener(planes[..., c], psf / psf.sum(), 0.01)) for c in range(planes.shape[-1])]
    return np.stack(done, -1).reshape(padded.shape)[32:-32, 32:-32]


def _telea(pixels: Array, made: Made) -> Array:
    assert made.mask is not None
    return cv2.inpaint(pixels, made.mask.astype(np.uint8), 3, cv2.INPAINT_TELEA) / 255.0


TOOLS: Mapping[str, Callable[[Array, Made], Array]] = {
    "itself": _itself,
    "nl-means": _nl_means,
    "bilateral": _bilateral,
    "bicubic": _bicubic,
    "wiener": _wiener,
    "telea": _telea,
}
"""The tools: the file itself, non-local means at the estimated noise (scikit-image), a bilateral filter (OpenCV),
bicubic interpolation (Pillow), Wiener deconvolution with the blur that is told (scikit-image), Telea's inpainting
(OpenCV)."""
