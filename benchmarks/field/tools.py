"""One-line tools for comparison: methods of `invsolve.bench.peers.classical` with one value of their parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import eight_bits
from benchmarks.field.files import Made
from invsolve.bench.peers.classical import METHODS, Measured
from invsolve.operators import gaussian_kernel

__all__ = ["TOOLS", "by_tool", "opened"]


def _bilateral(y: Measured, number: float) -> NDArray[Any]:
    return np.atleast_3d(cv2.bilateralFilter(eight_bits(y.image), 5, number, 5)) / 255.0


_METHODS = {method.name: method.make for methods in METHODS.values() for method in methods}

TOOLS: Mapping[str, tuple[Callable[[Measured, float], NDArray[Any]], float]] = {
    "nl-means": (_METHODS["non-local means (scikit-image)"], 0.8),
    "bilateral": (_bilateral, 20.0),
    "bicubic": (_METHODS["bicubic (Pillow)"], 0.0),
    "wiener": (_METHODS["Wiener (scikit-image)"], 0.01),
    "telea": (_METHODS["Telea (OpenCV)"], 3.0),
}
"""The method and its parameter. Non-local means get the noise level that scikit-image estimates, Wiener deconvolution
gets the same blur as the command."""


def opened(path: Path) -> NDArray[np.uint8]:
    """The colours or grey levels of a file."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L" if image.mode == "L" else "RGB"))


def by_tool(tool: str, path: Path, made: Made) -> NDArray[Any]:
    """The result of a tool on a file, [h, w, C] in [0, 1]; the file itself for "itself"."""
    image = np.atleast_3d(opened(path)) / 255.0
    if tool == "itself":
        return image
    make, number = TOOLS[tool]
    return make(_measured(image, tool, made), number).clip(0, 1)


def _measured(image: NDArray[Any], tool: str, made: Made) -> Measured:
    from skimage.restoration import estimate_sigma

    told = made.options.get("blur_sigma")
    return Measured(
        image,
        float(np.mean(estimate_sigma(image, channel_axis=-1))) if tool == "nl-means" else 0.0,
        made.options.get("factor", 1),
        made.mask,
        None if told is None else gaussian_kernel(told).numpy(),
    )
