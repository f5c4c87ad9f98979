"""The table by kind of blur."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.blind.design import FORMATS
from benchmarks.blind.figure import figure
from benchmarks.blind.kernels import KINDS, SIZES
from benchmarks.common import markdown, rows_of
from invsolve.restoration.record import UNCHANGED

__all__ = ["report", "table"]

RESULTS = Path(__file__).parent / "results"
FIGURE = Path(__file__).parents[2] / "docs" / "images" / "blind.jpg"

FOUND = 0.8
"""Correlation of the kernels above which the blur counts as found."""

BELOW = 0.3
"""Difference in dB above which a restoration counts as worse, or better, than the blurred file."""


def report(folder: Path, *, save: bool) -> str:
    """The table of the rows in a folder; with `save`, write table and rows to `RESULTS` and draw the figure."""
    rows = rows_of(folder)
    text = table(rows)
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "table.md").write_text(text)
        (RESULTS / "rows.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
        figure(folder).save(FIGURE, quality=85, optimize=True)
    return text


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each kind of blur with its gains over the blurred file by size, then lines by format and for all.

    "Returned, better" counts the images that were returned unchanged although the restoration was better.
    """
    parts = [(kind.name, [row for row in rows if row["kind"] == kind.name]) for kind in KINDS]
    parts += [(form, [row for row in rows if row["format"] == form]) for form in FORMATS]
    parts.append(("all", list(rows)))
    text = markdown(_HEAD, [[name, *_line(part)] for name, part in parts if part])
    silent = [row for row in rows if _worse(row, "blind") and not row["warnings"]]
    told = [row for row in rows if _worse(row, "known")]
    seconds = statistics.median(row["seconds"] for row in rows)
    return (
        f"{text}\nWorse than the file by more than {BELOW} dB, and silent: {_listed(silent)}.\n"
        f"Worse than the file with the true kernel: {_listed(told)}.\n"
        f"Blind restorations took {seconds:.0f} CPU seconds (median).\n"
    )


def _listed(rows: Sequence[dict[str, Any]]) -> str:
    return "; ".join(f"{row['kind']} {row['size']}, {row['image']}, {row['format']}" for row in rows) or "none"


_HEAD = (
    "blur", "n", *(f"{size} px" for size in SIZES), "all sizes", "true kernel", "found", "warned", "returned",
    "returned, better", "worse, silent",
)  # fmt: skip


def _line(rows: Sequence[dict[str, Any]]) -> list[str]:
    by_size = [_gain([row for row in rows if row["size"] == size]) for size in SIZES]
    found = [row["correlation"] > FOUND for row in rows]
    returned = [row for row in rows if row["estimate"] == UNCHANGED]
    counts = (
        sum(bool(row["warnings"]) for row in rows),
        len(returned),
        sum(row["unchecked"] > row["blurred"] + BELOW for row in returned),
        sum(_worse(row, "blind") and not row["warnings"] for row in rows),
    )
    share = f"{100 * sum(found) / len(rows):.0f} %"
    return [str(len(rows)), *by_size, _gain(rows), _gain(rows, "known"), share, *map(str, counts)]


def _gain(rows: Sequence[dict[str, Any]], restored: str = "blind") -> str:
    return f"{statistics.fmean(row[restored] - row['blurred'] for row in rows):+.2f}" if rows else ""


def _worse(row: dict[str, Any], restored: str) -> bool:
    return row[restored] < row["blurred"] - BELOW
