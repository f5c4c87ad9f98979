"""Cases for the calibration of blind deblurring: photographs behind blurs that the program has to find.

What is measured is what a user gets: `restore` is told the noise and nothing else. Images that it returns as they came,
because no blur was found, have no intervals and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from invsolve.core.rng import Rng
from invsolve.restoration.run import restore
from invsolve.tasks.deblur import Deblur
from invsolve.train.kernels import FRAME, draw_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEAST_SIDE", "REACH", "FoundBlur", "blurred_photograph", "found_blur", "moved_to"]

REACH = 6
"""Pixels by which a restored image may lie beside the truth: a blurred image does not tell where its scene was."""

LEAST_SIDE = 3 * 33 + FRAME - 1
"""Of the photographs, in pixels, so that the usual kernels are looked for."""


@dataclass(frozen=True, eq=False)
class FoundBlur:
    """A photograph that was blurred, and its restoration.

    Attributes:
        centre: the restored image [C, h, w] in [0, 1], without `REACH` pixels at each side.
        samples: of it [S, C, h, w].
        truth: the photograph where it resembles the restored image most.
        seconds: the restoration took.
    """

    centre: Tensor
    samples: Tensor
    truth: Tensor
    seconds: float


def blurred_photograph(image: Tensor, noise: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A photograph [3, H, W] as a file of 8 bits shows it behind a random blur, what is seen of it, and the kernel.

    Args:
        image: in [0, 1]; what is seen of it is 34 pixels smaller.
        noise: standard deviation.
        seed: of the kernel, drawn as for training (`invsolve.train.kernels`), and the noise.
    """
    kernel = torch.from_numpy(draw_kernel(np.random.default_rng((seed, 11))))
    y, clean = Deblur(kernel).degrade(image)
    noisy = y + noise * Rng(seed).normal(y[None])[0]
    return (noisy.clamp(0, 1) * 255).round() / 255, clean, kernel


def found_blur(image: Tensor, noise: float, seed: int, **options: Any) -> FoundBlur | None:
    """A case of one photograph, None where no blur is found.

    Args:
        image: [3, H, W] in [0, 1], with sides of at least `LEAST_SIDE`.
        noise: standard deviation.
        seed: of everything random.
        options: of `restore`: prior, samples, solver and settings.
    """
    y, clean, _ = blurred_photograph(image, noise, seed)
    done = restore(y, "blind-deblur", noise=noise, seed=seed, **options)
    if done.record["estimate"] == "the image as it came" or done.samples is None:
        return None
    inner = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    truth = moved_to(clean, done.image.pixels)[inner]
    return FoundBlur(done.image.pixels[inner], done.samples[inner], truth, done.result.stats.seconds)


def moved_to(image: Tensor, other: Tensor) -> Tensor:
    """An image [C, H, W] moved to where it resembles another one most, by fractions of a pixel.

    The best shift is that of least squares over the inner part, by splines of degree 5.
    """
    from scipy.ndimage import shift, spline_filter
    from scipy.optimize import minimize

    inner = (slice(None), slice(REACH, -REACH), slice(REACH, -REACH))
    target = other.double().numpy()[inner]
    splines = [spline_filter(channel, order=5, mode="mirror") for channel in image.double().numpy()]

    def moved(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([shift(s, at, order=5, prefilter=False, mode="mirror") for s in splines])

    def error(at: NDArray[np.float64]) -> float:
        return float(((moved(at)[inner] - target) ** 2).mean())

    whole = [(float(i), float(j)) for i in range(-REACH, REACH + 1) for j in range(-REACH, REACH + 1)]
    rolled = image.double().numpy()
    errors = [float(((np.roll(rolled, (int(i), int(j)), (1, 2))[inner] - target) ** 2).mean()) for i, j in whole]
    start = np.array(whole[int(np.argmin(errors))])
    scale = min(errors) + 1e-12
    best = minimize(lambda at: error(start + at) / scale, [0.0, 0.0], method="L-BFGS-B", options={"eps": 1e-3})
    return torch.from_numpy(moved(start + best.x)).to(image)
