"""Tables as text: Markdown, LaTeX and terminal output."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from invsolve.bench.store import Store
from invsolve.bench.table import Cell, Row, Table, title

__all__ = [
    "MISSING",
    "cell_text",
    "lacks",
    "latex",
    "markdown",
    "plain_name",
    "sheet_text",
    "shown_metrics",
    "status_text",
]

MISSING = "weights missing"


def status_text(store: Store) -> str:
    """Describe a store: units by status for each task and solver, first error messages, metrics without weights."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    errors: dict[tuple[str, str], str] = {}
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for unit in store.units():
        key = (unit["task"], unit["solver"])
        counts[key][unit["status"] or "missing"] += 1
        if unit["error"]:
            errors.setdefault(key, unit["error"])
        if unit["status"] == "ok":
            seconds[key].append(unit["seconds"])
    total = sum(counts.values(), Counter())
    lines = [f"{store.meta('suite')}: " + ", ".join(f"{n} {name}" for name, n in sorted(total.items()))]
    for (task, solver), count in counts.items():
        known = seconds[task, solver]
        mean = f"{sum(known) / len(known):8.2f} s per unit" if known else ""
        words = ", ".join(f"{n} {name}" for name, n in sorted(count.items()))
        lines.append(f"  {task:16} {solver:24} {words:28} {mean}")
        if (task, solver) in errors:
            lines.append(f"    {errors[task, solver][:160]}")
    lines += [f"  {row['metric']}: {row['note']}" for row in store.query("notes")]
    return "\n".join(lines) + "\n"


def plain_name(name: str) -> str:
    """Convert a name to a safe file name of letters, digits, ".", "-" and "_"."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".")[:100] or "suite"


def sheet_text(value: Any) -> Any:
    """Escape a value for a spreadsheet, so that text is not read as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else value


def shown_metrics(table: Table) -> list[str]:
    """Return the metrics with a number in a measured or published row, or whose weights are missing."""
    return [
        name
        for name in table.metrics
        if any(name in row.cells and math.isfinite(row.cells[name].value) for row in table.rows)
        or any(published_value(row, name) is not None for row in table.published)
        or (name in table.missing and table.rows)
    ]


def published_value(row: dict[str, float], metric: str) -> float | None:
    """Return the published number of a metric; published LPIPS counts for every LPIPS metric."""
    return row.get("lpips" if metric.startswith("lpips") else metric)


def number(value: float) -> str:
    """Format a value with a suitable number of digits."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 1e5:
        return f"{value:.2e}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2g}"


def cell_text(cell: Cell | None) -> str:
    """Format a mean with its interval."""
    if cell is None or not math.isfinite(cell.value):
        return "–"
    interval = f" [{number(cell.low)}, {number(cell.high)}]" if math.isfinite(cell.low) else ""
    return number(cell.value) + interval


def difference_text(cell: Cell) -> str:
    """Format a paired difference with its interval, with signs."""
    interval = f" [{cell.low:+.3g}, {cell.high:+.3g}]" if math.isfinite(cell.low) else ""
    return f"{cell.value:+.3g}{interval}"


def rank_text(row: Row) -> str:
    """Format a rank with its interval."""
    if not row.rank:
        return "–"
    return str(row.rank) if row.rank_low == row.rank_high else f"{row.rank} ({row.rank_low}–{row.rank_high})"


def lacks(missing: Collection[str], row: Row, metric: str) -> bool:
    """Whether a row has no score of a metric because the weights of the metric are missing."""
    cell = row.cells.get(metric)
    return metric in missing and (cell is None or math.isnan(cell.value))


def _rows(table: Table) -> tuple[list[str], list[list[str]]]:
    metrics = shown_metrics(table)
    head = ["rank", "solver", *map(title, metrics), "network calls", "seconds", "p against best"]
    rows = []
    for row in table.rows:
        cells = [MISSING if lacks(table.missing, row, name) else cell_text(row.cells.get(name)) for name in metrics]
        if not row.complete:
            cells = [row.note, *[""] * (len(metrics) - 1)] if metrics else []
        rows.append([rank_text(row), row.solver, *cells, number(row.calls), number(row.seconds), number(row.p)])
    for published in table.published:
        values = [published_value(published, name) for name in metrics]
        cells = ["–" if value is None else f"{value:g}" for value in values]
        seconds = published.get("seconds")
        note = f" ({published['note']})" if "note" in published else ""
        rows.append(["published", published["solver"] + note, *cells, "–", f"{seconds:g}" if seconds else "–", "–"])
    return head, rows


def markdown(tables: Sequence[Table]) -> str:
    """Format all tables as Markdown; published rows are marked."""
    lines = []
    for table in tables:
        head, rows = _rows(table)
        lines += [f"## {_marked(table.task)}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(map(_marked, row)) + " |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _marked(text: str) -> str:
    """Escape text for a line of Markdown: no mark-up, no HTML, no links."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|#~]|\](?=[(\[])|\[(?=[^\]]*\][(\[]))", r"\\\1", _printable(line))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


_LATEX = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\to$", "–": "--"}
_ESCAPED = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "[": "{[}", "]": "{]}",
}  # fmt: skip


def latex(tables: Sequence[Table]) -> str:
    """Format all tables as LaTeX (booktabs)."""
    lines = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        head, rows = _rows(table)
        lines += ["\\begin{table}", f"\\caption{{{_tex(table.task)}}}", f"\\begin{{tabular}}{{{'l' * len(head)}}}"]
        lines += ["\\toprule", " & ".join(map(_tex, head)) + " \\\\", "\\midrule"]
        lines += [" & ".join(map(_tex, row)) + " \\\\" for row in rows]
        lines += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    return "\n".join(lines)


def _tex(text: str) -> str:
    escaped = "".join(_ESCAPED.get(c, c) for c in _printable(" ".join(text.split())))
    return "".join(_LATEX.get(c, c) for c in escaped)
