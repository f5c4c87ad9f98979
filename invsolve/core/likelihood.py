"""Likelihoods: terminal costs -log p(y | x) of a measurement y = A(x) + noise."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.core.checks import InputError, as_values, check_shape
from invsolve.core.cost import TerminalCost, attributes, check_tensor, dimensions
from invsolve.core.linalg import column, per_sample, real_dtype
from invsolve.core.operator import EMPTY, LinearOperator, Operator, Params
from invsolve.core.rng import NoiseSource

__all__ = ["Likelihood", "broadcast_sigma", "linear_gaussian"]


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
        parts, kind = attributes(self), type(self).__name__
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
        silent = {name: value for name, value in attributes(self).items() if name not in covered}
        named |= {name: value for name, value in silent.items() if self._differs(name, value)}
        return named if y is None else {"y": y, **named}

    def _spoken_for(self) -> set[str]:
        """The attributes that `per_item` covers: those of the class that sets it, not those added by its subclasses."""
        derived = [kind for kind in type(self).__mro__ if issubclass(kind, Likelihood) and kind is not Likelihood]
        speaker = next((kind for kind in derived if vars(kind).get("per_item") is not None), None)
        if speaker is None:
            return {"y", "operator"}
        if not dataclasses.is_dataclass(speaker):
            return set(attributes(self))
        return {"y", "operator", *(self.per_item or ()), *(field.name for field in dataclasses.fields(speaker))}

    def _differs(self, name: str, value: Any) -> bool:
        """Whether an attribute that `per_item` does not cover has one value for each item."""
        shape, n = dimensions(value), 1 if self.y is None else len(self.y)
        if len(shape) != 1 and (n == 1 or shape[:1] != (n,)):
            return False
        if len(shape) != 1 and self.y is not None and len(shape) != self.y.ndim:
            raise InputError(
                f"{name} of shape {list(shape)} may be the same for all of {n} items or have one value for each: say "
                f'so in {type(self).__name__}, per_item = ("{name}",) or per_item = ()'
            )
        check_tensor(name, value)
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
