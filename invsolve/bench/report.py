"""The leaderboard page of a suite: a folder with one HTML file and its images, without a server or network access."""

from __future__ import annotations

import json
import logging
import math
import shlex
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.figures import pareto_svg
from invsolve.bench.outcomes import Damaged
from invsolve.bench.reading import load_suite, shipped
from invsolve.bench.scoring import load_measurement, operators_in, restored
from invsolve.bench.store import Store
from invsolve.bench.table import Row, Table, tables, title
from invsolve.bench.text import (
    MISSING,
    difference_text,
    lacks,
    latex,
    markdown,
    number,
    plain_name,
    published_value,
    rank_text,
    shown_metrics,
)
from invsolve.bench.trust import check_trusted, code_in
from invsolve.bench.written import check_unwritten, write_files
from invsolve.core.checks import InputError
from invsolve.core.citation import papers
from invsolve.core.files import write_whole
from invsolve.io import Image, encode_image
from invsolve.metrics import metric_named
from invsolve.solvers import SOLVERS

__all__ = ["write_report"]

logger = logging.getLogger(__name__)

FAILURES = 500
"""Largest number of failures that the page shows with their traceback."""

WHITE = 0.25
"""The absolute error or standard deviation that is white in the maps."""


def write_report(
    folder: Path, out: Path | None = None, *, images: int = 6, trust: bool = False, overwrite: bool = False
) -> Path:
    """Write the page, its images, the tables as Markdown and LaTeX, and the papers of the methods as BibTeX.

    Args:
        folder: the folder of the store.
        out: folder of the page; STORE/report if None.
        images: number of items of each task whose restorations are shown.
        trust: whether operators may be code that the store names.
        overwrite: also replace files that no earlier report wrote, or that were edited since.

    Returns:
        The path of the page.

    Raises:
        InputError: if there are no results, the folder cannot be created, it has such files and `overwrite` is not set,
            or the store names code that is not trusted.
    """
    out = folder / "report" if out is None else out
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be used for the page: {error.strerror}") from error
    with Store.reading(folder) as store:
        check_trusted(folder, operators_in(store), trust=trust)
        copy = f"{plain_name(store.meta('suite'))}.toml"
        check_unwritten(out, ("index.html", "tables.md", "tables.tex", "references.bib", copy), overwrite=overwrite)
        found = tables(store)
        again = _again(store)
        context = _context(store, found, _items(store, out, again, images), again)
    contents = {
        "index.html": _rendered(context),
        "tables.md": markdown(found),
        "tables.tex": latex(found),
        "references.bib": references(context["about"]),
        copy: context["toml"],
    }
    write_files(out, {name: text.encode() for name, text in contents.items()})
    return out / "index.html"


def references(about: Mapping[str, Any]) -> str:
    """Return the papers of the solvers as BibTeX; a comment for a solver without a paper or from the suite's code."""
    entries: dict[str, str] = {}
    for name in sorted({row["solver"] for row in about["solvers"] if row["method"] == "solver"}):
        if name not in SOLVERS:
            entries[name] = f"% {' '.join(name.split())}: code of the suite"
            continue
        try:
            entries |= {paper.key: paper.bibtex() for paper in papers(SOLVERS[name])}
        except InputError as error:  # a solver of a plug-in
            entries[name] = f"% {name}: {error}"
    return "\n\n".join(entries.values()) + "\n"


def _rendered(context: Mapping[str, Any]) -> str:
    import jinja2

    page = files("invsolve") / "bench" / "page"
    text = {name: (page / name).read_text(encoding="utf-8") for name in ("page.html", "style.css", "script.js")}
    engine = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return engine.from_string(text["page.html"]).render(
        **context, style=text["style.css"], script=text["script.js"], number=number, finite=math.isfinite
    )


def _again(store: Store) -> list[str]:
    """Return the words of a command that repeats the suite in a new folder, by name if it is unchanged."""
    name = store.meta("suite")
    known = name in shipped() and load_suite(name).source == store.meta("source")
    return ["invsolve", "bench", "run", name if known else f"{plain_name(name)}.toml", "--store", "again"]


def _context(store: Store, found: list[Table], items: dict[str, Any], again: list[str]) -> dict[str, Any]:
    """Return everything that the template shows."""
    about = store.meta("description")
    notes = {row["metric"]: row["note"] for row in store.query("notes")}
    failures, used = store.query("failures"), store.query("environments")
    return {
        "about": about,
        "suite": store.meta("suite"),
        "tables": [_table(table, again) for table in found],
        "metrics": [_metric(name, notes.get(name, "")) for name in about["metrics"]],
        "failures": [dict(row) for row in failures[:FAILURES]],
        "failed": len(failures),
        "environments": [{**json.loads(row["content"]), "units": row["units"]} for row in used],
        "toml": store.meta("source"),
        "again": shlex.join(again),
        "store": shlex.quote(store.folder.name),
        "data": json.dumps(items, separators=(",", ":")).replace("<", "\\u003c"),
        "code": code_in(tomllib.loads(store.meta("source"))),
    }


def _metric(name: str, note: str) -> dict[str, str]:
    return {"name": name, "title": title(name), "implementation": metric_named(name).implementation(), "note": note}


