"""The two predictions that guidance combines; one network call if one network makes both."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.counting import Calls
from invsolve.core.prior import Prediction, Prior

__all__ = ["ConditionPair", "Pair", "PriorPair", "halves"]


class Pair(ABC):
    """Source of the two predictions; both have the shape, range and schedule of the prior `leading`."""

    leading: Prior

    @abstractmethod
    def first(self, x_t: Tensor, t: float) -> Prediction:
        """The prediction that is used alone at weight 1."""

    @abstractmethod
    def second(self, x_t: Tensor, t: float) -> Prediction:
        """The prediction that is used alone at weight 0."""

    @abstractmethod
    def both(self, x_t: Tensor, t: float) -> tuple[Prediction, Prediction]:
        """Both predictions for one state, in one network call if one network makes both."""

    @abstractmethod
    def given(self, **condition: Any) -> Pair:
        """The pair with a new condition: for the conditional member, or for both if each is a prior of its own."""

    @abstractmethod
    def select(self, rows: Tensor) -> Pair:
        """The pair for selected rows of the batch."""

    @abstractmethod
    def counted(self, calls: Calls) -> Pair:
        """The pair with its network evaluations counted."""

    @property
    @abstractmethod
    def items(self) -> int | None:
        """The number of images that the conditions are given for; None if they apply to any batch."""


@dataclass(frozen=True, eq=False)
class ConditionPair(Pair):
    """One prior with a condition and with a null condition, in one call on 2 N rows.

    Args:
        leading: the prior, without bound conditions.
        condition, null: the same names in both, with values for all samples (numbers) or per sample (tensors [B, ...]).
    """

    leading: Prior
    condition: Mapping[str, Any]
    null: Mapping[str, Any]

    def __post_init__(self) -> None:
        if set(self.condition) != set(self.null) or not self.condition:
            raise InputError(
                f"condition and null need the same names, got {sorted(self.condition)} and {sorted(self.null)}"
            )
        _ = self._one, self._two  # raises an error if the prior does not accept the condition

    @cached_property
    def _one(self) -> Prior:
        return self.leading.given(**self.condition)

    @cached_property
    def _two(self) -> Prior:
        return self.leading.given(**self.null)

    @cached_property
    def _doubled(self) -> dict[int, Prior]:
        """The prior with both conditions bound, by batch size; a cache, because binding checks labels on the device."""
        return {}

    def first(self, x_t: Tensor, t: float) -> Prediction:
        return self._one.predict(x_t, t)

    def second(self, x_t: Tensor, t: float) -> Prediction:
        return self._two.predict(x_t, t)

    def both(self, x_t: Tensor, t: float) -> tuple[Prediction, Prediction]:
        n = len(x_t)
        if n not in self._doubled:
            rows = {
                name: torch.cat([_rows(self.condition[name], n, x_t), _rows(self.null[name], n, x_t)])
                for name in self.condition
            }
            self._doubled[n] = self.leading.given(**rows)
        return halves(self._doubled[n].predict(torch.cat([x_t, x_t]), t), n)

    def given(self, **condition: Any) -> ConditionPair:
        return ConditionPair(self.leading, {**self.condition, **condition}, self.null)

    def select(self, rows: Tensor) -> ConditionPair:
        return ConditionPair(self.leading, _chosen(self.condition, rows), _chosen(self.null, rows))

    def counted(self, calls: Calls) -> ConditionPair:
        return ConditionPair(self.leading.counted(calls), self.condition, self.null)

    @property
    def items(self) -> int | None:
        values = [*self.condition.values(), *self.null.values()]
        return next((len(v) for v in values if isinstance(v, Tensor) and v.ndim), None)


@dataclass(frozen=True, eq=False)
class PriorPair(Pair):
    """Two priors with the same schedule, each called separately.

    Raises:
        InputError: they differ in schedule, shape or value range.
    """

    leading: Prior
    other: Prior

    def __post_init__(self) -> None:
        a, b = self.leading, self.other
        times = (0.1, 0.5, 0.9)
        if any(not math.isclose(p, q, rel_tol=1e-9) for t in times for p, q in zip(a.schedule(t), b.schedule(t))):  # noqa: B905
            raise InputError(f"mixed priors must share one schedule, got {a.schedule!r} and {b.schedule!r}")
        if a.value_range != b.value_range or (a.shape and b.shape and tuple(a.shape) != tuple(b.shape)):
            raise InputError(
                f"mixed priors must share one space, got {a.shape} in {a.value_range} and {b.shape} in {b.value_range}"
            )

    def first(self, x_t: Tensor, t: float) -> Prediction:
        return self.leading.predict(x_t, t)

    def second(self, x_t: Tensor, t: float) -> Prediction:
        return self.other.predict(x_t, t)

    def both(self, x_t: Tensor, t: float) -> tuple[Prediction, Prediction]:
        return self.leading.predict(x_t, t), self.other.predict(x_t, t)

    def given(self, **condition: Any) -> PriorPair:
        return PriorPair(self.leading.given(**condition), self.other.given(**condition))

    def select(self, rows: Tensor) -> PriorPair:
        return PriorPair(self.leading.select(rows), self.other.select(rows))

    def counted(self, calls: Calls) -> PriorPair:
        return PriorPair(self.leading.counted(calls), self.other.counted(calls))

    @property
    def items(self) -> int | None:
        return self.leading.items if self.leading.items is not None else self.other.items


def halves(out: Prediction, n: int) -> tuple[Prediction, Prediction]:
    """The predictions of the first n rows and of the other rows."""
    one, two = (
        Prediction(out.x0[part], out.eps[part], None if out.variance is None else out.variance[part])
        for part in (slice(n), slice(n, None))
    )
    return one, two


def _rows(value: Any, n: int, like: Tensor) -> Tensor:
    """A condition with one row per sample."""
    tensor = torch.as_tensor(value, device=like.device)
    if tensor.ndim == 0:
        return tensor.expand(n)
    if len(tensor) not in (1, n):
        raise InputError(f"a condition for {len(tensor)} samples was given for {n}: bind a number or one each")
    return tensor.expand(n, *tensor.shape[1:])


def _chosen(values: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """The conditions of selected rows."""
    return {k: v[rows.to(v.device)] if isinstance(v, Tensor) and v.ndim else v for k, v in values.items()}
