"""Terminal costs: what a restoration should satisfy, as one energy in nats for each sample."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError
from invsolve.core.operator import EMPTY, Operator, Params

__all__ = ["SumCost", "TerminalCost", "WeightedCost", "attributes", "check_tensor", "dimensions"]


class TerminalCost(ABC):
    """Phi(x, theta): an image batch [N, C, H, W] in [0, 1] -> energies [N] in nats. Costs add and scale.

    A cost is a frozen dataclass or any other class. Its tensors follow the problem to another device and precision,
    together with the costs and operators among its attributes.

    Attributes:
        per_item: names of the attributes that may hold one value for each item (a tensor whose leading dimension is the
            number of items). Only the matching rows are used when some items are solved separately (microbatches) or an
            item is repeated (samples). Numbers, tensors without dimensions and all tensors that are not named are
            shared by all items.
    """

    per_item: ClassVar[tuple[str, ...] | None] = ()

    def __post_init__(self) -> None:
        """Check the fields of a dataclass; costs with their own checks call this first."""
        self.check()

    @abstractmethod
    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        """Phi(x, theta), [N]."""

    def noisy(self, x: Tensor, sigma: float) -> Tensor:
        """-log p(y | x) of noisy images x = x0 + sigma n in [0, 1] units, [N], if the cost can evaluate them.

        Raises:
            CapabilityError: the cost can only evaluate clean images.
        """
        raise CapabilityError(f"{type(self).__name__} judges clean images only: guide at the clean estimate")

    def check(self) -> None:
        """Check the attributes that `per_item` names; `Problem` calls this, too.

        Raises:
            InputError: an attribute that `per_item` names is missing, or is a list or an array, or the numbers of items
                differ.
        """
        parts, kind = attributes(self), type(self).__name__
        for name in self.per_item or ():
            if name not in parts:
                raise InputError(f"{kind}.per_item names {name!r}, which {kind} does not have: {', '.join(parts)}")
            check_tensor(name, parts[name])
        sizes = {len(value) for value in self._rows().values()}
        for cost in _costs(parts):
            cost.check()
            sizes |= set() if cost.items is None else {cost.items}
        if len(sizes) > 1:
            raise InputError(f"costs and their parameters must have one number of items, got {sorted(sizes)}")

    @property
    def items(self) -> int | None:
        """The number of items; None if the cost applies to any batch."""
        own = [len(value) for value in self._rows().values()]
        return next((size for size in [*own, *(cost.items for cost in _costs(attributes(self)))] if size), None)

    def select(self, rows: Tensor) -> Self:
        """The cost for the items `rows` ([M] indices, repetitions allowed)."""
        taken = {name: value[rows.to(value.device)] for name, value in self._rows().items()}
        return _changed(self, taken, lambda part: part.select(rows))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """The cost with its tensors on `device` in the real (or matching complex) `dtype`; integers stay integers."""
        moved = {
            name: value.to(device, _kind(value, dtype))
            for name, value in attributes(self).items()
            if isinstance(value, Tensor)
        }
        return _changed(self, moved, lambda part: part.to(device, dtype) if isinstance(part, TerminalCost) else part)

    def _rows(self) -> Mapping[str, Tensor]:
        """The tensors with one value for each item, by name."""
        parts = attributes(self)
        named = {name: parts[name] for name in self.per_item or () if name in parts}
        return {name: value for name, value in named.items() if isinstance(value, Tensor) and value.ndim}

    def __add__(self, other: TerminalCost) -> SumCost:
        if not isinstance(other, TerminalCost):
            return NotImplemented
        return SumCost((self, other))

    def __mul__(self, weight: float | Tensor) -> WeightedCost:
        return WeightedCost(self, weight)

    __rmul__ = __mul__


def attributes(cost: TerminalCost) -> dict[str, Any]:
    """The attributes of a cost: the fields of a dataclass, or the instance attributes of another class."""
    if dataclasses.is_dataclass(cost):
        return {field.name: getattr(cost, field.name) for field in dataclasses.fields(cost) if field.init}
    return dict(vars(cost))


def _costs(parts: Mapping[str, Any]) -> list[TerminalCost]:
    """The costs among the attributes, including those in tuples and lists."""
    every = [one for part in parts.values() for one in (part if isinstance(part, tuple | list) else (part,))]
    return [one for one in every if isinstance(one, TerminalCost)]


def check_tensor(name: str, value: Any) -> None:
    """Raise `InputError` for a list or an array, because rows can only be selected from a tensor."""
    if isinstance(value, list | tuple) or (not isinstance(value, Tensor) and dimensions(value)):
        raise InputError(f"{name} must be a number or a tensor, got {type(value).__name__}: use torch.as_tensor(...)")


def dimensions(value: Any) -> tuple[int, ...]:
    """The shape of a tensor or an array, () for anything else."""
    return tuple(value.shape) if isinstance(value, Tensor) or getattr(value, "__array_interface__", None) else ()


def _changed(cost: Any, tensors: Mapping[str, Tensor], of_part: Callable[[Any], Any]) -> Any:
    """A copy of the cost with new tensors, and `of_part` applied to its costs and operators."""
    changes: dict[str, Any] = dict(tensors)
    for name, part in attributes(cost).items():
        if isinstance(part, TerminalCost | Operator):
            changes[name] = of_part(part)
        elif isinstance(part, tuple | list) and any(isinstance(one, TerminalCost | Operator) for one in part):
            parts = [of_part(one) if isinstance(one, TerminalCost | Operator) else one for one in part]
            changes[name] = parts if isinstance(part, list) else tuple(parts)
    if dataclasses.is_dataclass(cost):
        return replace(cost, **changes)  # pyright: ignore[reportArgumentType]
    twin = copy.copy(cost)
    vars(twin).update(changes)
    return twin


def _kind(value: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype for a tensor when real numbers have `dtype`: complex tensors stay complex, integers are unchanged."""
    if value.is_complex():
        return dtype.to_complex()
    return dtype if value.is_floating_point() else value.dtype


@dataclass(frozen=True, eq=False)
class SumCost(TerminalCost):
    """The sum of several costs."""

    terms: tuple[TerminalCost, ...]

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


@dataclass(frozen=True, eq=False)
class WeightedCost(TerminalCost):
    """`weight` times a cost; the weight is one number, or one for each item [B]."""

    cost: TerminalCost
    weight: float | Tensor

    per_item = ("weight",)

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return self.weight * self.cost(x, theta)

    def noisy(self, x: Tensor, sigma: float) -> Tensor:
        return self.weight * self.cost.noisy(x, sigma)