def _table(table: Table, again: list[str]) -> dict[str, Any]:
    metrics = shown_metrics(table)
    rows = [_row(row, metrics, table.missing, table.task, again) for row in table.rows]
    published = [
        {
            "solver": row["solver"],
            "note": row.get("note", ""),
            "cells": [published_value(row, name) for name in metrics],
            "seconds": row.get("seconds"),
        }
        for row in table.published
    ]
    plots = []
    if table.ranked_by:
        plots = [pareto_svg(table.rows, table.ranked_by, axis) for axis in ("calls", "seconds")]
    words = "not run by this suite"
    if table.spec is not None:
        options = ", ".join(f"{key} {value}" for key, value in table.spec["options"].items())
        words = f"{table.spec['kind']}" + (f", {options}" if options else "") + f", noise {table.spec['noise']:g}"
        words += f"; ranked by {title(table.ranked_by)}" if table.ranked_by else ""
    return {
        "task": table.task,
        "words": words,
        "heads": [title(name) for name in metrics],
        "rows": rows,
        "published": published,
        "plots": [plot for plot in plots if plot],
    }


def _row(row: Row, metrics: list[str], missing: frozenset[str], task: str, again: list[str]) -> dict[str, Any]:
    command = [*again, "--only", f"task={task}", "--only", f"solver={row.solver}"]
    return {
        "row": row,
        "rank": rank_text(row),
        "behind": f"From the best, paired: {difference_text(row.behind)}, p {number(row.p)}" if row.behind else "",
        "cells": [MISSING if lacks(missing, row, name) else row.cells.get(name) for name in metrics],
        "command": shlex.join(command),
    }


def _items(store: Store, out: Path, again: list[str], count: int) -> dict[str, Any]:
    """Write the images of the first items; return {task: [{name, truth, input, results: {solver: ...}}]}."""
    shown: dict[str, dict[tuple[str, int], list[Any]]] = {}
    for unit in store.units():
        task = shown.setdefault(unit["task"], {})
        key = (unit["item"], unit["seed"])
        if key in task or len(task) < count:
            task.setdefault(key, []).append(unit)
    found: dict[str, Any] = {}
    for task, items in shown.items():
        found[task] = [_item(store, out, again, key, units) for key, units in items.items()]
    return found


def _item(store: Store, out: Path, again: list[str], key: tuple[str, int], units: list[Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": key[0], "seed": key[1], "results": {}}
    measurement = _measurement(store, units)
    if measurement is not None:
        mark = units[0]["measurement"][:16]
        entry["truth"] = _write(out, f"{mark}-truth", measurement.truth)
        entry["input"] = _write(out, f"{mark}-input", measurement.shown())
        if "kernel" in measurement.drawn:
            entry["kernel"] = _write(out, f"{mark}-kernel", _kernel(measurement.drawn["kernel"]))
    for unit in units:
        status = unit["status"] or "missing"
        result: dict[str, Any] = {"status": status, "error": unit["error"] or "", "unit": unit["hash"]}
        if status == "ok" and measurement is not None:
            try:
                result |= _images(store, out, unit, measurement)
            except Damaged as error:
                logger.warning("%s is not shown: %s", "/".join((unit["task"], unit["solver"], unit["item"])), error)
                result |= {"status": "damaged", "error": "its stored file is damaged: run the suite again"}
            rows = store.query("scores of a unit", unit["hash"])
            result["scores"] = {row["metric"]: row["value"] for row in rows}
        result["command"] = shlex.join([*again, "--only", f"unit={unit['hash']}"])
        entry["results"][unit["solver"]] = result
    return entry


def _measurement(store: Store, units: list[Any]) -> Any:
    """Load the measurement of these units; None if it is missing or damaged."""
    if not store.measurement_path(units[0]["measurement"]).is_file():
        return None
    try:
        return load_measurement(store, units[0]["hash"], units[0]["measurement"])
    except Damaged as error:
        logger.warning("the measurement of %s/%s is not shown: %s", units[0]["task"], units[0]["item"], error)
        return None


def _images(store: Store, out: Path, unit: Any, measurement: Any) -> dict[str, str]:
    """Write the images of a restoration: first sample, its error, mean and deviation of samples, estimated kernel."""
    with torch.no_grad():
        images, _, tensors = restored(store, unit["hash"], measurement)
    mark = f"{unit['hash'][:16]}-{unit['digest'][:8]}"
    error = (images[0].clamp(0, 1) - measurement.truth.clamp(0, 1)).abs().mean(0, keepdim=True)
    made = {"image": _write(out, mark, images[0]), "error_map": _write(out, f"{mark}-error", error / WHITE)}
    if len(images) > 1:
        made["mean"] = _write(out, f"{mark}-mean", images.mean(0))
        made["std"] = _write(out, f"{mark}-std", images.std(0).mean(0, keepdim=True) / WHITE)
    if "theta.kernel" in tensors:
        made["kernel"] = _write(out, f"{mark}-kernel", _kernel(tensors["theta.kernel"][0]))
    return made


def _kernel(kernel: Tensor) -> Tensor:
    return (kernel / kernel.max().clamp_min(1e-12)).reshape(1, *kernel.shape[-2:])


def _write(out: Path, name: str, pixels: Tensor) -> str:
    """Write an image unless it exists; equal names mean equal content."""
    path = out / "images" / f"{name}.png"
    if not path.is_file():
        write_whole(path, encode_image(Image(pixels.float().clamp(0, 1).contiguous()), path))
    return f"images/{path.name}"
