"""Replay of recorded random draws: run a solver on the draws of another implementation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.rng import NoiseSource

__all__ = ["ReplayRng"]


class ReplayRng(NoiseSource):
    """Return recorded draws in order, a whole batch at a time.

    A draw with the requested number of entries is reshaped, and converted to the requested precision and device.
    Normal, uniform and Poisson draws are taken from the same list. Samples cannot be split into microbatches.

    Args:
        draws: one tensor [N, ...] for each draw that the solver makes.

    Raises:
        InputError: on a draw, if the list is exhausted or the next entry has another size.
    """

    def __init__(self, draws: Iterable[Tensor]) -> None:
        self.draws = [torch.as_tensor(draw) for draw in draws]
        self.used = 0

    @property
    def left(self) -> int:
        """How many draws have not been used yet."""
        return len(self.draws) - self.used

    def normal(self, like: Tensor) -> Tensor:
        return self._next(like, "normal")

    def uniform(self, like: Tensor) -> Tensor:
        return self._next(like, "uniform")

    def poisson(self, rate: Tensor) -> Tensor:
        return self._next(rate, "poisson")

    def state(self) -> Tensor:
        return torch.tensor([self.used], dtype=torch.int64).view(torch.uint8)

    def restore(self, state: Tensor) -> None:
        self.used = int(state.cpu().contiguous().view(torch.int64)[0])

    def _next(self, like: Tensor, kind: str) -> Tensor:
        if not self.left:
            raise InputError(
                f"all {len(self.draws)} recorded draws are used up and a {kind} draw of shape {list(like.shape)} is "
                "asked for: record more, or compare fewer steps"
            )
        draw = self.draws[self.used]
        if draw.numel() != like.numel():
            raise InputError(
                f"recorded draw {self.used} has shape {list(draw.shape)}, a {kind} draw of shape {list(like.shape)} "
                "is asked for: the two solvers draw in another order or size"
            )
        self.used += 1
        return draw.to(device=like.device, dtype=like.dtype, copy=True).reshape(like.shape)
