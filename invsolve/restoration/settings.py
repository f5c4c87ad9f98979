"""The tables of solver settings, and solvers built from them.

A value in a table is a number, a word, or a function of a condition: {noise = [0.01, 0.1], value = [0.2, 0.05]} is 0.2
up to a noise level of 0.01 and 0.05 from 0.1 on. Between the points, the logarithm of the value is interpolated
linearly in the logarithm of the condition. Integers are rounded. Lists are interpolated entry by entry.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from invsolve.core.checks import InputError
from invsolve.core.settings import made_with

if TYPE_CHECKING:
    from invsolve.core.solver import Solver

__all__ = ["QUALITIES", "USUAL", "build", "choose", "made", "offered", "settings", "table"]

DEFAULT = "natural"

QUALITIES = ("fast", "balanced", "best")
"""From few network calls to many; "balanced" uses the table unchanged."""

USUAL: Mapping[str, float] = MappingProxyType({"noise": 0.01, "scatter": 0.5, "crooked": 1.0})
"""Default conditions for settings: low noise, half of the pixels missing at random, any blur."""


@cache
def table(prior: str) -> Mapping[str, Any]:
    """Return the settings for a prior, {task: {"point": name, "samples": name, solver name: settings}}.

    Priors without their own table use the table of `natural`.
    """
    folder = files("invsolve") / "presets"
    path = folder / f"{prior}.toml"
    if not prior.isidentifier() or prior not in {entry.name.removesuffix(".toml") for entry in folder.iterdir()}:
        path = folder / f"{DEFAULT}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def choose(prior: str, task: str, *, sampling: bool) -> str:
    """Return the name of the best solver for a task, for point estimates or for samples."""
    return table(prior)[task]["samples" if sampling else "point"]


@cache
def qualities() -> Mapping[str, Any]:
    """Return the changes that each quality makes to the table, {quality: {task: {solver name: settings}}}."""
    return tomllib.loads((files("invsolve") / "presets" / "quality.toml").read_text(encoding="utf-8"))


def offered(name: str, task: str) -> tuple[str, ...]:
    """Return the qualities for which a solver has settings on a task."""
    return tuple(q for q in QUALITIES if q == "balanced" or name in qualities()[q].get(task, {}))


def settings(
    name: str, prior: str, task: str, conditions: Mapping[str, float], quality: str = "balanced"
) -> dict[str, Any]:
    """Return the settings of a solver for a task from the tables; empty if there is no row.

    Args:
        name: name of the solver.
        prior: name of the prior whose table is used.
        task: a section of the table.
        conditions: conditions that settings depend on: "noise", the standard deviation in the likelihood of a colour
            image in [0, 1], and the conditions of the task (see `Task.conditions`). Missing ones default to `USUAL`.
        quality: one of QUALITIES.

    Raises:
        InputError: a quality without settings.
    """
    if quality not in offered(name, task):
        raise InputError(
            f"{name} has no settings of quality {quality!r} for {task}: leave out --quality, or change single settings "
            "with --set"
        )
    own = qualities().get(quality, {}).get(task, {}).get(name, {})
    row = {**table(prior).get(task, {}).get(name, {}), **own}
    return {key: _at(value, {**USUAL, **conditions}) for key, value in row.items()}


def _at(value: Any, conditions: Mapping[str, float]) -> Any:
    if not isinstance(value, Mapping):
        return value
    (axis,) = set(value) - {"value"}
    if isinstance(value["value"][0], list):
        return [_at({axis: value[axis], "value": entries}, conditions) for entries in zip(*value["value"], strict=True)]
    points, values, place = value[axis], value["value"], conditions[axis]
    place = min(max(place, points[0]), points[-1])
    high = next(i for i in range(1, len(points)) if place <= points[i])
    share = math.log(place / points[high - 1]) / math.log(points[high] / points[high - 1])
    between = values[high - 1] * (values[high] / values[high - 1]) ** share
    return round(between) if all(isinstance(v, int) for v in values) else float(f"{between:.3g}")


def build(
    name: str,
    prior: str,
    task: str,
    changes: Mapping[str, Any],
    quality: str = "balanced",
    conditions: Mapping[str, float] = USUAL,
) -> Solver:
    """Build the solver `name` with its `settings`, where `changes` replaces some of them; see `made`."""
    return made(name, {**settings(name, prior, task, conditions, quality), **changes})


def made(name: str, values: Mapping[str, Any]) -> Solver:
    """Make the solver `name` with these settings.

    Raises:
        InputError: unknown solver or setting (the message lists the nearest names), a value of the wrong type, or a
            solver that does not restore.
    """
    from invsolve.solvers import SOLVERS

    kind = SOLVERS[name]
    if not kind.needs.cost:
        raise InputError(f"{name} does not look at the degraded image: choose another solver")
    return made_with(kind, values, name)
