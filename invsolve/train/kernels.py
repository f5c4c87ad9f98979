"""Train the denoiser of blur kernels that blind deblurring uses.

Kernels are drawn, not read: traces of shaking and moving cameras, smooth and jagged, out-of-focus discs and polygons,
Gaussians, and what two of these make together. A kernel in the middle of a frame is divided by its largest entry and
scaled at random, as the largest entry of an estimate is not that of the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invsolve.priors.networks.unet_config import DenoiserConfig
from invsolve.train.noise import NoiseLaw
from invsolve.train.settings import DenoiserTraining, KernelTraining

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["FAMILIES", "KernelSet", "draw_kernel", "train_kernels"]

FRAME = 40
"""Side of the frame on which kernels are drawn in training, in pixels: a multiple of what the network pads to."""

REACH = (3.5, 37.0)
"""Least and largest extent of a trace in pixels."""

NETWORK = DenoiserConfig(image_channels=1, channels=(24, 32, 48), blocks=(2, 2, 2), embedding=48, sigma_data=0.1)
LAW = NoiseLaw(narrow=(-2.0, 1.0), wide_share=0.1)
HELD_OUT, HELD_OUT_SEED = 256, 20240501

_FINE = 5
_POINTS, _DENSE = 600, 1200

Array = NDArray[np.float64]


def _walk(rng: Generator) -> Array:
    """A path whose heading is a Brownian motion, from nearly straight to curled up."""
    count = _POINTS
    turns = rng.standard_normal(count) * (2 * math.pi * rng.uniform(0, 1.2) ** 1.5 / count**0.5)
    heading = rng.uniform(0, 2 * math.pi) + turns.cumsum()
    return np.stack([np.sin(heading), np.cos(heading)], 1).cumsum(0)


def _inert(rng: Generator) -> Array:
    """A path whose velocity is a random walk, or one that is pulled back: a hand that shakes."""
    from scipy.signal import lfilter

    kept = 1 - 10 ** rng.uniform(-3.5, -1)
    velocity = lfilter([1.0], [1.0, -kept], rng.standard_normal((_POINTS, 2)), axis=0)
    return np.asarray(velocity).cumsum(0)


def _spline(rng: Generator) -> Array:
    """A smooth curve through few points, at a changing speed."""
    from scipy.interpolate import CubicSpline

    knots = int(rng.integers(3, 8))
    points = rng.standard_normal((knots, 2))
    at = np.concatenate([[0.0], rng.uniform(0.3, 1, knots - 1).cumsum()])
    return CubicSpline(at, points)(np.linspace(0, at[-1], _POINTS))


def _jagged(rng: Generator) -> Array:
    """Straight pieces, on each of which the camera stays for a time of its own."""
    corners = int(rng.integers(2, 9))
    points = rng.standard_normal((corners, 2)).cumsum(0)
    at = np.concatenate([[0.0], rng.uniform(0.1, 1, corners - 1).cumsum()])
    t = np.linspace(0, at[-1], _POINTS)
    return np.stack([np.interp(t, at, points[:, i]) for i in (0, 1)], 1)


def _stationary(rng: Generator) -> Array:
    """Rows and columns are Gaussian processes with a Matern covariance (Schuler et al. 2015, "Learning to deblur")."""
    t = np.linspace(-math.pi, math.pi, _POINTS)
    part = math.sqrt(5) * np.abs(t) / rng.uniform(0.1, 0.6)
    power = np.abs(np.fft.rfft((1 + part + part**2 / 3) * np.exp(-part)))
    noise = rng.standard_normal((2, _POINTS))
    return np.fft.irfft(np.fft.rfft(noise) * np.sqrt(power), _POINTS)[:, : int(_POINTS / (2 * math.pi))].T


def _line(rng: Generator) -> Array:
    angle = rng.uniform(0, math.pi)
    return np.linspace(-1, 1, _POINTS)[:, None] * np.array([[math.sin(angle), math.cos(angle)]])


_PATHS = (_walk, _inert, _inert, _spline, _jagged, _stationary, _line)


def _trace(rng: Generator, side: int) -> Array:
    """A path on a frame: spread bilinearly over the pixels, or counted in them."""
    path = _PATHS[int(rng.integers(len(_PATHS)))](rng)
    path = path - (path.min(0) + path.max(0)) / 2
    low, high = (math.log(v) for v in REACH)
    reach = min(math.exp(rng.uniform(low, high)), side - 3)
    path = path * (reach / max(float(np.ptp(path, 0).max()), 1e-9)) + (side - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    at = np.linspace(0, len(path) - 1, _DENSE)
    dense = np.stack([np.interp(at, np.arange(len(path)), path[:, i]) for i in (0, 1)], 1)
    if rng.random() < 0.3:
        rows, columns = dense.round().astype(int).T
        return np.bincount(rows * side + columns, minlength=side * side).reshape(side, side).astype(float)
    corner = np.floor(dense).astype(int)
    shift, kernel = dense - corner, np.zeros(side * side)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - shift[:, 0]) * np.abs(1 - right - shift[:, 1])
            at_pixel = (corner[:, 0] + down) * side + corner[:, 1] + right
            kernel += np.bincount(at_pixel, share, side * side)
    return kernel.reshape(side, side)


def _grid(rng: Generator, side: int, fine: int = 1) -> tuple[Array, Array]:
    """Rows and columns about the middle moved by up to half a pixel, in pixels; `fine` samples a pixel."""
    at = (np.arange(side * fine) + 0.5) / fine - side / 2
    down, right = rng.uniform(-0.5, 0.5, 2)
    return (at - down)[:, None], (at - right)[None]


def _gaussian(rng: Generator, side: int) -> Array:
    rows, columns = _grid(rng, side)
    wide = math.exp(rng.uniform(math.log(0.4), math.log(5.0)))
    narrow = wide * (1.0 if rng.random() < 0.5 else rng.uniform(0.2, 1))
    angle = rng.uniform(0, math.pi)
    along = math.cos(angle) * rows + math.sin(angle) * columns
    across = math.cos(angle) * columns - math.sin(angle) * rows
    return np.exp(-0.5 * ((along / wide) ** 2 + (across / narrow) ** 2))


def _aperture(rng: Generator, side: int) -> Array:
    """A disc or a regular polygon, as large as a blade's opening, its border as fine as a fifth of a pixel."""
    rows, columns = _grid(rng, side, _FINE)
    radius = math.exp(rng.uniform(math.log(0.8), math.log(0.35 * side)))
    inside = np.hypot(rows, columns) < radius
    if rng.random() < 0.4:
        blades, turn = int(rng.integers(5, 9)), rng.uniform(0, 2 * math.pi)
        for k in range(blades):
            angle = turn + 2 * math.pi * k / blades
            inside &= math.cos(angle) * rows + math.sin(angle) * columns < radius * math.cos(math.pi / blades)
    return inside.reshape(side, _FINE, side, _FINE).mean((1, 3))


