"""The combinations of blur, photograph and file format: a fixed design by seed, balanced and incomplete.

Each kind and size of blur is combined with four photographs, all formats and four noise levels. Each kind is combined
twice with each of the eight photographs, once with a moderately detailed crop and once with a very detailed one. The
runs are ordered so that the first runs, however many, are spread over kinds and sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from torch import Tensor

from benchmarks.blind.kernels import KINDS, Kernel, Kind
from benchmarks.photographs import photograph
from benchmarks.uncertainty.images import RANKS
from invsolve.tune.images import crop_of_rank, detailed_crops

__all__ = ["FORMATS", "MARGIN", "NAMES", "TOLD", "Run", "design", "kernel_of", "scenes"]

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "china", "flower", "camera", "stereo_motorcycle")
"""Photographs of scikit-image and scikit-learn that were not used for training or tuning."""

FORMATS = ("PNG", "JPEG 90", "JPEG 75")

TOLD = ("noise", "size")
"""Values that can be given: the standard deviation of the noise before the file is written, and the kernel size."""

LEAST_NOISE, MOST_NOISE = 0.003, 0.02

MARGIN = 17
"""Width in pixels of the border around the image that the largest kernel blurs into it."""


@dataclass(frozen=True)
class Run:
    """One file.

    Attributes:
        kind, size, replicate: kind, size and number of the kernel.
        photograph: 0 to 7.
        crop: 0 or 1.
        format: file format.
        noise: standard deviation of the noise, in [0, 1] units, before the file is written.
        photographs: "held out" or "tuning"; each has its own kernels.
        told: entries of `TOLD` that the program is given.
    """

    kind: str
    size: int
    replicate: int
    photograph: int
    crop: int
    format: str
    noise: float
    photographs: str
    told: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Options of `invsolve.restore` with the task "blind-deblur"."""
        told = {"noise": {"noise": self.noise}, "size": {"kernel_size": self.size}}
        return {name: value for what in self.told for name, value in told[what].items()}

    @property
    def name(self) -> str:
        """Stem of the file names."""
        return f"{self.kind}-{self.size}-{self.replicate}".replace(" ", "-")

    def generator(self, what: str) -> np.random.Generator:
        """The random generator of one part of the run."""
        return np.random.default_rng(crc32(f"benchmarks.blind {self.photographs} {self.name} {what}".encode()))


def design(photographs: str = "held out") -> list[Run]:
    """All runs on photographs "held out" or "tuning", in order."""
    rng = np.random.default_rng(crc32(f"benchmarks.blind {photographs} design".encode()))
    runs = [run for number, kind in enumerate(KINDS) for run in _of_kind(kind, number, photographs, rng)]
    places = rng.permutation(len(runs))
    return [runs[i] for i in sorted(range(len(runs)), key=lambda i: (runs[i].replicate, places[i]))]


def _of_kind(kind: Kind, number: int, photographs: str, rng: np.random.Generator) -> Iterator[Run]:
    """The runs of a kind: half of the photographs start with the first crop, half with the second."""
    groups, waiting = np.split(rng.permutation(len(NAMES)), 2), ([], [])
    for cell, size in enumerate(kind.sizes, number):
        levels = rng.permutation(kind.replicates)
        for k in range(kind.replicates):
            if not any(waiting):
                groups, waiting = groups[::-1], tuple(rng.permutation(group).tolist() for group in groups)
            crop, at = (cell + k) % 2, (levels[k] + rng.random()) / kind.replicates
            noise = round(float(LEAST_NOISE * (MOST_NOISE / LEAST_NOISE) ** at), 5)
            form = FORMATS[(cell + k) % len(FORMATS)]
            yield Run(kind.name, size, k, waiting[crop].pop(), crop, form, noise, photographs)


def kernel_of(run: Run) -> Kernel:
    """The kernel of a run, [size, size]."""
    kind = next(kind for kind in KINDS if kind.name == run.kind)
    return kind.draw(run.size, run.generator("kernel"))


def scenes(side: int, folder: Path | None = None) -> dict[tuple[int, int], tuple[str, Tensor]]:
    """Name and scene [3, side + 2 MARGIN, side + 2 MARGIN] in [0, 1] of each photograph and crop.

    Args:
        side: side of the image, which is the middle of the scene.
        folder: folder of tuning photographs, used instead of the held-out ones.
    """
    size, places = side + 2 * MARGIN, [(i, j) for j in range(len(RANKS)) for i in range(len(NAMES))]
    if folder is not None:
        crops = detailed_crops(folder, len(places), size)
        return {place: (f"tuning-{k}", crop) for k, (place, crop) in enumerate(zip(places, crops, strict=True))}
    return {(i, j): (NAMES[i], crop_of_rank(photograph(NAMES[i]), size, RANKS[j])) for i, j in places}
