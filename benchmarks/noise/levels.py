"""How often the estimated level of a file is right: [0.7, 1.35] times the root mean square of (file - clean image)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

import invsolve as iv
from benchmarks.noise.files import KINDS, noisy_file
from benchmarks.photographs import pixels_of

__all__ = ["ESTIMATORS", "run", "standard_images"]

RIGHT = (0.7, 1.35)

Pixels = NDArray[Any]


def _ours(y: Pixels) -> float:
    return iv.estimate_noise(y).sigma


def _wavelets(y: Pixels) -> float:
    import numpy as np
    from skimage.restoration import estimate_sigma

    return float(np.mean(estimate_sigma(y, channel_axis=2, average_sigmas=True)))


def _patches(y: Pixels) -> float:
    from deepinv.models import PatchCovarianceNoiseEstimator

    return float(PatchCovarianceNoiseEstimator()(torch.from_numpy(y).permute(2, 0, 1)[None].float()))


ESTIMATORS: dict[str, Callable[[Pixels], float]] = {
    "invsolve": _ours,
    "scikit-image estimate_sigma": _wavelets,
    "deepinv PatchCovarianceNoiseEstimator": _patches,
}


def standard_images() -> dict[str, Pixels]:
    """256 x 256 crops of photographs that were not used for training."""
    return {name: pixels_of(name)[:256, 100:356] / 255 for name in ("chelsea", "astronaut", "coffee")}


def held_out(folder: Path) -> dict[str, Pixels]:
    """256 x 256 crops of the photographs that `invsolve train noise` holds out, downsampled by two factors."""
    from invsolve.train.data import find_images, read_image, split_images

    found = {}
    for path in split_images(find_images(folder), ())[1]:
        for longest in (800, 450):
            image = read_image(path, longest)
            top, left = (max(s - 256, 0) // 2 for s in image.shape[:2])
            found[f"{path.stem} {longest}"] = image[top : top + 256, left : left + 256] / 255
    return found


def run(images: Path | None, sigmas: Iterable[float], who: Iterable[str], *, details: bool) -> None:
    """Print how many files of each kind every estimator gets wrong, and its time.

    Of invsolve's, also print over all files how often the level is inside its interval, and how often it is not sure.
    """
    clean = standard_images() if images is None else held_out(images)
    wrong = {name: dict.fromkeys(KINDS, 0) for name in who}
    seconds = dict.fromkeys(wrong, 0.0)
    inside, unsure, files = 0, 0, 0
    for name, image in clean.items():
        for sigma in sigmas:
            for kind in KINDS:
                y, truth, noise = noisy_file(image, sigma, kind)
                right = max(math.sqrt(((y - truth) ** 2).mean()), 1 / 255 / 12**0.5)
                files += 1
                for estimator in wrong:
                    began = time.perf_counter()
                    got = ESTIMATORS[estimator](y)
                    seconds[estimator] += time.perf_counter() - began
                    bad = not RIGHT[0] <= got / right <= RIGHT[1]
                    wrong[estimator][kind] += bad
                found = iv.estimate_noise(y)
                inside += found.low <= right <= found.high
                unsure += not found.sure
                if details:
                    before = max(math.sqrt((noise**2).mean()), 1e-3)
                    facts = f"{found.sigma / right:.2f}, before clipping {found.unclipped / before:.2f}"
                    print(f"{name:28} {kind:22} {sigma:.3f} {right:.4f}: {facts}: {found.description}", flush=True)
    for estimator, kinds in wrong.items():
        total = sum(kinds.values())
        words = ", ".join(f"{kind} {n}" for kind, n in kinds.items() if n)
        cost = 1e3 * seconds[estimator] / files
        print(f"{estimator}: {total} of {files} outside {list(RIGHT)} ({words}), {cost:.0f} ms a file")
    print(f"inside the 80 % interval: {inside / files:.3f}; not sure: {unsure / files:.3f}")
