"""Cases for the calibration of blind deblurring: photographs with blurs that the program must estimate.

The measured results are those that a user gets: `restore` is given only the noise level. Images that it returns
unchanged, because no blur was found, have no intervals and are left out.
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
"""Largest shift, in pixels, between a restored image and the ground truth: a blurred image does not determine it."""

LEAST_SIDE = 3 * KERNEL_SIZE + FRAME - 1
"""Smallest side of the photographs, in pixels, for which kernels of the usual size are searched."""


def check_sides(images: Tensor) -> None:
    """Raise `InputError` unless images [..., H, W] have sides of at least `LEAST_SIDE`."""
    if min(images.shape[-2:]) < LEAST_SIDE:
        raise InputError(f"an unknown blur is calibrated on images of at least {LEAST_SIDE} pixels: give --size")


def blurred_photograph(image: Tensor, noise: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Blur a photograph [3, H, W] with a random kernel; return the 8-bit measurement, its ground truth and the kernel.

    Args:
        image: in [0, 1]; its ground truth (the visible part) is 34 pixels smaller.
        noise: standard deviation of the noise.
        seed: seed of the noise and of the kernel, which is drawn as for training (`invsolve.train.kernels`).
    """
    kernel = torch.from_numpy(draw_kernel(np.random.default_rng((seed, 11))))
    y, clean = Deblur(kernel).degrade(image)
    noisy = y + noise * Rng(seed, [("noise", 0)]).normal(y[None])[0]  # not the stream of a sampler with this seed
    return (noisy.clamp(0, 1) * 255).round() / 255, clean, kernel


def found_blur(image: Tensor, noise: float, seed: int, **options: Any) -> Case | None:
    """Blur and restore one photograph; the truth is shifted to fit best, and `REACH` pixels at each side are cut off.

    Args:
        image: [3, H, W] in [0, 1], see `check_sides`.
        noise: standard deviation of the noise.
        seed: seed of everything random.
        options: options of `restore`: prior, samples, solver and settings.

    Returns:
        The case; None if no blur is found.
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
    """Shift an image [C, H, W], by fractions of a pixel, to where it is most similar to another image.

    The best shift minimises the squared error over the area where all shifts overlap, with splines of degree 5 and in
    double precision.

    Args:
        image: the image to shift.
        other: [C, H, W].
        reach: the largest shift in pixels; as many pixels at each side are not compared.
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
