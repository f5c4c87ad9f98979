"""A small instance of every registered cost, made from the annotations of its settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from invsolve import costs
from invsolve.core.checks import InputError
from invsolve.core.cost import Likelihood, TerminalCost
from invsolve.core.operator import Params
from invsolve.core.rng import Rng
from invsolve.core.settings import Range
from invsolve.operators.blur import GaussianBlur

__all__ = ["ITEMS", "SHAPE", "THETA", "cost_example", "likelihood_of"]

ITEMS, SHAPE = 3, (1, 5, 6)

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "ImpulseLikelihood": {"probability": 0.2},
    "PoissonLikelihood": {"peak": 20.0},
    "PoissonGaussianLikelihood": {"peak": 20.0},
    "SpeckleLikelihood": {"looks": 4.0},
}
"""Settings by class, used instead of the values that the annotations suggest."""

THETA: Mapping[str, Params] = {"unknown-gaussian": {"sigma": torch.tensor([[0.1], [0.2], [0.4]], dtype=torch.float64)}}
"""Unknown parameters that a cost needs, by registry name."""


def _features(x: Tensor) -> Tensor:
    return torch.stack([x.flatten(1).mean(1), x.flatten(1).square().sum(1), x.flatten(1).std(1)], 1)


FUNCTIONS: Mapping[str, Callable[[], TerminalCost]] = {
    "classifier": lambda: costs.ClassifierCost(_features, torch.tensor([0, 2, 1]), 3),
    "function": lambda: costs.FunctionCost(lambda x: (x - 0.3).square().flatten(1).sum(1)),
    "reward": lambda: costs.RewardCost(lambda x: x.flatten(1).mean(1), temperature=0.5),
}
"""Costs that are made from a function."""


def cost_example(name: str) -> TerminalCost:
    """Return a cost for three items (or for any number) by its registry name or "module:attribute".

    Raises:
        InputError: if its settings cannot be guessed.
    """
    if name in FUNCTIONS:
        return FUNCTIONS[name]()
    made = costs.COSTS[name]
    if isinstance(made, TerminalCost):
        return made
    if issubclass(made, Likelihood):
        return likelihood_of(made, theta=THETA.get(name, {}))
    return made(**_settings(made))


def likelihood_of(kind: Any, theta: Params | None = None, **settings: Any) -> Likelihood:
    """Return a likelihood of that class with three measurements, simulated by the likelihood itself if it can."""
    settings = {**_settings(kind), **settings}
    operator = GaussianBlur(SHAPE, 1.0)
    x = 0.1 + 0.8 * torch.rand(ITEMS, *SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    try:
        y = kind(operator, None, **settings).simulate(x, Rng(0), theta or {})
    except NotImplementedError:
        y = operator(x)
    return kind(operator, y, **settings)


def _settings(kind: Any) -> dict[str, Any]:
    """Choose values of the settings: defaults, else from the annotated range; one per item where they may differ."""
    if not dataclasses.is_dataclass(kind):
        raise InputError(f"{kind.__name__} is not a dataclass: give an instance of it to check")
    made: Any = kind
    hints, chosen = get_type_hints(made, include_extras=True), {}
    given, named = SETTINGS.get(made.__name__, {}), made.per_item
    for field in dataclasses.fields(kind):
        if not field.init or field.name in ("operator", "y"):
            continue
        hint = hints.get(field.name, Any)
        value = given.get(field.name, field.default)
        if value is dataclasses.MISSING:
            value = _number(field.name, hint)
        differs = _may_be_tensor(hint) and (named is None or field.name in named)
        if differs and isinstance(value, float):
            value = value * torch.linspace(1.0, 2.0, ITEMS, dtype=torch.float64)
        if field.default is dataclasses.MISSING or value is not field.default:
            chosen[field.name] = value
    return chosen


def _plain(hint: Any) -> tuple[list[Any], Range]:
    """Return the types that an annotation names, and its range."""
    if get_origin(hint) is Annotated:
        kind, *extras = get_args(hint)
        bounds = [extra for extra in extras if isinstance(extra, Range)]
        return _plain(kind)[0], bounds[0] if bounds else Range()
    every = [_plain(one) for one in get_args(hint) if one is not NoneType]
    return ([kind for kinds, _ in every for kind in kinds], every[0][1]) if every else ([hint], Range())


def _may_be_tensor(hint: Any) -> bool:
    return Tensor in _plain(hint)[0]


def _number(name: str, hint: Any) -> Any:
    """Return a number that the annotation allows: 0.1 if possible."""
    kinds, bounds = _plain(hint)
    if int in kinds and float not in kinds:
        return max(2, math.ceil(bounds.low)) if bounds.low > -math.inf else 2
    if float not in kinds and Tensor not in kinds:
        raise InputError(f"no value of {name} can be guessed: give an instance to check")
    return 0.1 if bounds.holds(0.1) else 0.5 * (max(bounds.low, -1e3) + min(bounds.high, max(bounds.low, -1e3) + 2))
