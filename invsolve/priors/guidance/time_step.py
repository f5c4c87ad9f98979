"""Time-step guidance: a network guided by itself with a perturbed time embedding.

Sadat et al. 2024, arXiv 2407.02687 (independent condition and time-step guidance). It needs no label and no training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.core.checks import InputError, check_positive
from invsolve.core.counting import Calls
from invsolve.core.prior import Prediction, Prior
from invsolve.priors.guidance.combinations import Combination, GuidedPrior
from invsolve.priors.guidance.pairs import Pair, halves
from invsolve.priors.guidance.weights import Weight, as_weight

__all__ = ["TimeStepPair", "time_guided"]


@dataclass(frozen=True, eq=False)
class TimeStepPair(Pair):
    """The prediction with the time embedding e_t, and the prediction with e_t + scale t^power std(e_t) n.

    n is one fixed direction with standard normal entries, the same for every sample and time, so a sample does not
    depend on its batch (published: a new draw for each). Outside the window the two predictions are equal.

    Args:
        leading: the prior.
        embedding: the module inside its network that computes e_t, [rows, width].
        scale, power: scale of the perturbation and power of t in it.
        window: times (low, high) between which e_t is perturbed.
        seed: random seed of n.
    """

    leading: Prior
    embedding: nn.Module
    scale: float = 2.0
    power: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(self.scale, "the perturbation's scale", zero=True)
        if not 0 <= self.window[0] <= self.window[1] <= 1:
            raise InputError(f"window must be (low, high), 0 <= low <= high <= 1, got {self.window}")

    def first(self, x_t: Tensor, t: float) -> Prediction:
        return self.leading.predict(x_t, t)

    def second(self, x_t: Tensor, t: float) -> Prediction:
        with self._perturbed(t, 0, len(x_t)):
            return self.leading.predict(x_t, t)

    def both(self, x_t: Tensor, t: float) -> tuple[Prediction, Prediction]:
        n = len(x_t)
        twice = self.leading if self.leading.items is None else self.leading.select(torch.arange(n).repeat(2))
        with self._perturbed(t, n, 2 * n):
            return halves(twice.predict(torch.cat([x_t, x_t]), t), n)

    def given(self, **condition: Any) -> TimeStepPair:
        return replace(self, leading=self.leading.given(**condition))

    def select(self, rows: Tensor) -> TimeStepPair:
        return replace(self, leading=self.leading.select(rows))

    def counted(self, calls: Calls) -> TimeStepPair:
        return replace(self, leading=self.leading.counted(calls))

    @property
    def items(self) -> int | None:
        return self.leading.items

    @contextmanager
    def _perturbed(self, t: float, start: int, n: int) -> Iterator[None]:
        """Perturb the embedding of the rows from `start` on, in one call on `n` rows.

        Raises:
            InputError: the embedding was not called exactly once with all rows.
        """

        rows: list[int] = []

        def moved(module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
            rows.append(len(out))
            if not self.window[0] <= t <= self.window[1]:
                return out
            generator = torch.Generator().manual_seed(self.seed)
            direction = torch.randn(out.shape[1:], generator=generator).to(out)
            shift = self.scale * t**self.power * out.std(1, keepdim=True) * direction
            return torch.cat([out[:start], (out + shift)[start:]])

        handle = self.embedding.register_forward_hook(moved)
        try:
            yield
        finally:
            handle.remove()
        if rows != [n]:
            raise InputError(
                "time-step guidance needs a network that takes the whole batch in one call and uses the given "
                f"embedding, but the embedding was called with {rows or 'no'} rows instead of {n}: load the prior "
                "without dtype, compile and chunk, and name the module that embeds the time"
            )


def time_guided(prior: Prior, embedding: nn.Module, weight: Weight | float, **settings: Any) -> GuidedPrior:
    """Time-step guidance, eps = eps(e~) + omega (eps(e_t) - eps(e~)): one network call on 2 N rows per step.

    Args:
        prior: the prior.
        embedding: see `TimeStepPair`.
        weight: the weight omega.
        settings: further arguments of `TimeStepPair`.
    """
    return GuidedPrior(TimeStepPair(prior, embedding, **settings), Combination(as_weight(weight)))
