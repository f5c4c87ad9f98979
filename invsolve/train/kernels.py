"""Random blur kernels for training: camera shake, defocus, Gaussians, and sums of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAMILIES", "FRAME", "draw_kernel", "spread"]

Kernel = NDArray[np.float64]

FRAME = 35
"""Height and width of the kernels, in pixels."""

_SIZES, _SMALL, _SMALL_SHARE = (4.0, 35.0), 15.0, 0.2
"""Range of the extent in pixels; upper limit of small extents; share of small extents."""

_FAINT = 1e-3
"""Entries below this share of the largest entry are set to 0."""

_POINTS = 2000
_FINER = 7


def draw_kernel(rng: np.random.Generator, family: str | None = None) -> Kernel:
    """Draw a random kernel [35, 35]: at least 0, sums to one, its centre close to the centre of the array.

    Args:
        rng: the only source of randomness.
        family: a name in `FAMILIES`; drawn if None.
    """
    if family is None:
        family = str(rng.choice(list(FAMILIES), p=[share for share, _ in FAMILIES.values()]))
    kernel = FAMILIES[family][1](rng, _extent(rng))
    kernel = np.where(kernel < _FAINT * kernel.max(), 0.0, kernel)
    return kernel / kernel.sum()


def _extent(rng: np.random.Generator) -> float:
    return float(rng.uniform(_SIZES[0], _SMALL if rng.random() < _SMALL_SHARE else _SIZES[1]))


def _walk(rng: np.random.Generator) -> Kernel:
    """A path with inertia: its velocity is a damped random walk, half of the time with a few sudden pushes."""
    from scipy.signal import lfilter

    kept = 1 - 10 ** rng.uniform(-3, -0.7)
    pushes = rng.standard_normal((_POINTS, 2))
    if rng.random() < 0.5:
        pushes += 20 * rng.standard_normal((_POINTS, 2)) * (rng.random((_POINTS, 1)) < rng.uniform(0.001, 0.006))
    return np.asarray(lfilter([1.0], [1.0, -kept], pushes, axis=0)).cumsum(0)


def _corners(rng: np.random.Generator) -> Kernel:
    """A path of straight segments of random durations."""
    corners = rng.uniform(-1, 1, (int(rng.integers(2, 10)), 2))
    at = np.concatenate([[0.0], (rng.exponential(1, len(corners) - 1) + 0.05).cumsum()])
    times = np.linspace(0, at[-1], _POINTS)
    return np.stack([np.interp(times, at, corners[:, axis]) for axis in (0, 1)], 1)


def _curve(rng: np.random.Generator) -> Kernel:
    """A smooth curve through a few points, at varying speed."""
    from scipy.interpolate import CubicSpline

    points = rng.uniform(-1, 1, (int(rng.integers(3, 9)), 2))
    at = np.concatenate([[0.0], rng.uniform(0.3, 1, len(points) - 1).cumsum()])
    return np.asarray(CubicSpline(at, points)(np.linspace(0, at[-1], _POINTS)))


def _turning(rng: np.random.Generator) -> Kernel:
    """A path of constant speed whose direction is a Brownian motion: from nearly straight to curled up."""
    turns = rng.standard_normal(_POINTS) * 2 * math.pi * rng.uniform(0, 1.2) ** 1.5 / _POINTS**0.5
    heading = rng.uniform(0, 2 * math.pi) + turns.cumsum()
    return np.stack([np.sin(heading), np.cos(heading)], 1).cumsum(0)


_PATHS = (_walk, _corners, _curve, _turning)


def _shake(rng: np.random.Generator, extent: float) -> Kernel:
    """A path drawn into pixels, rounded to the nearest or bilinearly, and often slightly blurred."""
    from scipy.ndimage import gaussian_filter

    path = _PATHS[int(rng.integers(len(_PATHS)))](rng)
    path = path - (path.min(0) + path.max(0)) / 2
    reach = min(max(extent - 2, 1.0), FRAME - 3)
    path = path * (reach / max(float(np.ptp(path, 0).max()), 1e-9)) + (FRAME - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    if rng.random() < 0.25:
        kernel = np.zeros((FRAME, FRAME))
        np.add.at(kernel, tuple(path.round().astype(int).T), 1.0)
    else:
        kernel = spread(path, FRAME)
    if rng.random() < 0.4:
        kernel = gaussian_filter(kernel, rng.uniform(0.3, 1.2), mode="constant")
    return kernel / kernel.sum()


def spread(path: NDArray[np.float64], side: int) -> Kernel:
    """Sum the bilinear weights of points [P, 2] (row, column), from 0 to `side` - 1, into a kernel [side, side]."""
    kernel = np.zeros((side, side))
    corner = np.floor(path).astype(int)
    part = path - corner
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1])
            np.add.at(kernel, (corner[:, 0] + down, corner[:, 1] + right), share)
    return kernel


def _places(rng: np.random.Generator, finer: int) -> tuple[Kernel, Kernel]:
    """Return rows [n, 1] and columns [1, n] in pixels, relative to a centre that is randomly shifted by a subpixel."""
    at = (np.arange(FRAME * finer) + 0.5) / finer - FRAME / 2
    down, right = rng.uniform(-0.5, 0.5, 2)
    return (at - down)[:, None], (at - right)[None]


def _disc(rng: np.random.Generator, extent: float) -> Kernel:
    """A defocus disc, sometimes with a soft edge."""
    from scipy.ndimage import gaussian_filter

    rows, columns = _places(rng, _FINER)
    inside = (np.hypot(rows, columns) <= (extent - 1) / 2).astype(float)
    kernel = inside.reshape(FRAME, _FINER, FRAME, _FINER).mean((1, 3))
    if rng.random() < 0.4:
        kernel = gaussian_filter(kernel, rng.uniform(0.3, 1.2), mode="constant")
    return kernel / kernel.sum()


def _gaussian(rng: np.random.Generator, extent: float) -> Kernel:
    """A Gaussian, half of the time longer in one direction."""
    rows, columns = _places(rng, 1)
    wide = extent / 6 * rng.uniform(0.8, 1.3)
    narrow = wide * (1.0 if rng.random() < 0.5 else rng.uniform(0.3, 1))
    angle = rng.uniform(0, math.pi)
    along = math.cos(angle) * rows + math.sin(angle) * columns
    across = math.cos(angle) * columns - math.sin(angle) * rows
    kernel = np.exp(-0.5 * ((along / wide) ** 2 + (across / narrow) ** 2))
    return kernel / kernel.sum()


def _sum(rng: np.random.Generator, extent: float) -> Kernel:
    """A shake plus another kernel, as from two exposures of one scene or from a shake during a change of focus."""
    other = (_shake, _gaussian, _disc)[int(rng.choice(3, p=(0.5, 0.35, 0.15)))]
    share = rng.uniform(0.2, 0.8)
    return share * _shake(rng, extent) + (1 - share) * other(rng, extent * rng.uniform(0.4, 1))


FAMILIES: dict[str, tuple[float, Callable[[np.random.Generator, float], Kernel]]] = {
    "shake": (0.62, _shake),
    "disc": (0.11, _disc),
    "gaussian": (0.13, _gaussian),
    "sum": (0.14, _sum),
}
"""For each family: its share of the draws, and its function of the generator and the extent in pixels."""
