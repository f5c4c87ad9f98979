"""The noise level at which a file is restored best, as a multiple of sqrt(3) times the level of its luma noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import invsolve as iv
from benchmarks.common import psnr
from benchmarks.noise.files import noisy_file
from invsolve import priors
from invsolve.tune.images import crops

FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)
KINDS = (
    "png", "jpeg85", "jpeg75", "webp75", "correlated-0.5", "correlated-0.7", "correlated-1", "correlated-0.7-jpeg90",
    "grey", "signal-dependent",
)  # fmt: skip


def run(images: Path, count: int, side: int, sigmas: list[float], quality: str) -> None:
    """Print the mean PSNR for every kind, level and factor.

    Args:
        images: a folder of tuning photographs.
        count: number of crops.
        side: side of the crops in pixels.
        sigmas: noise levels.
        quality: quality of the restoration.
    """
    clean = crops(images, count, side).permute(0, 2, 3, 1).double().numpy()
    prior = priors.load("natural")
    print("kind, noise, correlation of neighbours, luma, chroma: PSNR at the factors", *FACTORS)
    for kind in KINDS:
        for sigma in sigmas:
            scores, facts = np.zeros((len(clean), len(FACTORS))), []
            for i, image in enumerate(clean):
                y, truth, _ = noisy_file(image, sigma, kind, seed=i)
                luma = (y - truth).mean(2)
                chroma = float(np.sqrt(((y - truth - luma[..., None]) ** 2).mean()))
                beside = (luma[1:] * luma[:-1]).mean() + (luma[:, 1:] * luma[:, :-1]).mean()
                facts.append((beside / 2 / (luma**2).mean(), luma.std(), chroma))
                for j, factor in enumerate(FACTORS):
                    level = float(factor * 3**0.5 * luma.std())
                    done = iv.restore(y, "denoise", noise=level, prior=prior, quality=quality)
                    scores[i, j] = psnr(done.image.pixels.permute(1, 2, 0), truth)
            words = " ".join(f"{v:.2f}" for v in scores.mean(0))
            rho, luma, chroma = np.mean(facts, 0)
            print(f"{kind:22} {sigma:.3f} {rho:5.2f} {luma:.4f} {chroma:.4f}: {words}", flush=True)
