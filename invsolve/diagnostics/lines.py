"""Line plots that several diagnostics share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Panel", "line_figure"]


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Args:
        title, x, y: texts of the title and the axes.
        lines: (x values, y values) by label; labels that start with "_" are left out of the legend.
        log: axes with a logarithmic scale: "", "x", "y" or "xy".
        ticks: labels for x = 0, 1, ... instead of numbers.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    log: str = ""
    ticks: Sequence[str] = ()


def line_figure(panels: Sequence[Panel], path: str | Path) -> None:
    """Draw panels side by side; the extension of `path` determines the format.

    After ten lines, colours repeat with another line style. Panels with the same labels have one legend beside them,
    and so has a single panel with more than four labels.
    """
    from matplotlib.figure import Figure

    shared = len({tuple(panel.lines) for panel in panels}) == 1 and max(len(panels), len(panels[0].lines) - 3) > 1
    figure = Figure(figsize=(4.6 * len(panels) + 2.0 * shared, 3.6), layout="constrained")
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for i, (label, (xs, ys)) in enumerate(panel.lines.items()):
            marker, stroke = "." if len(xs) < 40 else None, ("-", "--", ":")[i // 10 % 3]
            axis.plot(list(xs), list(ys), marker=marker, linestyle=stroke, label=label)
        axis.set_xscale("log" if "x" in panel.log else "linear")
        axis.set_yscale("log" if "y" in panel.log else "linear")
        if panel.ticks:
            axis.set_xticks(range(len(panel.ticks)), list(panel.ticks))
        axis.set_title(panel.title, fontsize=10)
        axis.set_xlabel(panel.x, fontsize=9)
        axis.set_ylabel(panel.y, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if not shared and any(not label.startswith("_") for label in panel.lines):
            axis.legend(fontsize=7)
    if shared:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=100)
