"""The table and the figures, made only from the records of a run."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.calibration.problems import PROBLEMS
from benchmarks.calibration.run import EXACT, entries
from benchmarks.common import markdown
from invsolve.diagnostics import Band, calibration_figure

__all__ = ["TARGETS", "load", "passes", "write"]

TARGETS = {"z_observed": (0.95, 1.05), "z_unobserved": (0.95, 1.05), "coverage_90": (0.88, 0.92), "c2st": (-1.0, 0.55)}
"""Closed intervals for the statistics of a calibrated solver."""

_COLUMNS = (
    ("gap", "mmse_gap", 3),
    ("z obs", "z_observed", 3),
    ("z unobs", "z_unobserved", 3),
    ("cov 50", "coverage_50", 3),
    ("cov 90", "coverage_90", 3),
    ("cov 95", "coverage_95", 3),
    ("SW", "sliced_wasserstein", 3),
    ("C2ST", "c2st", 3),
    ("modes", "mode_error", 3),
    ("fwd", "forwards", 0),
    ("bwd", "backwards", 0),
    ("s", "seconds", 1),
)

_HEAD = """# Calibration

Samples of every solver against posteriors that are known exactly: Gaussian and mixture priors with their exact
denoisers, linear operators, Gaussian noise. Right values: gap 0, z 1, coverage as named, C2ST 0.5, modes 0; SW is
smallest, not 0, for exact samples, whose row gives the 99 % band of every statistic at the sample size used.

- **gap**: excess squared error of the sample mean over the minimum (0.1 is 10 % above it), sampling noise taken off.
- **z obs / unobs**: sample over exact standard deviation along directions in which the measurement removed at least
  half of the prior variance, and along the others. Below 1 is overconfident; 0 is a point estimate.
- **cov**: exact probability of the samples' central 50, 90, 95 % intervals, averaged over directions.
- **SW**: sliced 2-Wasserstein distance in posterior standard deviations. **C2ST**: held-out accuracy of a classifier
  that tells samples from exact draws. **modes**: total variation of the mode weights.
- **fwd, bwd**: network calls for each sample. **s**: processor seconds for all samples, on one thread.

A row passes (bold) with z within 0.95 to 1.05 on both kinds of direction, 90 % coverage within 88 to 92 % and C2ST
below 0.55. Settings are the same on all problems; they are listed at the end. They were chosen without exact
posteriors, except those of mmps (preset), pnp-dm (fine) and daps (exact), which were compared with exact posteriors.
Peers run on the same problems, with the same denoiser and measurement, in the same run.
"""


def passes(record: dict[str, Any]) -> bool:
    """Whether a row meets every target; a statistic that does not exist (no unobserved directions) is ignored."""
    if record.get("status") != "ok" or "c2st" not in record:
        return False
    values = {key: record[key] for key in TARGETS}
    if math.isnan(values["c2st"]):
        return False
    return all(math.isnan(v) or TARGETS[key][0] <= v <= TARGETS[key][1] for key, v in values.items())


def load(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The records of an earlier run by (problem, row); empty if there is no file."""
    if not path.exists():
        return {}
    records = json.loads(path.read_text())["records"]
    return {(r["problem"], r["row"]): _floats(r) for r in records}


def write(records: Iterable[dict[str, Any]], folder: Path, *, figures: bool = True) -> None:
    """Write results.json, table.md and one figure per problem."""
    folder.mkdir(parents=True, exist_ok=True)
    order = {name: i for i, name in enumerate((EXACT, *entries()))}
    table = sorted(records, key=lambda r: (list(PROBLEMS).index(r["problem"]), order.get(r["row"], 999)))
    about = {name: version(name) for name in ("torch", "deepinv", "azula")} | {"machine": platform.machine()}
    (folder / "results.json").write_text(json.dumps({"about": about, "records": [_plain(r) for r in table]}, indent=1))
    problems = [name for name in PROBLEMS if any(r["problem"] == name for r in table)]
    parts = [_HEAD, f"Measured with {', '.join(f'{k} {v}' for k, v in about.items())}.\n", _summary(table, problems)]
    for name in problems:
        rows = [r for r in table if r["problem"] == name]
        parts.append(_section(name, rows))
        if figures:
            _figure(name, rows, folder)
    parts.append(_settings(table))
    (folder / "table.md").write_text("\n".join(parts))


def _summary(table: list[dict[str, Any]], problems: list[str]) -> str:
    """The problems that each row passes."""
    rows = []
    for name in problems:
        passing = [r["row"] for r in table if r["problem"] == name and passes(r)]
        rows.append([PROBLEMS[name].title, ", ".join(passing) or "none"])
    seconds = sum(r.get("seconds") or 0.0 for r in table)
    told = f"Processor seconds of all solvers together: {seconds:.0f}.\n"
    return "\n".join(["## Which solvers pass\n", markdown(["problem", "passes"], rows), told])


def _section(name: str, rows: list[dict[str, Any]]) -> str:
    problem = PROBLEMS[name]
    size = next((int(r["samples"]) for r in rows if "samples" in r), problem.samples)
    lines = []
    for row in rows:
        if row["family"] == "exact":
            cells = [_band(row["bands"].get(key)) for _, key, _ in _COLUMNS]
            lines.append([EXACT + " (99 %)", *cells])
        elif "c2st" not in row:
            lines.append([row["row"], row["status"], *[""] * (len(_COLUMNS) - 1)])
        else:
            label = f"**{row['row']}**" if passes(row) else row["row"]
            note = "" if row["status"] == "ok" else f" ({row['status']})"
            cells = [_number(row.get(key), digits) for _, key, digits in _COLUMNS]
            lines.append([label + note, *cells])
    told = f"{problem.items} measurement{'s' * (problem.items > 1)}, {size} samples each. ![figure]({name}.png)\n"
    return "\n".join([f"## {problem.title}\n", told, markdown(["solver", *(head for head, _, _ in _COLUMNS)], lines)])


def _settings(table: list[dict[str, Any]]) -> str:
    seen = {r["row"]: r["settings"] for r in table if "settings" in r}
    return "## Settings\n\n" + markdown(["row", "settings"], list(seen.items()))


def _figure(name: str, rows: list[dict[str, Any]], folder: Path) -> None:
    bands = next((r["bands"] for r in rows if r["family"] == "exact"), None)
    measured = {r["row"]: r for r in rows if "c2st" in r}
    if measured:
        made = None if bands is None else {k: Band(v[0], (v[2] - v[1]) / 5.2) for k, v in bands.items()}
        calibration_figure(measured, folder / f"{name}.png", title=PROBLEMS[name].title, bands=made)


def _band(values: list[float] | None) -> str:
    if values is None or any(math.isnan(v) for v in values):
        return "-"
    return f"{values[1]:.3f} to {values[2]:.3f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """A record without NaN, which JSON does not have."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in _rounded(record).items()}


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    bands = {k: [None if math.isnan(x) else round(x, 5) for x in v] for k, v in record.get("bands", {}).items()}
    flat = {k: round(v, 5) if isinstance(v, float) and math.isfinite(v) else v for k, v in record.items()}
    return flat | ({"bands": bands} if bands else {})


def _floats(record: dict[str, Any]) -> dict[str, Any]:
    bands = {k: [math.nan if x is None else x for x in v] for k, v in record.get("bands", {}).items()}
    flat = {k: math.nan if v is None else v for k, v in record.items()}
    return flat | ({"bands": bands} if bands else {})