def _smoothed(rng: Generator, side: int) -> Array:
    """A trace through a lens that is not quite in focus."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(_trace(rng, side), rng.uniform(0.3, 1.5), mode="constant")


def _sum(rng: Generator, side: int) -> Array:
    parts = [FAMILIES[name](rng, side) for name in rng.choice(["trace", "smoothed", "gaussian", "aperture"], 2)]
    share = rng.uniform(0.1, 0.9)
    return share * parts[0] / parts[0].sum() + (1 - share) * parts[1] / parts[1].sum()


FAMILIES: dict[str, Callable[[Generator, int], Array]] = {
    "trace": _trace,
    "smoothed": _smoothed,
    "gaussian": _gaussian,
    "aperture": _aperture,
    "sum": _sum,
}
_SHARES = (0.5, 0.2, 0.12, 0.1, 0.08)


def draw_kernel(rng: Generator, side: int = FRAME, family: str | None = None) -> Array:
    """A random blur kernel [side, side], at least 0, sums to one.

    Args:
        rng: the only source of randomness.
        side: of its frame in pixels.
        family: a name of `FAMILIES`; drawn if None.
    """
    name = str(rng.choice(list(FAMILIES), p=_SHARES)) if family is None else family
    kernel = FAMILIES[name](rng, side)
    return kernel / kernel.sum()


class KernelSet:
    """Kernels as images [n, 1, s, s], their largest entry near 1."""

    def draw(self, n: int, size: int, rng: Generator) -> tuple[Tensor, None]:
        """`n` kernels on frames of `size`, a function of the generator only."""
        kernels = np.stack([draw_kernel(rng, size) for _ in range(n)])
        scale = np.exp(rng.uniform(math.log(0.6), math.log(1.2), n)) / kernels.max((1, 2))
        return torch.from_numpy((kernels * scale[:, None, None]).astype(np.float32))[:, None], None


def train_kernels(config: KernelTraining) -> None:
    """Train and write the denoiser of kernels; interrupted runs are resumed bit for bit where planned by `steps`.

    Raises:
        InputError: `out` exists and neither `resume` nor `overwrite` is set, or there is nothing to resume.
    """
    from invsolve.train.denoiser import train_drawn

    full = DenoiserTraining(
        images=config.out.parent, out=config.out, hours=config.minutes / 60, steps=config.steps, resume=config.resume,
        overwrite=config.overwrite, network=NETWORK, batch=config.batch, crop=FRAME, noise=LAW, checkpoint_minutes=2.0,
        workers=1, seed=config.seed,
    )  # fmt: skip
    rng = np.random.default_rng(HELD_OUT_SEED)
    train_drawn(full, KernelSet(), KernelSet().draw(HELD_OUT, FRAME, rng)[0], rng)
