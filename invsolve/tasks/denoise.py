"""Denoising."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from invsolve.tasks.base import Size, Task

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import LinearOperator

__all__ = ["Denoise"]


@dataclass(frozen=True)
class Denoise(Task):
    """y = x + noise."""

    name = "denoise"
    simulated_noise = 0.1
    tuning = {"denoise": ((0.05, {}), (0.1, {}))}

    def operator(self, channels: int, size: Size) -> LinearOperator:
        from invsolve.operators import Denoising

        return Denoising((channels, *size))

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "noisy", y
