"""Unknown operator parameters, which a blind problem estimates together with the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError, check_one_each, check_positive
from invsolve.core.identity import keyed_state
from invsolve.core.operator import Params, Shape
from invsolve.core.rng import NoiseSource

__all__ = ["Unknown", "Unknowns"]

_PARAMETRISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda raw: raw,
    "softmax": lambda raw: raw.flatten(1).softmax(1).view_as(raw),
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
}


@dataclass(frozen=True, eq=False)
class Unknown:
    """One unknown operator parameter.

    Args:
        shape: shape of the parameter for one sample.
        parametrisation: "softmax" (non-negative, sums to one: a kernel), "softplus" (a positive number), "sigmoid" (in
            (0, 1)) or "identity".
        initial: raw (unconstrained) starting values of that shape; standard normal draws if None.
        penalty: constrained values [N, *shape] -> [N], added to the energy.
        lr: learning rate of its own Adam; 0 keeps the starting value.
        key: a text that identifies the penalty in checkpoints, if it is a lambda or a closure.
    """

    shape: Shape
    parametrisation: str = "identity"
    initial: Tensor | None = None
    penalty: Callable[[Tensor], Tensor] | None = None
    lr: float = 0.01
    key: str | None = None

    def __post_init__(self) -> None:
        if self.parametrisation not in _PARAMETRISATIONS:
            raise InputError(
                f"parametrisation must be one of {sorted(_PARAMETRISATIONS)}, got {self.parametrisation!r}"
            )
        check_positive(self.lr, "lr", zero=True)
        if self.initial is not None and tuple(self.initial.shape) != tuple(self.shape):
            raise InputError(f"initial values of shape {list(self.shape)} expected, got {list(self.initial.shape)}")

    def constrain(self, raw: Tensor) -> Tensor:
        """Map raw values [N, *shape] to admissible ones."""
        return _PARAMETRISATIONS[self.parametrisation](raw)

    def identity_state(self) -> dict[str, Any]:
        """The attributes that determine the estimates."""
        return keyed_state(self, "penalty")


@dataclass(frozen=True, eq=False)
class Unknowns:
    """The unknown operator parameters of a blind problem, by name."""

    blocks: Mapping[str, Unknown]

    def init(self, n: int, rng: NoiseSource, like: Tensor) -> dict[str, Tensor]:
        """Raw starting values [n, *shape], drawn in the order of the names given."""
        raw = {}
        for name, block in self.blocks.items():
            empty = like.new_empty((n, *block.shape))
            raw[name] = rng.normal(empty) if block.initial is None else block.initial.to(empty).expand_as(empty).clone()
        return raw

    def constrain(self, raw: Params) -> dict[str, Tensor]:
        """Map raw values to the parameters that the operator takes."""
        return {name: block.constrain(raw[name]) for name, block in self.blocks.items()}

    def penalty(self, theta: Params) -> Tensor | float:
        """The sum of the penalties, [N].

        Raises:
            ShapeError: a penalty does not return one number for each sample.
        """
        total = 0.0
        for name, block in self.blocks.items():
            if block.penalty is not None:
                term = block.penalty(theta[name])
                check_one_each(term, len(theta[name]), f"the penalty on {name}")
                total = total + term
        return total
