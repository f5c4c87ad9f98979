"""The table by kinds of blurs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.blind.kernels import KINDS, SIZES
from benchmarks.blind.runs import rows_of
from benchmarks.common import markdown

__all__ = ["report", "table"]

RESULTS = Path(__file__).parent / "results"

FOUND = 0.8
"""Correlation of the kernels from which the blur counts as found."""

BELOW = 0.3
"""Decibels under the blurred file from which a restoration counts as worse."""


def report(folder: Path, *, save: bool) -> str:
    """The table of the rows in a folder, written with them into `RESULTS` on request."""
    rows = rows_of(folder)
    text = table(rows)
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "table.md").write_text(text)
        (RESULTS / "rows.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    return text


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each kind, its gains by size; then the same rows by format and in all."""
    sizes = [*SIZES, *sorted({row["size"] for row in rows} - set(SIZES))]
    head = ("blur", "n", *(f"{size} px" for size in sizes), *_HEAD)
    parts = [(kind.name, [row for row in rows if row["kind"] == kind.name]) for kind in KINDS]
    formats = sorted({row["format"] for row in rows}, reverse=True)
    parts += [(form, [row for row in rows if row["format"] == form]) for form in formats]
    parts.append(("all", list(rows)))
    lines = [[name, len(part), *(_gain(part, size) for size in sizes), *_line(part)] for name, part in parts if part]
    silent = [row for row in rows if _worse(row) and not row["warnings"]]
    text = markdown(head, lines) + f"\nWorse than the file by more than {BELOW} dB without a warning: "
    return text + ("; ".join(f"{row['kind']} {row['size']}, {row['image']}" for row in silent) or "none") + ".\n"


_HEAD = ("blurred", "blind", "known kernel", "gain", f"correlation > {FOUND}", "warned", "warned though found", "worse",
         "worse, silent", "CPU s")  # fmt: skip


def _line(rows: Sequence[dict[str, Any]]) -> list[str]:
    means = [f"{statistics.fmean(row[key] for row in rows):.2f}" for key in ("blurred", "blind", "known")]
    found = [row["correlation"] > FOUND for row in rows]
    counts = (
        sum(bool(row["warnings"]) for row in rows),
        sum(bool(row["warnings"]) and good for row, good in zip(rows, found, strict=True)),
        sum(map(_worse, rows)),
        sum(_worse(row) and not row["warnings"] for row in rows),
    )
    gain = statistics.fmean(row["blind"] - row["blurred"] for row in rows)
    seconds = statistics.fmean(row["seconds"] for row in rows)
    return [*means, f"{gain:+.2f}", f"{100 * sum(found) / len(rows):.0f} %", *map(str, counts), f"{seconds:.0f}"]


def _gain(rows: Sequence[dict[str, Any]], size: int) -> str:
    gains = [row["blind"] - row["blurred"] for row in rows if row["size"] == size]
    return f"{statistics.fmean(gains):+.2f}" if gains else ""


def _worse(row: dict[str, Any]) -> bool:
    return row["blind"] < row["blurred"] - BELOW
