"""Denoising."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from invsolve.tasks.base import Size, Streams, Task

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import LinearOperator
    from invsolve.io import Image
    from invsolve.io.jpeg import JPEGTables
    from invsolve.noise.estimated import NoiseEstimate

__all__ = ["Denoise"]


@dataclass(frozen=True)
class Denoise(Task):
    """y = x + noise.

    Args:
        tables: tables of the JPEG file that the image was read from. If the file shows no noise, the result stays
            within a part of its quantisation cells.
    """

    tables: JPEGTables | None = None

    name = "denoise"
    cautious = True
    simulated_noise = 0.1
    tuning = {"denoise": ((0.05, {}), (0.1, {}))}

    @classmethod
    def from_options(cls, options: Self, image: Image, simulation: Streams | None) -> Self:
        return options if simulation is not None or image.jpeg is None else replace(options, tables=image.jpeg)

    def consistent(self, x: Tensor, y: Tensor, noise: NoiseEstimate) -> Tensor:
        from invsolve.tasks.jpeg_cells import within_cells

        if self.tables is None or (noise.shown and noise.sure):
            return x
        return within_cells(x, y, self.tables, 0.5 if noise.shown else None)

    def operator(self, channels: int, size: Size) -> LinearOperator:
        from invsolve.operators import Denoising

        return Denoising((channels, *size))

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "noisy", y
