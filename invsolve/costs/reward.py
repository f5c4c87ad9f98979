"""A reward as a terminal cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError, check_one_each
from invsolve.core.cost import TerminalCost
from invsolve.core.identity import keyed_state
from invsolve.core.operator import EMPTY, Params
from invsolve.core.settings import Positive, check_settings
from invsolve.costs.classifier import check_finite

__all__ = ["RewardCost"]


@dataclass(frozen=True, eq=False)
class RewardCost(TerminalCost):
    """Phi(x) = -r(x) / temperature, so that p(x) exp(-Phi) is p(x) exp(r(x) / temperature).

    With positive=True, r(x) > 0 is itself the factor: Phi(x) = -log r(x) / temperature, and the distribution becomes
    p(x) r(x)^(1 / T).

    Args:
        reward: a differentiable function from images [N, ...] in [0, 1] units to rewards [N]; higher is better.
        temperature: above 0; 1 / temperature is the strength of the tilt.
        positive: whether the reward itself is the factor, see above.
        key: identifies the reward in checkpoints, see `FunctionCost`.

    Raises:
        InputError: the temperature is not above 0; the rewards of all images are NaN (checked on the CPU); or a reward
            is negative although it is a factor.
        ShapeError: the rewards have another shape.
    """

    reward: Callable[[Tensor], Tensor]
    temperature: Positive = 1.0
    positive: bool = False
    key: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        value = self.reward(x)
        check_one_each(value, len(x), "a reward")
        check_finite(x, value[:, None], "the rewards")
        if self.positive:
            if bool((value.detach() < 0).any()):
                raise InputError("a reward taken as a factor (positive=True) must not be negative")
            value = torch.log(value)
        return -value / self.temperature

    def identity_state(self) -> dict[str, Any]:
        """The attributes that determine the energies."""
        return keyed_state(self, "reward")
