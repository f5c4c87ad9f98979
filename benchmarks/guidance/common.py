"""What the experiments share: noise for big batches, tables, files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.core.rng import NoiseSource

__all__ = ["RESULTS", "SharedNoise", "markdown", "save", "spread"]

RESULTS = Path(__file__).parent / "results"


class SharedNoise(NoiseSource):
    """One stream for a whole batch: ten thousand two-dimensional samples have no use for a stream each."""

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


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds."""
    tensor = torch.tensor(list(values), dtype=torch.float64)
    if len(tensor) < 2:
        return f"{tensor.mean():.{digits}f}"
    return f"{tensor.mean():.{digits}f} ± {tensor.std():.{digits}f}"


def save(name: str, text: str, data: Any) -> None:
    """Write NAME.md and NAME.json among the results."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    print(text)
