"""Files with known noise: codecs, grey and toned images, correlated and signal-dependent noise."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import eight_bits, stored

__all__ = ["KINDS", "noisy_file"]

KINDS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "png": ("white", None),
    "jpeg95": ("white", {"format": "JPEG", "quality": 95}),
    "jpeg85": ("white", {"format": "JPEG", "quality": 85}),
    "jpeg75": ("white", {"format": "JPEG", "quality": 75}),
    "webp90": ("white", {"format": "WEBP", "quality": 90}),
    "webp75": ("white", {"format": "WEBP", "quality": 75}),
    "correlated-0.5": ("soft-0.5", None),
    "correlated-0.7": ("soft-0.7", None),
    "correlated-1": ("soft-1", None),
    "correlated-0.7-jpeg90": ("soft-0.7", {"format": "JPEG", "quality": 90}),
    "signal-dependent": ("signal", None),
    "grey": ("grey", None),
    "grey-jpeg90": ("grey", {"format": "JPEG", "quality": 90}),
    "toned": ("toned", None),
}
"""Kinds of files: the noise, and the storage (lossless if None)."""

_TONE = np.array([1.0, 0.86, 0.66])


def noisy_file(
    clean: NDArray[Any], sigma: float, kind: str, seed: int = 0
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """A file's pixels, its clean image and the noise before it was clipped, [h, w, 3] in [0, 1].

    Args:
        clean: [h, w, 3] in [0, 1].
        sigma: level of the noise before it is clipped.
        kind: one of `KINDS`.
        seed: seed of the noise.
    """
    law, how = KINDS[kind]
    noise = np.random.default_rng(seed).standard_normal(clean.shape)
    if law.startswith("soft"):
        noise = cv2.GaussianBlur(noise, (0, 0), float(law.split("-")[1]))
        noise = noise / noise.std()
    if law == "signal":
        noise = noise * np.sqrt(clean / clean.mean())
    if law in ("grey", "toned"):
        tone = _TONE if law == "toned" else np.ones(3)
        clean = clean.mean(2, keepdims=True) * tone
        noise = noise[..., :1] * tone
    noise = sigma * noise
    pixels = eight_bits(clean + noise)
    return (pixels if how is None else stored(pixels, **how)) / 255.0, clean, noise
