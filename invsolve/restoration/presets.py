"""The tables of solver settings, and solvers made from them."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from invsolve.core.checks import InputError, nearest
from invsolve.core.solver import Solver

__all__ = ["build", "choose", "fitted", "table"]

DEFAULT = "natural"


@cache
def table(prior: str) -> Mapping[str, Any]:
    """The settings for a prior, {task: {"point": name, "samples": name, solver name: settings}}.

    Priors without a table of their own use that of `natural`.
    """
    folder = files("invsolve") / "presets"
    path = folder / f"{prior}.toml"
    if not prior.isidentifier() or not path.is_file():
        path = folder / f"{DEFAULT}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def choose(prior: str, task: str, *, sampling: bool) -> str:
    """The name of the best solver for a task, for point estimates or for samples."""
    return table(prior)[task]["samples" if sampling else "point"]


def build(name: str, prior: str, task: str, changes: Mapping[str, Any]) -> Solver:
    """The solver `name` with the table's settings for `task` and some of one's own.

    Raises:
        InputError: unknown solver or setting (with the nearest names), or a value of the wrong type.
    """
    from invsolve.solvers import SOLVERS

    kind = SOLVERS[name]
    if not kind.needs.cost:
        raise InputError(f"{name} does not look at the degraded picture: choose another solver")
    return kind(**fitted(name, {**table(prior)[task].get(name, {}), **changes}))


def fitted(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the solver `name`, in the types of its defaults.

    Raises:
        InputError: an unknown setting (with the nearest names), or a value of the wrong type.
    """
    from invsolve.solvers import SOLVERS

    defaults = {field.name: field.default for field in dataclasses.fields(SOLVERS[name])}
    for key in settings:
        if key not in defaults:
            raise InputError(f"{name} has no setting {key!r}; {nearest(key, defaults)}")
    return {key: _fitting(name, key, value, defaults[key]) for key, value in settings.items()}


def _fitting(solver: str, key: str, value: Any, default: Any) -> Any:
    """`value` in the type of the setting's default."""
    if isinstance(value, list):
        value = tuple(value)
    if default is None or type(value) is type(default):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    raise InputError(f"{solver}: {key} takes a value such as {default!r}, got {value!r}")
