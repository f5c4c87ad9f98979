"""Pareto plots as SVG: quality against network calls and against seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from invsolve.bench.table import Row, title

__all__ = ["pareto_svg"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 300, 56, 14, 12, 44
AXES = {"calls": ("network calls per sample (a backward pass counts two)", 0), "seconds": ("seconds per unit", 1)}


def pareto_svg(rows: Sequence[Row], metric: str, axis: str) -> str:
    """Plot a metric against a cost on a logarithmic axis, with a line along the front; "" for fewer than two points.

    Args:
        rows: the rows of a task; complete rows with a cost above 0 are drawn.
        metric: name of the metric.
        axis: "calls" or "seconds".
    """
    label, side = AXES[axis]
    points = [
        (getattr(row, axis), row.cells[metric], row)
        for row in rows
        if metric in row.cells and math.isfinite(row.cells[metric].value) and getattr(row, axis) > 0
    ]
    if len(points) < 2:
        return ""
    costs = [math.log10(cost) for cost, _, _ in points]
    values = [v for _, c, _ in points for v in (c.value, c.low, c.high) if math.isfinite(v)]
    x, ticks_x = _scale(min(costs), max(costs), LEFT, WIDTH - RIGHT, powers=True)
    y, ticks_y = _scale(min(values), max(values), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title(metric))} against {escape(label)}">'
    ]
    for place, text in ticks_x:
        parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>')
    for place, text in ticks_y:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{text}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>')
    parts.append(
        f'<text transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(title(metric))}</text>"
    )
    front = sorted((x(math.log10(cost)), y(cell.value)) for cost, cell, row in points if row.front[side])
    if len(front) > 1:
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in front)
        parts.append(f'<polyline class="front" points="{path}"/>')
    spots = [(x(math.log10(cost)), y(cell.value)) for cost, cell, _ in points]
    names = _names(spots, [row.solver for _, _, row in points])
    for (cost, cell, row), (a, b), name in zip(points, spots, names, strict=True):
        kind = "point best" if row.front[side] else "point"
        if math.isfinite(cell.low):
            parts.append(
                f'<line class="bar" x1="{a:.1f}" x2="{a:.1f}" y1="{y(cell.low):.1f}" y2="{y(cell.high):.1f}"/>'
            )
        words = f"{row.solver}: {cell.value:.4g} at {cost:.4g}"
        parts.append(f'<circle class="{kind}" cx="{a:.1f}" cy="{b:.1f}" r="4"><title>{escape(words)}</title></circle>')
        parts.append(name)
    return "".join(parts) + "</svg>"


def _names(spots: Sequence[tuple[float, float]], words: Sequence[str]) -> list[str]:
    """Place the names beside their points, if possible without covering a point or another name."""
    taken = [(a - 5, b - 5, a + 5, b + 5) for a, b in spots]
    found = []
    for (a, b), word in zip(spots, words, strict=True):
        wide = 5.8 * len(word)
        places = [(a + side * 7 - wide * (side < 0), b + down) for down in (-6, 14, -18, 26, -30) for side in (1, -1)]
        inside = [p for p in places if p[0] > LEFT and p[0] + wide < WIDTH and TOP < p[1] < HEIGHT - BOTTOM]
        left, base = next((p for p in inside if not _covers(p, wide, taken)), places[0])
        taken.append((left, base - 9, left + wide, base + 2))
        found.append(f'<text class="name" x="{left:.1f}" y="{base:.1f}">{escape(word)}</text>')
    return found


def _covers(place: tuple[float, float], wide: float, taken: Sequence[tuple[float, float, float, float]]) -> bool:
    left, base = place
    return any(left < d and left + wide > a and base - 9 < e and base + 2 > b for a, b, d, e in taken)


def _scale(low: float, high: float, start: float, end: float, *, powers: bool = False):
    """Return a linear map with some margin on both sides, and its ticks with their labels."""
    room = 0.08 * (high - low) or 0.5
    low, high = low - room, high + room

    def place(value: float) -> float:
        return start + (value - low) / (high - low) * (end - start)

    if powers:
        marks = [(math.log10(m * 10.0**k), m * 10.0**k) for k in range(-6, 8) for m in (1, 2, 5)]
        ticks = [(place(at), f"{value:g}") for at, value in marks if low <= at <= high]
        return place, ticks if len(ticks) <= 9 else ticks[:: len(ticks) // 6]
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step *= next((m for m in (1, 2, 5) if (high - low) / (step * m) <= 6), 10)
    first = math.ceil(low / step)
    return place, [(place(i * step), f"{i * step:.4g}") for i in range(first, math.floor(high / step) + 1)]
