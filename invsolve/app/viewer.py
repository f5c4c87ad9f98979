"""The viewer of images on the page (viewer.js), and the values that it shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from invsolve.app.scripted import scripted

__all__ = ["grid", "panel", "samples", "slider", "viewer"]

HINT = "Ctrl and wheel, two fingers or a double click: zoom"


def viewer(elem_id: str, *, visible: bool = True) -> gr.HTML:
    """A viewer in the layout that is being made."""
    return scripted("viewer", elem_id, visible=visible)


def served(path: Path) -> dict[str, Any]:
    """A file that the page may show: Gradio keeps a copy and tells its address."""
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def panel(label: str, path: Path, note: str = "", **told: Any) -> dict[str, Any]:
    """An image with its name and a line below it."""
    return {"label": label, "file": served(path), "note": note, **told}


def slider(before: Path, after: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Two images of one size (height, width) in pixels, the second over the first up to a line."""
    panels = [panel("Before", before), panel("After", after)]
    return {"mode": "slider", "size": [size[1], size[0]], "panels": panels, "hint": HINT}


def grid(panels: Sequence[dict[str, Any]], size: tuple[int, int]) -> dict[str, Any]:
    """Images side by side, of one size (height, width) on the page; {"label", "failed"} stands for one that failed."""
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
    """The restored image, the mean and the samples, one at a time, under a map of how wide the interval of a pixel is.

    Args:
        panels: the restored image first; those with sample=True are samples.
        size: (height, width) in pixels.
        low, high: images of the interval's ends.
        overlay: the map.
        colours: of the map from width 0 to `white`.
        white: the width that has the last colour, in grey levels of 255.
    """
    ends = {"low": served(low), "high": served(high), "map": served(overlay)}
    told = {"colours": list(colours), "white": white, "hint": HINT}
    return {"mode": "samples", "size": [size[1], size[0]], "panels": list(panels), **ends, **told}
