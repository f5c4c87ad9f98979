"""The loss from noise that is clipped in a file: PSNR of denoising with the known and with the estimated level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import invsolve as iv
from benchmarks.common import eight_bits, psnr
from benchmarks.noise.levels import standard_images
from invsolve import priors
from invsolve.tune.images import crops


def run(images: Path | None, count: int, side: int, sigmas: list[float], quality: str) -> None:
    """Print the PSNR for unclipped and clipped noise, with the given and with the estimated level.

    Args:
        images: a folder of photographs, or None for test images.
        count: number of crops of the photographs.
        side: side of the crops in pixels.
        sigmas: noise levels.
        quality: quality of the restoration.
    """
    if images is None:
        clean = [image[:side, :side] for image in standard_images().values()]
    else:
        clean = list(crops(images, count, side).permute(0, 2, 3, 1).double().numpy())
    prior = priors.load("natural")
    print("noise: PSNR unclipped, clipped with the given level, clipped in an 8-bit file with the estimated level")
    for sigma in sigmas:
        scores: list[list[float]] = []
        for i, truth in enumerate(clean):
            noisy = truth + sigma * np.random.default_rng(i).standard_normal(truth.shape)
            file = eight_bits(noisy)
            cases: list[tuple[Any, float | str]] = [
                (np.clip(noisy, -0.5, 1.5), sigma),
                (np.clip(noisy, 0, 1), sigma),
                (file, "auto"),
            ]
            done = [iv.restore(y, "denoise", noise=level, prior=prior, quality=quality) for y, level in cases]
            scores.append([psnr(d.image.pixels.permute(1, 2, 0), truth) for d in done])
        print(f"{sigma:g}: " + " ".join(f"{v:.2f}" for v in np.mean(scores, 0)), flush=True)
