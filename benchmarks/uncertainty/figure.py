"""The figure of an interval map: a photograph made four times smaller, its restoration, widths and errors."""

from __future__ import annotations

from pathlib import Path

import invsolve as iv
from benchmarks.photographs import photograph
from invsolve.io import write_image
from invsolve.restoration.figure import comparison, interval_width

__all__ = ["write"]

NAME, TOP, LEFT, SIDE = "astronaut", 20, 160, 128
"""The photograph and its crop, in pixels."""


def write(path: Path) -> str:
    """Write the figure, and return a sentence with the share of pixels inside their 90 % intervals."""
    clean = photograph(NAME)[:, TOP : TOP + SIDE, LEFT : LEFT + SIDE].contiguous()
    done = iv.restore(clean, "superres", factor=4, noise=0.01, simulate=True, samples=6)
    low, high = done.interval(0.9)
    truth = done.truth
    assert truth is not None
    width, white = interval_width(low, high)
    error = (2 * (done.image.pixels - truth).abs().mean(0, keepdim=True) / white).clamp(0, 1)
    panels = [
        ("4 times smaller, noise 0.01", done.degraded),
        ("restored", done.image.pixels),
        (f"90 % interval, white {white:.2f}", width),
        ("2 |error|, the same greys", error),
    ]
    write_image(path, comparison(panels), overwrite=True)
    inside = float(((low <= truth) & (truth <= high)).double().mean())
    return f"{path}: {inside:.1%} of the pixels lie inside; {done.record['uncertainty']['promise']}"
