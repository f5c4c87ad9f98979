"""Cases for the calibration of blind deblurring: photographs behind blurs that the program has to find.

What is measured is what a user gets: `restore` is told the noise and nothing else. Images that it returns as they came,
because no blur was found, have no intervals and are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.rng import Rng
from invsolve.restoration.run import restore
from invsolve.tasks.blind_deblur import KERNEL_SIZE, BlindDeblur
from invsolve.tasks.deblur import Deblur
from invsolve.train.kernels import FRAME, draw_kernel
from invsolve.tune.case import Case

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["REACH", "blurred_photograph", "check_sides", "found_blur", "moved_to"]

REACH = 6
"""Pixels by which a restored image may lie beside the truth: a blurred image does not tell where its scene was."""

LEAST_SIDE = 3 * KERNEL_SIZE + FRAME - 1
"""Of the photographs, in pixels, so that the usual kernels are looked for."""


def check_sides(images: Tensor) -> None:
    """Raise `InputError` unless images [..., H, W] have sides of at least `LEAST_SIDE`."""
    if min(images.shape[-2:]) < LEAST_SIDE:
        raise InputError(f"an unknown blur is calibrated on images of at least {LEAST_SIDE} pixels: give --size")


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


def found_blur(image: Tensor, noise: float, seed: int, **options: Any) -> Case | None:
    """A case of one photograph without `REACH` pixels at each side, at the best shift; None where no blur is found.

    Args:
        image: [3, H, W] in [0, 1], see `check_sides`.
        noise: standard deviation.
        seed: of everything random.
        options: of `restore`: prior, samples, solver and settings.
    """
    y, clean, _ = blurred_photograph(image, noise, seed)
    done = restore(y, BlindDeblur.name, noise=noise, seed=seed, **options)
    if done.samples is None:
        return None
    inner = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    centre = done.image.pixels
    truth, seconds = moved_to(clean, centre, REACH)[inner].float(), (done.result.stats.seconds, 0.0)
    return Case(centre[inner], done.samples[inner], truth, BlindDeblur.name, 1.0, None, seconds)


def moved_to(image: Tensor, other: Tensor, reach: int) -> Tensor:
    """An image [C, H, W] moved to where it resembles another one most, by fractions of a pixel.

    The best shift is that of least squares where all shifts overlap, by splines of degree 5. In double precision.

    Args:
        image: what is moved.
        other: [C, H, W].
        reach: pixels that it may move, and that are not compared at each side.
    """
    from scipy.ndimage import shift, spline_filter
    from scipy.optimize import minimize

    inner = (slice(None), slice(reach, -reach), slice(reach, -reach))
    pixels, target = image.double().numpy(), other.double().numpy()[inner]
    splines = [spline_filter(channel, order=5) for channel in pixels]

    def moved(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([shift(s, at, order=5, prefilter=False, mode="nearest") for s in splines])

    def error(candidate: NDArray[np.float64]) -> float:
        return float(((candidate[inner] - target) ** 2).mean())

    whole = [(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]
    errors = [error(np.roll(pixels, at, (1, 2))) for at in whole]
    start, scale = np.array(whole[int(np.argmin(errors))], float), min(errors) + 1e-12
    best = minimize(
        lambda at: error(moved(start + at)) / scale, [0.0, 0.0], method="L-BFGS-B", options={"eps": 1e-3, "maxfun": 30}
    )
    return torch.from_numpy(moved(start + best.x))
