"""Random numbers: one stream for each sample.

Row i of every draw comes from its own generator, seeded by hash(seed, item, sample). A sample therefore gets the same
noise in every batch, however the batch is split, and after a resume. The global generator is neither read nor seeded.
Numbers are drawn in float32 on the CPU and then moved, so that devices and precisions share their noise. A row may
mirror another: it uses the same stream with normal draws z as -z and uniform ones u as 1 - u, which have the same
distribution (antithetic variates, Hammersley and Morton 1956).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

import torch
from torch import Tensor

from invsolve.core.checks import InputError, whole_seed

__all__ = ["Ahead", "NoiseSource", "Rng", "normal_like"]

Key = tuple[Hashable, int]  # (item, sample)


class NoiseSource(ABC):
    """The random draws of a solver: whole batches, one row for each sample."""

    @abstractmethod
    def normal(self, like: Tensor) -> Tensor:
        """Standard normal draws of the shape, dtype and device of `like` ([N, ...])."""

    @abstractmethod
    def uniform(self, like: Tensor) -> Tensor:
        """Uniform draws on [0, 1), otherwise like `normal`."""

    @abstractmethod
    def poisson(self, rate: Tensor) -> Tensor:
        """Poisson counts with the given rates ([N, ...], at least 0)."""

    @abstractmethod
    def state(self) -> Tensor:
        """The state of the streams, with which they can be continued: a uint8 tensor."""

    @abstractmethod
    def restore(self, state: Tensor) -> None:
        """Continue from what `state` returned."""


def normal_like(rng: NoiseSource, like: Tensor) -> Tensor:
    """Draws of `rng.normal`; for a complex `like`, real and imaginary parts are drawn independently."""
    return torch.view_as_complex(rng.normal(torch.view_as_real(like))) if like.is_complex() else rng.normal(like)


class Rng(NoiseSource):
    """The random streams of a batch.

    Args:
        seed: any integer, including 0.
        keys: (item, sample) of each row. Without it, row i has the key (i, 0), for any number of rows.
        mirrored: which rows are mirrored, one entry for each key; none if not given.
    """

    def __init__(
        self, seed: int = 0, keys: Sequence[Key] | None = None, *, mirrored: Sequence[bool] | None = None
    ) -> None:
        self.seed = whole_seed(seed)
        self._fixed = keys is not None
        self._mirrored = [i for i, mirror in enumerate(mirrored or ()) if mirror]
        self._generators = [self._generator(key) for key in keys or ()]

    def _generator(self, key: Key) -> torch.Generator:
        digest = hashlib.blake2b(repr((self.seed, *key)).encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)

    def _rows(self, n: int) -> list[torch.Generator]:
        if self._fixed and n != len(self._generators):
            raise InputError(
                f"this Rng has {len(self._generators)} streams, one per sample, but {n} rows were requested"
            )
        while len(self._generators) < n:
            self._generators.append(self._generator((len(self._generators), 0)))
        return self._generators[:n]

    def normal(self, like: Tensor) -> Tensor:
        out = self.drawn(like.shape)
        return out if like.dtype == torch.float32 and like.is_cpu else out.to(device=like.device, dtype=like.dtype)

    def drawn(self, shape: Sequence[int], *, pinned: bool = False) -> Tensor:
        """Standard normal draws in float32 on the CPU; if `pinned`, in memory that a GPU can copy asynchronously."""
        generators = self._rows(shape[0])
        if len(generators) == 1:
            out = torch.randn(shape, generator=generators[0], dtype=torch.float32, device="cpu", pin_memory=pinned)
        else:
            out = torch.empty(shape, dtype=torch.float32, device="cpu", pin_memory=pinned)
            for row, generator in zip(out.unbind(), generators, strict=True):
                row.normal_(generator=generator)
        if self._mirrored:
            out[self._mirrored] *= -1.0
        return out

    def uniform(self, like: Tensor) -> Tensor:
        out = torch.empty(like.shape, dtype=torch.float32, device="cpu")
        for row, generator in zip(out, self._rows(len(like)), strict=True):
            row.uniform_(generator=generator)
        if self._mirrored:
            out[self._mirrored] = (1.0 - 2.0**-24) - out[self._mirrored]
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


class _Begun(NamedTuple):
    """A draw in progress in a thread: its shape, the streams before it, and its future result."""

    shape: tuple[int, ...]
    before: Tensor
    numbers: Future[Tensor]


class Ahead(NoiseSource):
    """The streams of an `Rng`, bit for bit, with the next draw made by a thread while a GPU computes.

    Most steps draw the same as the step before: normal numbers of one shape. If a step draws something else, the
    streams are reset to where they were. Use it as a context manager, which ends the thread.

    Args:
        rng: the streams; nothing else may draw from them meanwhile.
        pinned: whether numbers are kept in memory that a GPU can copy while Python continues.
    """

    def __init__(self, rng: Rng, *, pinned: bool = True) -> None:
        self._rng, self._pinned = rng, pinned
        self._thread = ThreadPoolExecutor(1)
        self._begun: _Begun | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *parts: object) -> None:
        self._back()
        self._thread.shutdown()

    def normal(self, like: Tensor) -> Tensor:
        shape = tuple(like.shape)
        if self._begun is not None and self._begun.shape == shape:
            numbers = self._begun.numbers.result()
        else:
            self._back()
            numbers = self._rng.drawn(shape, pinned=self._pinned)
        before = self._rng.state()
        self._begun = _Begun(shape, before, self._thread.submit(self._rng.drawn, shape, pinned=self._pinned))
        return numbers.to(like.device, non_blocking=self._pinned).to(like.dtype)

    def uniform(self, like: Tensor) -> Tensor:
        self._back()
        return self._rng.uniform(like)

    def poisson(self, rate: Tensor) -> Tensor:
        self._back()
        return self._rng.poisson(rate)

    def state(self) -> Tensor:
        return self._rng.state() if self._begun is None else self._begun.before

    def restore(self, state: Tensor) -> None:
        self._back()
        self._rng.restore(state)

    def _back(self) -> None:
        """Undo the draw in progress."""
        if self._begun is not None:
            self._begun.numbers.result()
            self._rng.restore(self._begun.before)
            self._begun = None
