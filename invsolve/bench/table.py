"""The tables of a suite: one table per task, one row per solver; complete rows are ranked."""

from __future__ import annotations

import math
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import Any

from invsolve.bench.statistics import bootstrap_interval, holm, paired_test, pareto_front, rank_intervals
from invsolve.bench.store import Store
from invsolve.bench.unit import set_mark
from invsolve.metrics import SET_METRICS, image_metric, metric_named

__all__ = ["Cell", "Row", "Table", "published_rows", "tables"]


@dataclass(frozen=True)
class Cell:
    """A mean over items with its 95 % interval; `of_mean` is the value for the mean image of the samples."""

    value: float
    low: float = math.nan
    high: float = math.nan
    of_mean: float = math.nan


@dataclass
class Row:
    """A solver on a task.

    Attributes:
        solver: name of the row.
        counts: number of units by status, "missing" for units that have not run.
        cells: cells by metric; empty unless the row is complete.
        rank, rank_low, rank_high: rank by the metric of the table, and its interval; 0 if unranked.
        behind: mean paired difference from the best row in that metric, with its interval; None for the best row.
        p: adjusted p-value of that difference.
        forwards, backwards, seconds, memory: means over units (memory: the maximum).
        note: the reason why the row is not ranked.
        front: whether the row is on the Pareto front of that metric against network calls, and against seconds.
    """

    solver: str
    method: str
    samples: int
    preset: str
    counts: dict[str, int]
    cells: dict[str, Cell] = field(default_factory=dict)
    rank: int = 0
    rank_low: int = 0
    rank_high: int = 0
    behind: Cell | None = None
    p: float = math.nan
    forwards: float = math.nan
    backwards: float = math.nan
    seconds: float = math.nan
    memory: float = math.nan
    note: str = ""
    front: tuple[bool, bool] = (False, False)

    @property
    def total(self) -> int:
        """The number of units."""
        return sum(self.counts.values())

    @property
    def complete(self) -> bool:
        """Whether all units have succeeded."""
        return self.counts.get("ok", 0) == self.total

    @property
    def calls(self) -> float:
        """Network calls per sample: forward passes plus twice the backward passes."""
        return self.forwards + 2 * self.backwards


@dataclass(frozen=True)
class Table:
    """The rows of a task, ranked rows first.

    Attributes:
        task: name of the task.
        spec: kind, noise and options of the task; None if it has only published rows and the suite does not run it.
        metrics: the metrics of the suite, in order.
        missing: the metrics whose weights are not on this machine.
        ranked_by: the first metric of single images that has a value; "" if there is none.
        rows: the measured rows.
        published: the published rows.
    """

    task: str
    spec: Mapping[str, Any] | None
    metrics: tuple[str, ...]
    missing: frozenset[str]
    ranked_by: str
    rows: list[Row]
    published: list[dict[str, Any]]


def tables(store: Store) -> list[Table]:
    """Return the tables of all tasks, from the index alone."""
    about = store.meta("description")
    names = [name for name in about["metrics"] if image_metric(name) or name in SET_METRICS]
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in store.units():
        groups[row["task"], row["solver"]].append(row)
    scores = _scores(store)
    missing = frozenset(row["metric"] for row in store.query("notes"))
    sets: dict[tuple[str, str], dict[str, Cell]] = defaultdict(dict)
    marks = {key: set_mark([unit["hash"] for unit in units]) for key, units in groups.items()}
    for row in store.query("set scores"):
        if row["of"] != marks.get((row["task"], row["solver"])):  # computed for other images or settings
            continue
        sets[row["task"], row["solver"]][row["metric"]] = Cell(math.nan if row["value"] is None else row["value"])
    found, published = [], dict(published_rows(about["published"]))
    for task in about["tasks"]:
        rows, items = [], {}
        for solver in about["solvers"]:
            units = groups.get((task["name"], solver["name"]))
            if units:
                row, values = _row(solver, units, scores, names)
                if row.complete:
                    row.cells |= {k: v for k, v in sets[task["name"], solver["name"]].items() if k in names}
                rows.append(row)
                items[row.solver] = values
        ranked_by = next((name for name in names if any(map(partial(_has, name), rows))), "")
        _rank(rows, items, ranked_by)
        theirs = published.pop(task["name"], [])
        found.append(Table(task["name"], task, tuple(names), missing, ranked_by, _ordered(rows), theirs))
    return found + [Table(name, None, tuple(names), missing, "", [], rows) for name, rows in published.items()]


