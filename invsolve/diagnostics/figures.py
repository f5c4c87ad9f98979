"""Figures of calibration tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from invsolve.diagnostics.calibration import Band, Calibration

__all__ = ["calibration_figure", "coverage_figure"]

_PANELS = (
    ("z-spread", {"observed": "z_observed", "unobserved": "z_unobserved"}, 1.0, (0.0, 2.0)),
    ("coverage of 90 % intervals", {"": "coverage_90"}, 0.9, (0.0, 1.0)),
    ("classifier (0.5 = indistinguishable)", {"": "c2st"}, 0.5, (0.45, 1.0)),
    ("excess error of the mean", {"": "mmse_gap"}, 0.0, (-0.1, 2.0)),
)


def calibration_figure(
    rows: Mapping[str, Calibration | Mapping[str, float]],
    path: str | Path,
    *,
    title: str = "",
    bands: Mapping[str, Band] | None = None,
) -> None:
    """Write a dot plot with one line for each solver and one panel for each statistic.

    A vertical line marks the right value, and a grey band the values of exact samples. Values outside a panel are drawn
    as triangles at its edge.

    Args:
        rows: statistics by solver name, drawn from top to bottom.
        path: path of the image; its extension determines the format.
        title: title of the figure.
        bands: the result of `resolution`.
    """
    from matplotlib.figure import Figure

    table = {name: row.numbers() if isinstance(row, Calibration) else row for name, row in rows.items()}
    height = 1.4 + 0.24 * len(table)
    figure = Figure(figsize=(13, height))
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    for axis, (heading, series, right, limits) in zip(axes, _PANELS, strict=True):
        axis.axvline(right, color="black", linewidth=0.8)
        band = None if bands is None else bands.get(next(iter(series.values())))
        if band is not None and math.isfinite(band.std):
            axis.axvspan(band.low, band.high, color="0.85", zorder=0)
        for shade, (label, key) in zip(("C0", "C1"), series.items(), strict=False):
            for place, row in enumerate(table.values()):
                _dot(axis, row.get(key, math.nan), place, limits, shade)
            if label:
                axis.plot([], [], "o", color=shade, label=label)
        axis.set_xlim(*limits)
        axis.set_title(heading, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(axis="y", linewidth=0.3)
        if len(series) > 1:
            axis.legend(fontsize=7, loc="upper right")
    axes[0].set_yticks(range(len(table)), list(table), fontsize=8)
    axes[0].set_ylim(len(table) - 0.5, -0.5)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def _dot(axis, value: float, place: int, limits: tuple[float, float], colour: str) -> None:
    if math.isnan(value):
        return
    low, high = limits
    marker = "<" if value < low else ">" if value > high else "o"
    axis.plot(min(max(value, low), high), place, marker, color=colour, markersize=5, clip_on=False)


def coverage_figure(rows: Mapping[str, Sequence[float]], path: str | Path, *, level: float) -> None:
    """Write a dot plot of interval coverage: a line for each degradation, a dot for each image, a bar for their mean.

    Args:
        rows: coverage of each image, by degradation.
        path: path of the image; its extension determines the format.
        level: the promised coverage, drawn as a vertical line.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.24 * len(rows)))
    axis = figure.subplots()
    axis.axvline(level, color="black", linewidth=0.8)
    for place, values in enumerate(rows.values()):
        axis.plot(values, [place] * len(values), "o", color="C0", alpha=0.35, markersize=4)
        axis.plot([sum(values) / len(values)], [place], "|", color="C1", markersize=12, markeredgewidth=2)
    axis.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(min(0.5, *(min(values) for values in rows.values())), 1)
    axis.set_xlabel(f"share of pixels inside the intervals of {level:.0%}", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(axis="y", linewidth=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
