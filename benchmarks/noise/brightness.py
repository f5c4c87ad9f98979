"""The gain of restoring noise that grows with brightness by its curve instead of its mean level."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import invsolve as iv
from benchmarks.common import eight_bits, psnr, stored
from invsolve import priors
from invsolve.tune.images import crops

CURVES = ((0.0004, 0.007), (0.0002, 0.02))
"""(a, b) of the variance a + b x, for a good camera in dim light and for a small camera."""


def run(images: Path, count: int, side: int) -> None:
    """Print the gain in dB for 8-bit files and for JPEG files of quality 90.

    Args:
        images: a folder of photographs.
        count: number of crops.
        side: side of the crops in pixels.
    """
    prior = priors.load("natural")
    print("a, b, format: mean gain in dB, its standard error, smallest and largest gain; files whose curve was found")
    for a, b in CURVES:
        for quality in (None, 90):
            gains, found = [], 0
            for i, clean in enumerate(crops(images, count, side).permute(0, 2, 3, 1).double().numpy()):
                noise = np.sqrt(a + b * clean) * np.random.default_rng(i).standard_normal(clean.shape)
                file = _file(clean + noise, quality)
                with mock.patch("invsolve.restoration.job.stabiliser_of", return_value=None):
                    level = _psnr(iv.restore(file, "denoise", prior=prior), clean)
                gains.append(_psnr(iv.restore(file, "denoise", prior=prior), clean) - level)
                found += iv.estimate_noise(file).depends_on_brightness
            error = np.std(gains, ddof=1) / len(gains) ** 0.5
            print(
                f"{a:g}, {b:g}, {'PNG' if quality is None else f'JPEG {quality}'}: {np.mean(gains):+.2f} "
                f"({error:.2f}), {min(gains):+.2f} to {max(gains):+.2f}; {found} of {len(gains)}",
                flush=True,
            )


def _file(x: NDArray[np.float64], quality: int | None) -> NDArray[np.uint8]:
    pixels = eight_bits(x)
    return pixels if quality is None else stored(pixels, quality=quality)


def _psnr(done: iv.Restoration, clean: NDArray[np.float64]) -> float:
    return psnr(done.image.pixels.permute(1, 2, 0), clean)
