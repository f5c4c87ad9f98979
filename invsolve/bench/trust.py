"""Trust in the code that a suite, or a store from somebody else, names: only trusted code may run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from invsolve.core.boundary import is_there
from invsolve.core.checks import InputError

__all__ = ["check_trusted", "code_in"]

ALLOWED = "INVSOLVE_TRUSTED"
"""Environment variable with a comma-separated list of modules whose code suites may name."""


def code_in(table: Mapping[str, Any]) -> list[str]:
    """Return every "module:attribute" that a suite would import: its prior, operators, solvers and metrics."""
    prior = table.get("prior", {})
    tasks, solvers = (rows if isinstance(rows := table.get(part), list) else [] for part in ("tasks", "solvers"))
    name = str(prior.get("name", "")) if isinstance(prior, Mapping) else ""
    of_prior = [] if name.startswith(("hf:", "deepinv:")) or is_there(Path(name).expanduser()) else [name]
    degraded, solved = ([row for row in part if isinstance(row, Mapping)] for part in (tasks, solvers))
    own = [row for row in solved if "peer" not in row and not row.get("baseline", False)]
    named = [*of_prior, *(str(row.get("operator", "")) for row in degraded)]
    named += [str(row.get("solver", row.get("name", ""))) for row in own]
    run = table.get("run", {})
    metrics = run.get("metrics", []) if isinstance(run, Mapping) else []
    named += [str(name) for name in metrics] if isinstance(metrics, list) else []
    return [entry for entry in dict.fromkeys(named) if ":" in entry]


def check_trusted(what: object, references: Iterable[str], *, trust: bool) -> None:
    """Raise `InputError` if a reference is neither in invsolve nor trusted.

    Args:
        what: the suite or store that names the code, for the message.
        references: code as "module:attribute".
        trust: whether the user trusts all of it.
    """
    allowed = ("invsolve", *(name.strip() for name in os.environ.get(ALLOWED, "").split(",") if name.strip()))
    for reference in references:
        module = reference.partition(":")[0]
        if trust or any(module == name or module.startswith(f"{name}.") for name in allowed):
            continue
        raise InputError(
            f"{what} names {reference}, code that would run with your permissions: review it, then give --trust, "
            f"or list its module in the environment variable {ALLOWED}"
        )
