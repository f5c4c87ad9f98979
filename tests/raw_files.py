"""Raw files for tests: DNG files written with tifffile, which LibRaw opens as it does those of cameras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

BLACK, WHITE = 512, 16383
NEUTRAL = (0.5, 1.0, 0.625)
"""What the sensor sees of grey."""

XYZ_TO_CAMERA = np.array([[0.7, -0.2, -0.06], [-0.45, 1.3, 0.16], [-0.08, 0.2, 0.65]])
"""ColorMatrix1, much as those of cameras."""

SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def camera_matrix() -> np.ndarray:
    """From white-balanced colours of the camera to linear sRGB: inverse of sRGB -> XYZ -> camera with rows of sum 1."""
    to_camera = XYZ_TO_CAMERA @ SRGB_TO_XYZ
    return np.linalg.inv(to_camera / to_camera.sum(1, keepdims=True))


def seen_by_camera(srgb: np.ndarray) -> np.ndarray:
    """What the sensor sees of an sRGB image [H, W, 3] in [0, 1] that is as bright as it can be: 1 is saturated."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return linear @ np.linalg.inv(camera_matrix()).T * np.array(NEUTRAL)


def mosaic_of(colours: np.ndarray, pattern: str = "RGGB") -> np.ndarray:
    """The one colour of [H, W, 3] that a filter lets through at each pixel."""
    side = round(len(pattern) ** 0.5)
    index = np.array(["RGB".index(letter) for letter in pattern]).reshape(side, side)
    height, width = colours.shape[:2]
    places = np.tile(index, (height // side + 1, width // side + 1))[:height, :width]
    return np.take_along_axis(colours, places[..., None], 2)[..., 0]


def write_dng(
    path: Path,
    values: np.ndarray,
    pattern: str = "RGGB",
    *,
    noise: Sequence[float] | None = None,
    orientation: int = 1,
) -> Path:
    """A DNG file of values [H, W] in [0, 1], or [H, W, 3] that a camera has demosaiced.

    `noise` is its NoiseProfile, (b, a) of the variance a + b x.
    """

    def rationals(numbers: Sequence[float]) -> tuple[int, ...]:
        return tuple(int(part) for number in numbers for part in (round(float(number) * 10**6), 10**6))

    side = round(len(pattern) ** 0.5)
    tags: list[Any] = [
        (271, 2, 0, "Maker", True), (272, 2, 0, "Camera", True), (274, 3, 1, orientation, True),
        (33421, 3, 2, (side, side), True),
        (33422, 1, side**2, bytes("RGB".index(letter) for letter in pattern), True),
        (50706, 1, 4, bytes([1, 4, 0, 0]), True), (50707, 1, 4, bytes([1, 1, 0, 0]), True),
        (50708, 2, 0, "Maker Camera", True), (50714, 4, 1, BLACK, True), (50717, 4, 1, WHITE, True),
        (50721, 10, 9, rationals(XYZ_TO_CAMERA.ravel()), True), (50728, 5, 3, rationals(NEUTRAL), True),
        (50778, 3, 1, 21, True),
    ]  # fmt: skip
    if noise is not None:
        tags.append((51041, 12, len(noise), tuple(noise), True))
    levels = np.clip(np.rint(BLACK + values * (WHITE - BLACK)), 0, WHITE).astype(np.uint16)
    kind = {"photometric": 32803} if values.ndim == 2 else {"photometric": 34892, "planarconfig": "contig"}
    tifffile.imwrite(path, levels, **kind, metadata=None, software=False, extratags=tags)  # pyright: ignore
    return path
