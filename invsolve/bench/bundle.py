"""Export of results: rows as CSV or Parquet, a bundle for submission, and paired comparisons of two stores."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

from invsolve.bench.outcomes import digest_of, read_checked
from invsolve.bench.statistics import bootstrap_interval, holm, paired_test
from invsolve.bench.store import Store
from invsolve.bench.table import tables
from invsolve.bench.text import markdown, number, sheet_text
from invsolve.core.checks import InputError
from invsolve.core.files import destination, write_whole, written_whole
from invsolve.io import check_target
from invsolve.metrics import METRICS, image_metric

__all__ = ["RESULT", "UNIT", "compare", "export", "index", "rows_csv", "submit"]

COLUMNS = (
    "hash", "task", "solver", "item", "seed", "status", "error", "forwards", "backwards", "seconds", "memory",
    "environment", "measurement",
)  # fmt: skip

UNIT = "hash", "measurement", "item", "task", "solver", "seed"
RESULT = "status", "error", "forwards", "backwards", "seconds", "memory", "environment", "digest"


def _flat(store: Store) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns, and one row for each active unit with its scores."""
    scores: dict[str, dict[str, float]] = {}
    names: dict[str, None] = {}
    units = store.units()
    active = {unit["hash"] for unit in units}
    for unit, metric, value, _, implementation in store.query("scores"):
        if unit not in active:
            continue
        column = f"{metric} [{implementation}]"
        names.setdefault(column)
        scores.setdefault(unit, {})[column] = value
    rows = [{**{c: unit[c] for c in COLUMNS}, **scores.get(unit["hash"], {})} for unit in units]
    return [*COLUMNS, *names], rows


def _csv(columns: list[str], rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: sheet_text(value) for key, value in row.items()} for row in rows)
    return text.getvalue().encode()


def export(folder: Path, out: Path, *, overwrite: bool = False) -> int:
    """Write every active unit with its scores to a file, and return the number of units.

    Args:
        folder: the folder of the store.
        out: a file that ends in .csv or .parquet.
        overwrite: replace an existing file.

    Raises:
        InputError: for another file ending, a missing folder, an existing file without `overwrite`, or Parquet without
            pyarrow.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"{out} ends neither in .csv nor in .parquet")
    check_target(out, overwrite=overwrite)
    with Store.reading(folder) as store:
        columns, rows = _flat(store)
    if out.suffix == ".csv":
        write_whole(destination(out), _csv(columns, rows))
        return len(rows)
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("Parquet needs pyarrow: pip install 'invsolve[bench]', or export to .csv") from error
    content = {column: [row.get(column) for row in rows] for column in columns}
    with written_whole(out) as part:
        pyarrow.parquet.write_table(pyarrow.table(content), part)
    return len(rows)


def submit(folder: Path, out: Path, *, overwrite: bool = False) -> Path:
    """Pack index, rows, tables, suite and the digests of all outputs into a ZIP file with a manifest.

    `invsolve.bench.checking.check_bundle` checks that they are consistent.

    Raises:
        InputError: if `out` is not a .zip file in an existing folder, is another file than this bundle and `overwrite`
            is not set, the suite is incomplete, or an output is damaged.
    """
    if out.suffix != ".zip" or not out.parent.is_dir():
        raise InputError(f"name a .zip file in a folder that exists, got {out}")
    with Store.reading(folder) as store:
        units = store.units()
        missing = sum(unit["status"] is None for unit in units)
        if missing:
            raise InputError(f"{missing} of {len(units)} units have not run: finish the suite before submitting it")
        for unit in {unit["hash"]: unit for unit in units}.values():
            read_checked(store.output_path(unit["hash"]), unit["digest"])
        about = {"suite": store.meta("suite"), "description": store.meta("description")}
        files = {
            "index.json": json.dumps(index(store), indent=1).encode(),
            "rows.csv": rows_csv(store),
            "tables.md": markdown(tables(store)).encode(),
            "suite.toml": str(store.meta("source")).encode(),
            "about.json": json.dumps(about, indent=1).encode(),
        }
    files["manifest.json"] = json.dumps({name: digest_of(c) for name, c in files.items()}, indent=1).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    content = packed.getvalue()
    check_target(out, overwrite=overwrite or (out.is_file() and out.read_bytes() == content))
    write_whole(destination(out), content)
    return out


def index(store: Store) -> dict[str, Any]:
    """Return all data behind the tables, as lists of plain values."""
    units = store.units()
    once = {unit["hash"]: unit for unit in units}
    return {
        "contents": {hash: store.content(hash) for hash in once},
        "units": [[unit[name] for name in UNIT] for unit in units],
        "outcomes": {hash: {name: unit[name] for name in RESULT} for hash, unit in once.items()},
        "scores": [list(row) for row in store.query("scores") if row["unit"] in once],
        "set_scores": [list(row) for row in store.query("set scores")],
        "notes": [list(row) for row in store.query("notes")],
        "environments": {row["hash"]: row["content"] for row in store.query("environments")},
    }


def rows_csv(store: Store) -> bytes:
    """Return the content of `rows.csv` for a store."""
    return _csv(*_flat(store))


def compare(first: Path, second: Path, metric: str) -> str:
    """Compare two stores by paired differences second - first of a metric, by task and solver, over common units.

    Units are paired by item and seed if they have the same measurement.

    Raises:
        InputError: if the metric is unknown, the stores have nothing in common, or their scores of a pair were computed
            by different implementations.
    """
    if image_metric(metric) is None:
        from invsolve.core.checks import nearest

        raise InputError(f"unknown metric {metric!r}; {nearest(metric, METRICS)}")
    scores = []
    for folder in (first, second):
        with Store.reading(folder) as store:
            scores.append({tuple(row)[:5]: row for row in store.query("values", metric)})
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    for key, row in scores[0].items():
        if (other := scores[1].get(key)) is None:
            continue
        one, two = row["implementation"], other["implementation"]
        if one != two:
            raise InputError(
                f"{metric} of {first} is by {one}, that of {second} by {two}: "
                "score both again with `invsolve bench score`"
            )
        group = groups.setdefault((row["task"], row["solver"]), {})
        group.setdefault(row["item"], []).append(other["value"] - row["value"])
    if not groups:
        raise InputError(f"{first} and {second} have no unit with {metric} and the same measurement in common")
    means = {key: [sum(v) / len(v) for v in group.values()] for key, group in groups.items()}
    adjusted = holm([paired_test(v) for v in means.values()])
    lines = [f"{metric}: {second} minus {first} (95 % interval; p-values corrected by Holm's method)"]
    for ((task, solver), v), p in zip(means.items(), adjusted, strict=True):
        low, high = bootstrap_interval(v)
        interval = f"[{low:+.4f}, {high:+.4f}]" if math.isfinite(low) else ""
        lines.append(f"  {task:16} {solver:24} {sum(v) / len(v):+.4f} {interval} p {number(p)}  {len(v)} items")
    return "\n".join(lines) + "\n"