def _scores(store: Store) -> dict[str, dict[str, tuple[float, float]]]:
    """Return {unit: {metric: (value, value of the mean image)}}."""
    found: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for unit, metric, value, mean, _ in store.query("scores"):
        found[unit][metric] = (math.nan if value is None else value, math.nan if mean is None else mean)
    return found


def _row(
    solver: Mapping[str, Any], units: Sequence[Any], scores: Mapping[str, Any], names: Sequence[str]
) -> tuple[Row, dict[str, dict[str, float]]]:
    """Return a row, and {metric: {item: mean over its seeds}}."""
    counts: dict[str, int] = defaultdict(int)
    for unit in units:
        counts[unit["status"] or "missing"] += 1
    row = Row(solver["name"], solver["method"], solver["samples"], solver["preset"], dict(counts))
    whole = [unit for unit in units if unit["status"] == "ok"]
    for name in ("forwards", "backwards", "seconds"):
        values = [unit[name] for unit in whole if unit[name] is not None]
        setattr(row, name, sum(values) / len(values) if values else math.nan)
    row.memory = max((unit["memory"] or 0 for unit in whole), default=math.nan)
    values = {}
    if not row.complete:
        row.note = _note(units, row)
        return row, values
    for name in names:
        if image_metric(name) is None:
            continue
        each: dict[str, list[float]] = defaultdict(list)
        means = []
        for unit in units:
            value, mean = scores.get(unit["hash"], {}).get(name, (math.nan, math.nan))
            each[unit["item"]].append(value)
            means.append(mean)
        values[name] = {item: sum(v) / len(v) for item, v in each.items()}
        inside = list(values[name].values())
        mean = sum(inside) / len(inside)
        row.cells[name] = Cell(mean, *bootstrap_interval(inside), sum(means) / len(means))
    return row, values


def _note(units: Sequence[Any], row: Row) -> str:
    counts = row.counts
    error = next((unit["error"] for unit in units if unit["status"] in ("failed", "unable")), None)
    if counts.get("unable", 0) == row.total:
        return f"cannot do this task: {error}"
    words = f"incomplete: {counts.get('ok', 0)} of {row.total}"
    parts = [f"{counts[name]} {name}" for name in ("failed", "unable", "missing") if counts.get(name)]
    return f"{words} ({', '.join(parts)})" + (f"; {error}" if error else "")


def _has(metric: str, row: Row) -> bool:
    """Whether a row has a mean of a metric of single images."""
    return image_metric(metric) is not None and metric in row.cells and math.isfinite(row.cells[metric].value)


def _rank(rows: Sequence[Row], items: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str) -> None:
    """Set the ranks by a metric, their intervals, tests against the best row, and the Pareto fronts."""
    ranked = [row for row in rows if _has(metric, row)]
    if not ranked:
        return
    loss = metric_named(metric).loss
    order = sorted(ranked, key=lambda row: loss(row.cells[metric].value))
    names = list(items[order[0].solver][metric])
    losses = [[loss(items[row.solver][metric][name]) for name in names] for row in order]
    for place, (row, (low, high)) in enumerate(zip(order, rank_intervals(losses), strict=True)):
        row.rank, row.rank_low, row.rank_high = place + 1, low, high
    tests = [paired_test([a - b for a, b in zip(row, losses[0], strict=True)]) for row in losses[1:]]
    best = items[order[0].solver][metric]
    for row, p in zip(order[1:], holm(tests), strict=True):
        differences = [items[row.solver][metric][name] - best[name] for name in names]
        row.behind = Cell(sum(differences) / len(differences), *bootstrap_interval(differences))
        row.p = p
    values = [loss(row.cells[metric].value) for row in order]
    calls = pareto_front([row.calls for row in order], values)
    seconds = pareto_front([row.seconds for row in order], values)
    for row, front in zip(order, zip(calls, seconds, strict=True), strict=True):
        row.front = front


def _ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.rank or math.inf)


def published_rows(section: str) -> dict[str, list[dict[str, Any]]]:
    """Return {task: rows of published numbers}; the tables mark these rows as published."""
    if not section:
        return {}
    text = (files("invsolve") / "bench" / "published.toml").read_text(encoding="utf-8")
    return tomllib.loads(text).get(section, {})


def title(metric: str) -> str:
    """Return the column title of a metric, with an arrow towards better values."""
    known = metric_named(metric)
    arrow = {"high": " ↑", "low": " ↓", "target": f" → {known.target:g}"}[known.better]
    return known.title + arrow
