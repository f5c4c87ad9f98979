"""Terminal costs: what a restoration should satisfy, as one energy in nats for each sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError, check_shape
from invsolve.core.linalg import per_sample, real_dtype
from invsolve.core.operator import EMPTY, LinearOperator, Operator, Params
from invsolve.core.rng import NoiseSource

__all__ = ["Likelihood", "SumCost", "TerminalCost", "WeightedCost"]


class TerminalCost(ABC):
    """Phi(x, theta): an image batch [N, C, H, W] in [0, 1] -> energies [N] in nats. Costs add and scale."""

    @abstractmethod
    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        """Phi(x, theta), [N]."""

    def noisy(self, x: Tensor, sigma: float) -> Tensor:
        """-log p(y | x) of noisy images x = x0 + sigma n in [0, 1] units, [N], where the cost knows it.

        Raises:
            CapabilityError: it judges clean images only.
        """
        raise CapabilityError(f"{type(self).__name__} judges clean images only: guide at the clean estimate")

    @property
    def items(self) -> int | None:
        """The number of measurements, None where the cost serves any batch."""
        return None

    def select(self, rows: Tensor) -> Self:
        """The cost of the items `rows` ([M] indices, repetitions allowed)."""
        return self

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """The cost with its data on `device` in the real (or matching complex) `dtype`."""
        return self

    def __add__(self, other: TerminalCost) -> SumCost:
        if not isinstance(other, TerminalCost):
            return NotImplemented
        return SumCost((self, other))

    def __mul__(self, weight: float | Tensor) -> WeightedCost:
        return WeightedCost(self, weight)

    __rmul__ = __mul__


@dataclass(frozen=True, eq=False)
class SumCost(TerminalCost):
    """The sum of several costs."""

    terms: tuple[TerminalCost, ...]

    def __post_init__(self) -> None:
        sizes = {term.items for term in self.terms if term.items is not None}
        if len(sizes) > 1:
            raise InputError(f"costs that are added must have the same number of items, got {sorted(sizes)}")

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        total = self.terms[0](x, theta)
        for term in self.terms[1:]:
            total = total + term(x, theta)
        return total

    def noisy(self, x: Tensor, sigma: float) -> Tensor:
        total = self.terms[0].noisy(x, sigma)
        for term in self.terms[1:]:
            total = total + term.noisy(x, sigma)
        return total

    @property
    def items(self) -> int | None:
        return next((term.items for term in self.terms if term.items is not None), None)

    def select(self, rows: Tensor) -> Self:
        return replace(self, terms=tuple(term.select(rows) for term in self.terms))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        return replace(self, terms=tuple(term.to(device, dtype) for term in self.terms))


@dataclass(frozen=True, eq=False)
class WeightedCost(TerminalCost):
    """`weight` times a cost; the weight is a number or one for each item [B]."""

    cost: TerminalCost
    weight: float | Tensor

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return self.weight * self.cost(x, theta)

    def noisy(self, x: Tensor, sigma: float) -> Tensor:
        return self.weight * self.cost.noisy(x, sigma)

    @property
    def items(self) -> int | None:
        return self.cost.items

    def select(self, rows: Tensor) -> Self:
        weight = self.weight
        if isinstance(weight, Tensor) and weight.ndim:
            weight = weight[rows.to(weight.device)]
        return replace(self, cost=self.cost.select(rows), weight=weight)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        weight = self.weight.to(device, dtype) if isinstance(self.weight, Tensor) else self.weight
        return replace(self, cost=self.cost.to(device, dtype), weight=weight)


class Likelihood(TerminalCost):
    """-log p(y | x) of a measurement y = A(x) + noise.

    Attributes:
        operator: the forward operator A.
        y: measurements [B, *operator.out_shape], or None in a likelihood that only simulates.
    """

    operator: Operator
    y: Tensor | None

    @abstractmethod
    def simulate(self, x: Tensor, rng: NoiseSource, theta: Params = EMPTY) -> Tensor:
        """Draw y for clean images x [N, ...] in [0, 1]."""

    @property
    def gaussian_sigma(self) -> float | Tensor | None:
        """The noise's standard deviation ([0, 1] units, a number or [B]) where the noise is Gaussian, else None."""
        return None

    @property
    def measurement(self) -> Tensor:
        """y, [B, *out_shape].

        Raises:
            InputError: the likelihood was built without one.
        """
        if self.y is None:
            raise InputError("this likelihood has no measurement (y=None): build it with y to score or restore")
        return self.y

    def residual(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        """y - A(x), [N, *out_shape]."""
        return self.measurement - self.operator(x, theta)

    @property
    def items(self) -> int | None:
        return None if self.y is None else len(self.y)

    def select(self, rows: Tensor) -> Self:
        changes: dict[str, Any] = {"operator": self.operator.select(rows)}
        if self.y is not None:
            changes["y"] = self.y[rows.to(self.y.device)]
        changes |= {name: value[rows.to(value.device)] for name, value in self._noise()}
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        if self.y is None:
            return self
        kind = dtype.to_complex() if self.y.is_complex() else dtype
        return replace(self, y=self.y.to(device, kind))  # pyright: ignore[reportArgumentType]

    def _noise(self) -> Iterator[tuple[str, Tensor]]:
        """The noise levels that differ from item to item, by the names of their fields."""
        for name in ("sigma", "scale"):
            value = getattr(self, name, None)
            if isinstance(value, Tensor) and value.ndim:
                yield name, value

    def _check(self) -> None:
        """Check the operator, the measurement, and that noise levels are one number or one for each item."""
        if not isinstance(self.operator, Operator):
            kind = type(self.operator).__name__
            raise InputError(f"a likelihood takes an Operator, got {kind}: wrap it by operators.as_operator")
        if self.y is not None:
            if not isinstance(self.y, Tensor):
                raise InputError(f"the measurement y must be a tensor, got {type(self.y).__name__}")
            for name, value in self._noise():
                if value.numel() != len(self.y):
                    told = f"one for each of {len(self.y)} items, got {list(value.shape)}"
                    raise InputError(f"{name} must be one number or {told}")
            check_shape(self.y, self.operator.out_shape, f"the measurement of {type(self.operator).__name__}")
            if not bool(torch.isfinite(torch.view_as_real(self.y) if self.y.is_complex() else self.y).all()):
                raise InputError("the measurement y has entries that are not finite: remove or mask them")


def linear_gaussian(cost: TerminalCost | None) -> tuple[LinearOperator, Tensor, float | Tensor] | None:
    """(A, y, sigma) where the cost is the likelihood of a linear measurement with Gaussian noise, else None."""
    if not isinstance(cost, Likelihood) or cost.gaussian_sigma is None or not isinstance(cost.operator, LinearOperator):
        return None
    return cost.operator, cost.measurement, cost.gaussian_sigma


def broadcast_sigma(sigma: float | Tensor, like: Tensor) -> Tensor | float:
    """A standard deviation in a shape (and dtype) that broadcasts against a measurement batch."""
    if isinstance(sigma, Tensor):
        return per_sample(sigma.to(real_dtype(like)), like)
    return sigma
