"""Terminal costs: what a restoration should satisfy, as one energy in nats for each sample; and likelihoods."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError, as_values, check_shape
from invsolve.core.linalg import column, per_sample, real_dtype
from invsolve.core.operator import EMPTY, LinearOperator, Operator, Params
from invsolve.core.rng import NoiseSource

__all__ = ["Likelihood", "SumCost", "TerminalCost", "WeightedCost", "broadcast_sigma", "linear_gaussian"]


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
        parts, kind = _attributes(self), type(self).__name__
        for name in self.per_item or ():
            if name not in parts:
                raise InputError(f"{kind}.per_item names {name!r}, which {kind} does not have: {', '.join(parts)}")
            _check_tensor(name, parts[name])
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
        return next((size for size in [*own, *(cost.items for cost in _costs(_attributes(self)))] if size), None)

    def select(self, rows: Tensor) -> Self:
        """The cost for the items `rows` ([M] indices, repetitions allowed)."""
        taken = {name: value[rows.to(value.device)] for name, value in self._rows().items()}
        return _changed(self, taken, lambda part: part.select(rows))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """The cost with its tensors on `device` in the real (or matching complex) `dtype`; integers stay integers."""
        moved = {
            name: value.to(device, _kind(value, dtype))
            for name, value in _attributes(self).items()
            if isinstance(value, Tensor)
        }
        return _changed(self, moved, lambda part: part.to(device, dtype) if isinstance(part, TerminalCost) else part)

    def _rows(self) -> Mapping[str, Tensor]:
        """The tensors with one value for each item, by name."""
        parts = _attributes(self)
        named = {name: parts[name] for name in self.per_item or () if name in parts}
        return {name: value for name, value in named.items() if isinstance(value, Tensor) and value.ndim}

    def __add__(self, other: TerminalCost) -> SumCost:
        if not isinstance(other, TerminalCost):
            return NotImplemented
        return SumCost((self, other))

    def __mul__(self, weight: float | Tensor) -> WeightedCost:
        return WeightedCost(self, weight)

    __rmul__ = __mul__


def _attributes(cost: TerminalCost) -> dict[str, Any]:
    """The attributes of a cost: the fields of a dataclass, or the instance attributes of another class."""
    if dataclasses.is_dataclass(cost):
        return {field.name: getattr(cost, field.name) for field in dataclasses.fields(cost) if field.init}
    return dict(vars(cost))


def _costs(parts: Mapping[str, Any]) -> list[TerminalCost]:
    """The costs among the attributes, including those in tuples and lists."""
    every = [one for part in parts.values() for one in (part if isinstance(part, tuple | list) else (part,))]
    return [one for one in every if isinstance(one, TerminalCost)]


def _check_tensor(name: str, value: Any) -> None:
    """Raise `InputError` for a list or an array, because rows can only be selected from a tensor."""
    if isinstance(value, list | tuple) or (not isinstance(value, Tensor) and _dimensions(value)):
        raise InputError(f"{name} must be a number or a tensor, got {type(value).__name__}: use torch.as_tensor(...)")


def _dimensions(value: Any) -> tuple[int, ...]:
    """The shape of a tensor or an array, () for anything else."""
    return tuple(value.shape) if isinstance(value, Tensor) or getattr(value, "__array_interface__", None) else ()


def _changed(cost: Any, tensors: Mapping[str, Tensor], of_part: Callable[[Any], Any]) -> Any:
    """A copy of the cost with new tensors, and `of_part` applied to its costs and operators."""
    changes: dict[str, Any] = dict(tensors)
    for name, part in _attributes(cost).items():
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


class Likelihood(TerminalCost):
    """-log p(y | x) of a measurement y = A(x) + noise.

    Attributes:
        operator: the forward operator A.
        y: measurements [B, *operator.out_shape], or None in a likelihood that only simulates.
        per_item: names of the attributes other than y that may hold one value for each of the B items. If a class
            leaves it as None, the shapes decide. A vector must have B entries, one for each item. A tensor with as many
            dimensions as y and a first dimension of B has one entry for each item. Any other tensor is shared by all
            items; but one with another number of dimensions and a first dimension of B is ambiguous and is refused. The
            same rules apply to attributes that a derived class adds without setting `per_item` again.
    """

    operator: Operator
    y: Tensor | None
    per_item: ClassVar[tuple[str, ...] | None] = None

    def __post_init__(self) -> None:
        if self.y is not None and isinstance(self.operator, Operator):
            values = as_values(self.y, "the measurement y")
            check_shape(values, self.operator.out_shape, f"the measurement of {type(self.operator).__name__}")
            object.__setattr__(self, "y", _without_placeholders(self.operator, values, self.gaussian_sigma))
        super().__post_init__()
        y = self.y
        if y is not None and not bool(torch.isfinite(y).all()):
            raise InputError("the measurement y has entries that are not finite: remove or mask them")

    @abstractmethod
    def simulate(self, x: Tensor, rng: NoiseSource, theta: Params = EMPTY) -> Tensor:
        """Draw y for clean images x [N, ...] in [0, 1]."""

    @property
    def gaussian_sigma(self) -> float | Tensor | None:
        """The standard deviation of the noise ([0, 1] units, a number or [B]) if the noise is Gaussian, else None."""
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

    @property
    def measured(self) -> Tensor:
        """The number of measured real numbers for each item, [B]; missing entries that hold 0 do not count."""
        y = self.measurement
        seen = self.operator.measures(y) | (y != 0)
        return seen.flatten(1).sum(1) * (2 if y.is_complex() else 1)

    def residual(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        """y - A(x), [N, *out_shape]."""
        return self.measurement - self.operator(x, theta)

    @property
    def items(self) -> int | None:
        return None if self.y is None else len(self.y)

    def check(self) -> None:
        parts, kind = _attributes(self), type(self).__name__
        if "operator" not in parts or "y" not in parts:
            raise InputError(f"{kind} needs the attributes operator and y, it has {', '.join(parts) or 'none'}")
        operator, y = parts["operator"], parts["y"]
        if not isinstance(operator, Operator):
            raise InputError(
                f"a likelihood takes an Operator, got {type(operator).__name__}: wrap it with operators.as_operator"
            )
        if y is not None and not isinstance(y, Tensor):
            raise InputError(f"the measurement y must be a tensor, got {type(y).__name__}")
        if y is not None:
            as_values(y, "the measurement y")
        for name, value in self._rows().items():
            if y is not None and len(value) != len(y):
                told = f"{name} must be one number or one for each of {len(y)} items, got {list(value.shape)}"
                shared = f"; if it is the same for all, say so in {kind}: per_item = ()"
                raise InputError(told + (shared if name not in self._spoken_for() else ""))
        if y is not None:
            check_shape(y, operator.out_shape, f"the measurement of {type(operator).__name__}")
        super().check()

    def _rows(self) -> Mapping[str, Tensor]:
        named, y = dict(super()._rows()), self.y
        covered = self._spoken_for()
        silent = {name: value for name, value in _attributes(self).items() if name not in covered}
        named |= {name: value for name, value in silent.items() if self._differs(name, value)}
        return named if y is None else {"y": y, **named}

    def _spoken_for(self) -> set[str]:
        """The attributes that `per_item` covers: those of the class that sets it, not those added by its subclasses."""
        derived = [kind for kind in type(self).__mro__ if issubclass(kind, Likelihood) and kind is not Likelihood]
        speaker = next((kind for kind in derived if vars(kind).get("per_item") is not None), None)
        if speaker is None:
            return {"y", "operator"}
        if not dataclasses.is_dataclass(speaker):
            return set(_attributes(self))
        return {"y", "operator", *(self.per_item or ()), *(field.name for field in dataclasses.fields(speaker))}

    def _differs(self, name: str, value: Any) -> bool:
        """Whether an attribute that `per_item` does not cover has one value for each item."""
        shape, n = _dimensions(value), 1 if self.y is None else len(self.y)
        if len(shape) != 1 and (n == 1 or shape[:1] != (n,)):
            return False
        if len(shape) != 1 and self.y is not None and len(shape) != self.y.ndim:
            raise InputError(
                f"{name} of shape {list(shape)} may be the same for all of {n} items or have one value for each: say "
                f'so in {type(self).__name__}, per_item = ("{name}",) or per_item = ()'
            )
        _check_tensor(name, value)
        return True


def linear_gaussian(cost: TerminalCost | None) -> tuple[LinearOperator, Tensor, float | Tensor] | None:
    """(A, y, sigma) if the cost is the likelihood of a linear measurement with Gaussian noise, else None."""
    if not isinstance(cost, Likelihood) or cost.gaussian_sigma is None or not isinstance(cost.operator, LinearOperator):
        return None
    return cost.operator, cost.measurement, cost.gaussian_sigma


NOISE_LIKE = 4.0
"""Values in unmeasured entries count as noise up to this many standard errors above its mean and power."""


def _without_placeholders(operator: Operator, y: Tensor, sigma: float | Tensor | None) -> Tensor:
    """Set the entries that the operator does not measure to zero, whatever they hold (white, NaN, another image).

    Published simulations of inpainting also add noise to the missing pixels, and the norms of their residuals include
    it. Noise around zero of at most the likelihood's level is therefore kept, so that those runs give the published
    results.
    """
    observed = operator.observed(y)
    if observed is y or sigma is None:
        return observed
    missing = ~operator.measures(y)
    rest = torch.where(missing, y, 0.0)
    rest = (torch.view_as_real(rest) if rest.is_complex() else rest).flatten(1).double()
    count = missing.flatten(1).sum(1).clamp_min(1) * (2 if y.is_complex() else 1)
    level = torch.as_tensor(sigma, dtype=torch.float64, device=y.device).flatten()
    centred = rest.sum(1).abs() <= NOISE_LIKE * level * count.sqrt()
    noise = centred & (rest.square().sum(1) <= level**2 * (count + NOISE_LIKE * (2 * count).sqrt()))  # False for NaN
    return torch.where(column(noise, y), y, observed)


def broadcast_sigma(sigma: float | Tensor, like: Tensor) -> Tensor | float:
    """A standard deviation in a shape (and dtype) that broadcasts against a measurement batch."""
    if isinstance(sigma, Tensor):
        return per_sample(sigma.to(real_dtype(like)), like)
    return sigma
