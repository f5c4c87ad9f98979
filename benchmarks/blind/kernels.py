"""Kinds of blurs, drawn by seed: kernels [size, size] in float64 that are at least 0 and sum to one.

`size` is odd; it is the longest side of the kernel's support, in pixels. The shorter side follows from the draw. A
kernel lies in the middle of its frame. The seeds come from `benchmarks.blind.design` and are used only in this
benchmark: training and tuning draw their own kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from invsolve.core.rng import Rng
from invsolve.operators import camera_shake_kernel, gaussian_kernel
from invsolve.train.kernels import spread

__all__ = ["KINDS", "SIZES", "Kernel", "Kind"]

Kernel = NDArray[np.float64]

SIZES = (9, 15, 25, 35)

LEAST = 0.8
"""The longest side of a trace is at least this share of `size`."""

VISIBLE = 1e-3
"""Share of the largest entry from which an entry counts as part of the trace."""


@dataclass(frozen=True)
class Kind:
    """A kind of blurs.

    Attributes:
        name: name of the row.
        draw: draws a kernel of a size.
        sizes: sizes that are drawn.
        replicates: number of kernels of each size.
    """

    name: str
    draw: Callable[[int, np.random.Generator], Kernel]
    sizes: tuple[int, ...] = SIZES
    replicates: int = 4


def smooth_shake(size: int, rng: np.random.Generator) -> Kernel:
    """A hand that moves at constant speed and turns slowly."""
    return _fitting(lambda: _shake(1.3 * size, 0.3, rng), size)


def jagged_shake(size: int, rng: np.random.Generator) -> Kernel:
    """Straight strokes with sudden turns, each at its own speed."""

    def draw() -> Kernel:
        corners = rng.uniform(0, size - 1.0, (int(rng.integers(5, 10)), 2))
        durations = rng.uniform(0.3, 1.7, len(corners) - 1)
        at = np.concatenate([[0.0], durations.cumsum()])
        times = np.linspace(0, at[-1], 40 * size)
        path = np.stack([np.interp(times, at, corners[:, axis]) for axis in (0, 1)], 1)
        return spread(path, math.ceil(path.max()) + 2)

    return _fitting(draw, size)


def thin_trace(size: int, rng: np.random.Generator) -> Kernel:
    """A drifting hand: a twice integrated random walk, counted in the pixels that it visits, without smoothing."""
    path = rng.standard_normal((400, 2)).cumsum(0).cumsum(0)
    path = (path - path.min(0)) / np.ptp(path, 0) * (size - 2) + 0.5
    kernel = np.zeros((size, size))
    np.add.at(kernel, tuple(path.astype(int).T), 1)
    return _framed(kernel, size)


def deepinv_motion(size: int, rng: np.random.Generator) -> Kernel:
    """deepinv's `MotionBlurGenerator` with its default settings; its traces fill about 0.4 of their frame."""
    from deepinv.physics.generator import MotionBlurGenerator

    def draw() -> Kernel:
        frame = round(float(rng.uniform(2, 3)) * size) // 2 * 2 + 1
        generator = MotionBlurGenerator((frame, frame), rng=torch.Generator())
        drawn = generator.step(1, seed=int(rng.integers(1 << 31)))["filter"]
        return drawn[0, 0].double().numpy()

    return _fitting(draw, size)


def two_blurs(size: int, rng: np.random.Generator) -> Kernel:
    """The sum of a shake and a second shake or a Gaussian, as in two exposures of one scene."""
    share = rng.uniform(0.3, 0.7)
    first = smooth_shake(size, rng)
    if rng.random() < 0.5:
        smaller = max(size // 2 // 2 * 2 + 1, 5)
        second = _framed(smooth_shake(smaller, rng), size)
        reach = (size - smaller) // 2
        down, right = rng.integers(-reach, reach + 1, 2)
        second = np.roll(second, (int(down), int(right)), (0, 1))
    else:
        second = gaussian(size, rng)
    return share * first + (1 - share) * second


def disc(size: int, rng: np.random.Generator) -> Kernel:
    """A lens that is out of focus: an antialiased disc with a diameter of `size` or a little less."""
    radius, finer = size / 2 * rng.uniform(0.9, 1), 9
    at = (np.arange(size * finer) + 0.5) / finer - size / 2
    inside = (np.hypot(at[:, None], at[None]) <= radius).astype(float)
    kernel = inside.reshape(size, finer, size, finer).mean((1, 3))
    return kernel / kernel.sum()


def gaussian(size: int, rng: np.random.Generator) -> Kernel:
    """A Gaussian whose frame ends at three standard deviations."""
    return gaussian_kernel(size / 6, size // 2).double().numpy()


def gaussian_of_two(size: int, rng: np.random.Generator) -> Kernel:
    """A Gaussian with a standard deviation of 2 pixels."""
    return gaussian_kernel(2.0, size // 2).double().numpy()


def _shake(length: float, intensity: float, rng: np.random.Generator) -> Kernel:
    return camera_shake_kernel(length, intensity, Rng(int(rng.integers(1 << 31)))).double().numpy()


def _fitting(draw: Callable[[], Kernel], size: int) -> Kernel:
    """The first draw whose longest side is `size` or a little less, in the middle of its frame."""
    while True:
        kernel = draw()
        seen = kernel > VISIBLE * kernel.max()
        if LEAST * size <= max(_extent(seen, 0), _extent(seen, 1)) <= size:
            return _framed(np.where(seen, kernel, 0.0), size)


def _extent(seen: NDArray[np.bool_], axis: int) -> int:
    at = np.flatnonzero(seen.any(1 - axis))
    return int(at[-1] - at[0] + 1)


def _framed(kernel: Kernel, size: int) -> Kernel:
    """The nonzero part of a kernel, centred in a frame of `size`; sums to one."""
    rows, columns = (np.flatnonzero(kernel.any(1 - axis)) for axis in (0, 1))
    trace = kernel[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    frame = np.zeros((size, size))
    top, left = ((size - length) // 2 for length in trace.shape)
    frame[top : top + trace.shape[0], left : left + trace.shape[1]] = trace
    return frame / frame.sum()


KINDS = (
    Kind("smooth shake", smooth_shake),
    Kind("jagged shake", jagged_shake),
    Kind("thin trace", thin_trace),
    Kind("deepinv motion", deepinv_motion),
    Kind("two blurs", two_blurs),
    Kind("disc", disc),
    Kind("Gaussian", gaussian),
    Kind("Gaussian of 2 pixels", gaussian_of_two, (13,), 8),
)
"""The rows of the table."""
