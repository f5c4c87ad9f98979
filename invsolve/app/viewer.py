"""The image viewer of the page (viewer.js), and its values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from invsolve.app.scripted import scripted

__all__ = ["grid", "panel", "samples", "slider", "viewer"]

HINT = "Ctrl and wheel, two fingers or a double click: zoom"


def viewer(elem_id: str) -> gr.HTML:
    """Create a viewer in the current layout."""
    return scripted("viewer", elem_id)


def served(path: Path) -> dict[str, Any]:
    """Describe a file for the page: Gradio keeps a copy and sends its address."""
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def panel(label: str, path: Path, note: str = "", **told: Any) -> dict[str, Any]:
    """Describe an image with its label and a line below it."""
    return {"label": label, "file": served(path), "note": note, **told}


def slider(before: Path, after: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Show two images of one size (height, width) in pixels, with a slider between before and after."""
    panels = [panel("Before", before), panel("After", after)]
    return {"mode": "slider", "size": [size[1], size[0]], "panels": panels, "hint": HINT}


def grid(panels: Sequence[dict[str, Any]], size: tuple[int, int]) -> dict[str, Any]:
    """Show images side by side, of one size (height, width) on the page; {"label", "failed"} describes a failed one."""
    return {"mode": "grid", "size": [size[1], size[0]], "panels": list(panels), "hint": HINT}


def samples(
    panels: Sequence[dict[str, Any]],
    size: tuple[int, int],
    *,
    low: Path,
    high: Path,
    overlay: Path,
    colours: Sequence[str],
    white: float,
) -> dict[str, Any]:
    """Show the restored image, the mean and the samples, one at a time, under a map of the interval widths.

    Args:
        panels: the restored image first; panels with sample=True are samples.
        size: (height, width) in pixels.
        low, high: images of the lower and upper interval limits.
        overlay: the map.
        colours: colours of the map, from width 0 to `white`.
        white: the width with the last colour, in grey levels of 255.
    """
    ends = {"low": served(low), "high": served(high), "map": served(overlay)}
    told = {"colours": list(colours), "white": white, "hint": HINT}
    return {"mode": "samples", "size": [size[1], size[0]], "panels": list(panels), **ends, **told}
