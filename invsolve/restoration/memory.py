"""Split a restoration so that it stays within a memory budget."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from invsolve.core.checks import InputError
from invsolve.core.prior import Prior
from invsolve.priors.padded import fitted
from invsolve.priors.tiled import GRID, TiledPrior, extents

__all__ = ["Plan", "budget", "plan"]

FORWARD_BYTES = 1100
GRADIENT_BYTES = 3300
"""Bytes per pixel for one call of `natural` (measured on a CPU: 710 to 900 forward, 2160 to 2240 with its gradient) and
of `natural-deep` (660 to 1070, 2800 to 3230)."""

STATE_BYTES = 240
"""Bytes per pixel for the solver's state, data step and results: twenty copies of three channels."""

SHARE = 0.5
"""Share of the machine's (or GPU's) memory that is used if no budget is given."""

MIN_TILE, OVERLAP = 256, 128


@dataclass(frozen=True)
class Plan:
    """How a restoration is split.

    Attributes:
        microbatch: number of samples that run together.
        tile: largest side of the network's tiles; None if images are not tiled.
        max_pixels: maximum number of pixels in one network call, over all samples.
    """

    microbatch: int
    tile: int | None
    max_pixels: int

    def pixels(self, size: tuple[int, int]) -> int:
        """Return the number of pixels that the network processes for an image of `size`, including tile overlaps."""
        if self.tile is None:
            return size[0] * size[1]
        sides = [extents(length, self.tile, overlap_of(self.tile)) for length in size]
        rows, columns = (sum(stop - start for start, stop in spans) for spans in sides)
        return rows * columns

    def apply(self, prior: Prior, size: tuple[int, int]) -> Prior:
        """Return the prior with this plan's tiling; the prior itself if no tiling is needed.

        A prior with a fixed size, or a latent prior, chooses its tiles itself.
        """
        if prior.shape is not None or prior.latent:
            return fitted(prior, size)
        if self.tile is None and size[0] * size[1] * self.microbatch <= self.max_pixels:
            return prior
        tile = self.tile if self.tile is not None else max(2 * GRID, -(-max(size) // GRID) * GRID)
        return TiledPrior(prior, tile, overlap_of(tile), self.max_pixels)


def budget(memory: float | None, device: torch.device) -> int:
    """Return the bytes that may be used: `memory` in GiB, or half the memory of the machine or GPU.

    The result does not depend on the memory that other programs use, so that a restarted run is split in the same way.

    Raises:
        InputError: `memory` is not above 0.
    """
    if memory is not None:
        if not 0 < memory < float("inf"):
            raise InputError(f"memory must be above 0 GiB, got {memory}")
        return int(memory * 2**30)
    if device.type == "cuda":
        return int(SHARE * torch.cuda.get_device_properties(device).total_memory)
    return int(SHARE * min(_of_machine(), _container_limit()))


def _of_machine() -> int:
    """The machine's memory in bytes."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import ctypes  # Windows: MEMORYSTATUSEX, two 32-bit numbers and seven 64-bit numbers; bytes[0] is the memory

    class Status(ctypes.Structure):
        _fields_ = (("length", ctypes.c_uint32), ("load", ctypes.c_uint32), ("bytes", ctypes.c_uint64 * 7))

    status = Status(length=ctypes.sizeof(Status))
    found = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # pyright: ignore[reportAttributeAccessIssue]
    return int(status.bytes[0]) if found else 8 * 2**30


def _container_limit() -> int:
    """The memory limit of the process's control group, if there is one (Linux)."""
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(name)
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            return int(text)
    return 2**62


def plan(size: tuple[int, int], samples: int, *, gradient: bool, available: int, tile: int | None = None) -> Plan:
    """Plan how to split a restoration of images of `size`.

    Args:
        size: (height, width) of the restored image.
        samples: number of samples to draw.
        gradient: whether the solver differentiates the network.
        available: available bytes, see `budget`.
        tile: side of the tiles; chosen automatically if not given.

    Raises:
        InputError: the image does not fit into the budget, however it is split; or tiles of an impossible side.
    """
    if tile is not None and (tile < 2 * GRID or tile % GRID):
        raise InputError(f"tile must be a multiple of {GRID} and at least {2 * GRID} pixels, got {tile}")
    pixels = size[0] * size[1]
    state, each = STATE_BYTES * pixels, GRADIENT_BYTES if gradient else FORWARD_BYTES
    smallest = min(MIN_TILE**2, pixels)
    needed = state + each * smallest
    if needed > available:
        raise InputError(
            f"an image of {size[1]} x {size[0]} pixels needs about {needed / 2**30:.1f} GiB, more than the "
            f"{available / 2**30:.1f} GiB that may be used: cut it into parts or allow more with --memory"
        )
    microbatch = max(1, min(samples, int(0.5 * available) // state))
    max_pixels = max(smallest, (available - microbatch * state) // each)
    if tile is not None:
        return Plan(microbatch, tile, min(max_pixels, max(tile**2, smallest)))
    if pixels <= max_pixels:
        return Plan(microbatch, None, max_pixels)
    side = max(MIN_TILE, int(max_pixels**0.5) // GRID * GRID)
    return Plan(microbatch, side, max_pixels)


def overlap_of(tile: int) -> int:
    """The overlap of tiles: 128 pixels, or half the tile side if that is less."""
    return max(GRID, min(OVERLAP, tile // 2 // GRID * GRID))
