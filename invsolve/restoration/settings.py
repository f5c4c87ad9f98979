"""The tables of solver settings, and solvers made from them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from invsolve.core.checks import InputError
from invsolve.core.settings import made_with
from invsolve.core.solver import Solver

__all__ = ["QUALITIES", "build", "choose", "offered", "table"]

DEFAULT = "natural"

QUALITIES = ("fast", "balanced", "best")
"""From few network calls to many; "balanced" is the table as it is."""


@cache
def table(prior: str) -> Mapping[str, Any]:
    """The settings for a prior, {task: {"point": name, "samples": name, solver name: settings}}.

    Priors without a table of their own use that of `natural`.
    """
    folder = files("invsolve") / "presets"
    path = folder / f"{prior}.toml"
    if not prior.isidentifier() or prior not in {entry.name.removesuffix(".toml") for entry in folder.iterdir()}:
        path = folder / f"{DEFAULT}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def choose(prior: str, task: str, *, sampling: bool) -> str:
    """The name of the best solver for a task, for point estimates or for samples."""
    return table(prior)[task]["samples" if sampling else "point"]


@cache
def qualities() -> Mapping[str, Any]:
    """What the qualities change in the table, {quality: {task: {solver name: settings}}}."""
    return tomllib.loads((files("invsolve") / "presets" / "quality.toml").read_text(encoding="utf-8"))


def offered(name: str, task: str) -> tuple[str, ...]:
    """The qualities for which there are settings of a solver on a task."""
    return tuple(q for q in QUALITIES if q == "balanced" or name in qualities()[q].get(task, {}))


def build(name: str, prior: str, task: str, changes: Mapping[str, Any], quality: str = "balanced") -> Solver:
    """The solver `name` with the table's settings for `task`, those of the quality, and some of one's own.

    Raises:
        InputError: unknown solver or setting (with the nearest names), a value of the wrong type, or a quality without
            settings.
    """
    from invsolve.solvers import SOLVERS

    kind = SOLVERS[name]
    if not kind.needs.cost:
        raise InputError(f"{name} does not look at the degraded image: choose another solver")
    if quality not in offered(name, task):
        raise InputError(f"{name} has no settings of the quality {quality!r} for {task}: give --set, or leave it away")
    own = qualities().get(quality, {}).get(task, {}).get(name, {})
    return made_with(kind, {**table(prior)[task].get(name, {}), **own, **changes}, name)
