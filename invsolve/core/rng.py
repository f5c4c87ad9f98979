"""Random numbers: one stream a sample.

Row i of every draw comes from a generator of its own, seeded by hash(seed, item, sample). A sample therefore sees the
same noise whatever it is batched with, however the batch is cut, and after a resume. The global generator is neither
read nor seeded. Numbers are drawn in float32 on the CPU and then moved, so devices and precisions share their noise.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from invsolve.core.checks import InputError, whole_seed

__all__ = ["NoiseSource", "Rng"]

Key = tuple[Hashable, int]  # (item, sample)


class NoiseSource(ABC):
    """What a solver may draw: whole batches, one row a sample."""

    @abstractmethod
    def normal(self, like: Tensor) -> Tensor:
        """Standard normal draws of the shape, dtype and device of `like` ([N, ...])."""

    @abstractmethod
    def uniform(self, like: Tensor) -> Tensor:
        """Uniform draws on [0, 1), otherwise as `normal`."""

    @abstractmethod
    def poisson(self, rate: Tensor) -> Tensor:
        """Poisson counts with the given rates ([N, ...], at least 0)."""

    @abstractmethod
    def state(self) -> Tensor:
        """All that is needed to continue the streams: a uint8 tensor."""

    @abstractmethod
    def restore(self, state: Tensor) -> None:
        """Continue from what `state` returned."""


class Rng(NoiseSource):
    """The streams of a batch.

    Args:
        seed: any integer; 0 is a seed like every other.
        keys: (item, sample) of each row. Without it row i has the key (i, 0), for as many rows as are asked for.
    """

    def __init__(self, seed: int = 0, keys: Sequence[Key] | None = None) -> None:
        self.seed = whole_seed(seed)
        self._fixed = keys is not None
        self._generators = [self._generator(key) for key in keys or ()]

    def _generator(self, key: Key) -> torch.Generator:
        digest = hashlib.blake2b(repr((self.seed, *key)).encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)

    def _rows(self, n: int) -> list[torch.Generator]:
        if self._fixed and n != len(self._generators):
            raise InputError(f"this Rng has {len(self._generators)} streams, one a sample; {n} rows were asked for")
        while len(self._generators) < n:
            self._generators.append(self._generator((len(self._generators), 0)))
        return self._generators[:n]

    def normal(self, like: Tensor) -> Tensor:
        out = torch.empty(like.shape, dtype=torch.float32)
        generators = self._rows(like.shape[0])
        for row, generator in zip(out.unbind() if len(generators) > 1 else (out,), generators, strict=True):
            row.normal_(generator=generator)
        return out.to(device=like.device, dtype=like.dtype)

    def uniform(self, like: Tensor) -> Tensor:
        out = torch.empty(like.shape, dtype=torch.float32)
        for row, generator in zip(out, self._rows(len(like)), strict=True):
            row.uniform_(generator=generator)
        return out.to(device=like.device, dtype=like.dtype)

    def poisson(self, rate: Tensor) -> Tensor:
        rows = rate.detach().cpu()
        draws = [torch.poisson(row, generator=g) for row, g in zip(rows, self._rows(len(rows)), strict=True)]
        return torch.stack(draws).to(device=rate.device, dtype=rate.dtype)

    def state(self) -> Tensor:
        if not self._generators:
            return torch.empty(0, 0, dtype=torch.uint8)
        return torch.stack([g.get_state() for g in self._generators])

    def restore(self, state: Tensor) -> None:
        for generator, row in zip(self._rows(len(state)), state, strict=True):
            generator.set_state(row.clone())
