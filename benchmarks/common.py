"""What several benchmarks share: noise for big batches, and tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.core.rng import NoiseSource

__all__ = ["SharedNoise", "markdown"]


class SharedNoise(NoiseSource):
    """One generator for the whole batch: `Rng`'s stream a sample costs more than solvers do on small problems."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator, dtype=like.dtype)

    def uniform(self, like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=self._generator, dtype=like.dtype)

    def poisson(self, rate: Tensor) -> Tensor:
        return torch.poisson(rate, generator=self._generator)

    def state(self) -> Tensor:
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        self._generator.set_state(state)


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"
