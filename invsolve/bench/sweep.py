"""Ablations: a solver on a task over a grid of settings, computed as the units of a suite."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invsolve.bench.reading import suite_of
from invsolve.bench.store import Store
from invsolve.bench.suite import Suite
from invsolve.bench.table import tables, title
from invsolve.bench.text import cell_text, number, plain_name, shown_metrics
from invsolve.bench.toml_text import toml_value
from invsolve.core.checks import InputError
from invsolve.diagnostics.lines import Panel, line_figure

__all__ = ["Grid", "control_images", "points", "sweep_figure", "sweep_suite", "sweep_table"]

Grid = Mapping[str, Sequence[Any]]
"""The values of each setting."""

LINES = 8
"""Largest number of combinations of the other settings in a panel of the figure; with more, only the best is shown."""


def points(grid: Grid, *, alone: bool = False) -> dict[str, dict[str, Any]]:
    """Return the points of a grid by name, {"n_steps = 10, weight = 1.0": {"n_steps": 10, "weight": 1.0}}.

    Args:
        grid: values by setting.
        alone: change one setting at a time and keep the preset values of the others; else all combinations.

    Raises:
        InputError: if a setting has no value, or a value twice.
    """
    for name, values in grid.items():
        words = [toml_value(value) for value in values]
        if not words or len(set(words)) < len(words):
            raise InputError(f"{name} needs one or more different values, got {', '.join(words) or 'none'}")
    if not grid:
        raise InputError("a sweep needs the values of at least one setting, for example --set weight=0,1,50")
    if alone:
        found = [{name: value} for name, values in grid.items() for value in values]
    else:
        found = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return {", ".join(f"{name} = {toml_value(value)}" for name, value in point.items()): point for point in found}


def sweep_suite(
    solver: str,
    grid: Grid,
    task: Mapping[str, Any],
    *,
    data: Mapping[str, Any],
    prior: Mapping[str, Any],
    run: Mapping[str, Any],
    preset: str = "restore",
    alone: bool = False,
) -> Suite:
    """Make the suite of a sweep, with one row for each point of the grid.

    Args:
        solver: name of the solver.
        grid: values by setting.
        task: "kind", "noise" and options of the task, as in the table of a suite.
        data, prior, run: the tables of the suite.
        preset: source of the other settings, as in a suite.
        alone: see `points`.

    Raises:
        InputError: if a part of it cannot be run.
    """
    rows = [
        {"name": name, "solver": solver, "preset": preset, "settings": point}
        for name, point in points(grid, alone=alone).items()
    ]
    table = {
        "title": f"Sweep of {solver} on {task['kind']}: {', '.join(grid)}",
        "data": dict(data),
        "prior": dict(prior),
        "run": dict(run),
        "tasks": [{"name": task["kind"], **task}],
        "solvers": rows,
    }
    return suite_of(f"sweep-{solver}-{task['kind']}", table)


def sweep_table(store: Store, grid: Grid, *, alone: bool = False) -> str:
    """Format the results as Markdown, in grid order: settings, mean and 95 % interval of each metric, cost."""
    (table,) = tables(store)
    rows = {row.solver: row for row in table.rows}
    metrics = shown_metrics(table)
    head = [*grid, *map(title, metrics), "network calls", "seconds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, point in points(grid, alone=alone).items():
        row = rows[name]
        settings = [toml_value(point[each]).strip('"') if each in point else "" for each in grid]
        cells = [cell_text(row.cells.get(metric)) for metric in metrics]
        if not row.complete:
            cells = [row.note.replace("|", "/"), *[""] * (len(metrics) - 1)][: max(len(metrics), 1)]
        lines.append("| " + " | ".join([*settings, *cells, number(row.calls), number(row.seconds)]) + " |")
    return "\n".join(lines) + "\n"


def sweep_figure(store: Store, grid: Grid, path: str | Path, *, alone: bool = False) -> None:
    """Plot the first metric against each setting, with a line for each combination of the others, or for the best.

    Raises:
        InputError: if no point has a value, or no setting has two values.
    """
    (table,) = tables(store)
    metric = table.ranked_by
    if not metric:
        raise InputError("no point of the sweep has a value: `invsolve bench status --store DIR` says why")
    values = {row.solver: row.cells[metric].value for row in table.rows if row.complete and metric in row.cells}
    found = [(point, values[name]) for name, point in points(grid, alone=alone).items() if name in values]
    panels = [_panel(name, places, found, metric) for name, places in grid.items() if len(places) > 1]
    if not panels:
        raise InputError("a figure needs a setting with two values")
    line_figure(panels, path)


def _panel(name: str, places: Sequence[Any], found: Sequence[tuple[Mapping[str, Any], float]], metric: str) -> Panel:
    """Make the panel of a metric against one setting, from (settings, value) of all points."""
    from invsolve.metrics import metric_named

    numeric = all(isinstance(place, int | float) and not isinstance(place, bool) for place in places)
    at = {toml_value(place): float(place) if numeric else float(i) for i, place in enumerate(places)}
    lines: dict[str, dict[float, float]] = {}
    for point, value in found:
        if name in point:
            others = ", ".join(f"{k} = {toml_value(v)}" for k, v in point.items() if k != name)
            lines.setdefault(others or "_", {})[at[toml_value(point[name])]] = value
    if len(lines) > LINES:
        every = [pair for line in lines.values() for pair in line.items()]
        best = {x: min((v for at_x, v in every if at_x == x), key=metric_named(metric).loss) for x, _ in every}
        lines = {"best of the others": best}
    drawn = {label: (sorted(line), [line[x] for x in sorted(line)]) for label, line in lines.items()}
    wide = numeric and min(at.values()) > 0 and max(at.values()) >= 8 * min(at.values())
    words = () if numeric else tuple(toml_value(place).strip('"') for place in places)
    return Panel("", name, title(metric), drawn, "x" if wide else "", words)


def control_images(store: Store, suite: Suite, folder: Path) -> list[Path]:
    """Write control-NAME.png for each point: estimates and controls during the first unit, which runs once more.

    Raises:
        InputError: if the solver reports no control.
    """
    from invsolve.bench.execute import load_spec_prior
    from invsolve.bench.scoring import load_measurement
    from invsolve.core.driver import solve
    from invsolve.diagnostics.control import ControlImages
    from invsolve.solvers import SOLVERS

    prior = load_spec_prior(suite.prior.name, suite.prior.options)
    first: dict[str, Any] = {}
    for unit in store.units():
        if unit["status"] == "ok":
            first.setdefault(unit["solver"], unit)
    paths = []
    for spec in suite.solvers:
        if spec.name in first:
            unit = first[spec.name]
            problem = load_measurement(store, unit["hash"], unit["measurement"]).problem(prior)
            solver = SOLVERS[spec.solver](**spec.settings[unit["task"]])
            images, item = ControlImages(problem), json.loads(store.content(unit["hash"]))["item"]
            solve(problem, solver, seed=unit["seed"], items=[item], callbacks=[images])
            paths.append(folder / f"control-{plain_name(spec.name.replace(' ', ''))}.png")
            images.figure(paths[-1])
    return paths
