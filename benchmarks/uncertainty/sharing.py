"""Whether the factor for the promise "image" should be measured for each degradation or shared by all of a kind.

The factors are measured on one half of the photographs of a table, in the order of their names, and tested on the
other half. In the packaged tables the halves are mostly of different sources, as a user's photographs differ from those
of a calibration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from benchmarks.common import markdown
from invsolve.restoration.calibration import Calibration, Cell
from invsolve.restoration.conformal import LEVELS

__all__ = ["sharing"]

LEVEL = 0.9

BEYOND = 10.0
"""d log q / d coverage beyond the last level of the table; about the slope between the last two levels."""

RULES: Mapping[str, Callable[[float, Sequence[float]], float]] = {
    "of each cell": lambda own, kind: own,
    "half way": lambda own, kind: (own + fmean(kind)) / 2,
    "of the kind": lambda own, kind: fmean(kind),
}
"""The log factor, computed from the log factor of a cell's own images and those of all cells of its kind."""


def needs(cell: Cell) -> list[float]:
    """For each image, the factor on q at which 90 % of its pixels are inside, from coverage and q at all levels."""
    q = [0.0, *(fmean(values) for values in zip(*cell.average.values(), strict=True))]
    places = [0.0, *LEVELS]

    def reaching(share: float) -> float:
        if share >= places[-1]:
            return q[-1] * math.exp(BEYOND * (share - places[-1]))
        k = next(k for k in range(1, len(places)) if share < places[k])
        return q[k - 1] + (share - places[k - 1]) / (places[k] - places[k - 1]) * (q[k] - q[k - 1])

    return [q[places.index(LEVEL)] / max(reaching(share), 1e-3 * q[-1]) for share in cell.measured["coverages"]]


def sharing(table: Calibration) -> str:
    """Images that keep the promise, and the mean width of the intervals, under each rule, as Markdown.

    The photographs are sorted by name and split into halves.
    """
    found = [(cell.kind, needs(cell)) for cell in table.cells]
    half = len(found[0][1]) // 2
    first, second = slice(None, half), slice(half, None)
    rows = []
    for told, measured, tested in (("first", first, second), ("second", second, first)):
        usual = [fmean(need[measured]) for _, need in found]
        own = [math.log(max(need[measured]) / mean) for (_, need), mean in zip(found, usual, strict=True)]
        for name, rule in RULES.items():
            kept, wide = [], []
            for (kind, need), mean, factor in zip(found, usual, own, strict=True):
                alike = [other for (k, _), other in zip(found, own, strict=True) if k == kind]
                limit = mean * math.exp(rule(factor, alike))
                kept.append(fmean(value <= limit for value in need[tested]))
                wide.append(math.log(limit))
            rows.append([
                f"{told} half", name, f"{fmean(kept):.1%}", f"{fmean(share < 0.8 for share in kept):.0%}",
                f"{math.exp(fmean(wide)):.2f}",
            ])  # fmt: skip
    head = ["measured on", "factor", "kept in the other half", "degradations below 80 %", "mean widening"]
    return markdown(head, rows) + "\n"
