"""Changes of the command line to a suite: --set PART.NAME=VALUE."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from invsolve.core.checks import InputError, nearest

__all__ = ["overridden"]


def overridden(table: dict[str, Any], overrides: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Change the table of a suite, and return it.

    Args:
        table: the suite, whose parts are tables and lists of tables.
        overrides: see `invsolve.bench.reading.load_suite`.

    Raises:
        InputError: if a change has no effect; the message suggests the nearest name.
    """
    for key, value in overrides:
        where, dot, setting = key.partition(".")
        if not dot:
            raise InputError(f"--set takes PART.NAME=VALUE, for example solver.n_steps=20 or data.items=2, got {key!r}")
        if where in ("data", "prior", "run"):
            table.setdefault(where, {})[setting] = value
            continue
        tasks = table.get("tasks", [])
        if where == "task" or where in [row.get("name") for row in tasks]:
            _override_tasks([row for row in tasks if where in ("task", row.get("name"))], key, setting, value)
            continue
        rows = table.get("solvers", [])
        chosen = [row for row in rows if where == "solver" or row.get("name") == where]
        if where == "solver":
            chosen = [row for row in chosen if setting in _settings_of(row)]
        if not chosen:
            known = ["data", "prior", "run", "task", "solver", *(str(row.get("name")) for row in rows)]
            offered = sorted({name for row in rows for name in _settings_of(row)})
            words = f"none of its solvers has the setting {setting!r}; {nearest(setting, offered)}"
            reason = words if where in known else nearest(where, known)
            raise InputError(f"--set {key} changes nothing in this suite; {reason}")
        for row in chosen:
            row["settings"] = {**row.get("settings", {}), setting: value}
    return table


def _override_tasks(rows: Sequence[dict[str, Any]], key: str, setting: str, value: Any) -> None:
    """Change an option of the tasks that have it."""
    from invsolve.bench.tasks import kinds, option_names

    options = {
        i: ["noise", *(option_names(row["kind"]) if row.get("kind") in kinds() else [])] for i, row in enumerate(rows)
    }
    chosen = [row for i, row in enumerate(rows) if setting in options[i]]
    if not chosen:
        offered = sorted({name for names in options.values() for name in names})
        raise InputError(
            f"--set {key} changes nothing in this suite; none of its tasks has the option {setting!r}; "
            f"{nearest(setting, offered)}"
        )
    for row in chosen:
        row[setting] = value


def _settings_of(row: Mapping[str, Any]) -> list[str]:
    """Return the setting names of the solver of a row; none for peers and baselines."""
    from invsolve.solvers import SOLVERS

    name = row.get("solver", row.get("name"))
    if "peer" in row or row.get("baseline", False) or not SOLVERS.accepts(name):
        return []
    return [f.name for f in dataclasses.fields(SOLVERS[name])]
