"""Examples of the page: photographs of the package, degraded for each task."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from invsolve.core.lazy import torch
from invsolve.io import Image, read_image, write_image
from invsolve.io.image import eight_bits
from invsolve.restoration.options import Options

__all__ = ["EXAMPLES", "Example", "Examples"]


@dataclass(frozen=True)
class Example:
    """A degraded photograph.

    Args:
        name: label of the button.
        task: the task that restores it.
        photograph: name of a photograph in `invsolve.testing`.
        top, left, side: position and size of the square crop, in pixels.
        degrade: options of the simulation.
        told: options that are filled in to restore it.
        file: the file name.
    """

    name: str
    task: str
    photograph: str
    top: int
    left: int
    side: int
    degrade: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""


EXAMPLES = (
    Example("Noisy", "denoise", "astronaut", 0, 50, 160, {"noise": 0.1}, file="noisy.png"),
    Example("Small", "superres", "coffee", 48, 48, 160, {"noise": 0.01, "factor": 4}, {"factor": 4}, "small.png"),
    Example("Masked", "inpaint", "astronaut", 0, 50, 160, {"noise": 0.01}, file="masked.png"),
    Example(
        "Blurred", "deblur", "coffee", 48, 48, 160, {"noise": 0.01, "blur_sigma": 2.0}, {"blur_sigma": 2.0},
        "blurred.png",
    ),
    Example("Shaken", "blind-deblur", "astronaut", 0, 50, 160, {"noise": 0.01}, file="shaken.png"),
    Example("JPEG", "jpeg", "coffee", 48, 48, 160, file="blocks.jpg"),
)  # fmt: skip
"""The examples in the order of their buttons."""


class Examples:
    """The files of the examples, which are created on first use.

    Args:
        folder: the folder for the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._making = folder, threading.Lock()

    @property
    def paths(self) -> dict[str, Path]:
        """The files, by the names in `EXAMPLES`."""
        with self._making:
            return self._paths

    @property
    def clean(self) -> Path:
        """An undamaged photograph."""
        with self._making:
            return self._undamaged

    @cached_property
    def _paths(self) -> dict[str, Path]:
        return {each.name: _write(each, self._folder / each.file) for each in EXAMPLES}

    @cached_property
    def _undamaged(self) -> Path:
        return write_image(self._folder / "undamaged.png", _clean(EXAMPLES[0]), overwrite=True)


def _clean(each: Example) -> Image:
    """Return the crop of a photograph from which an example is made."""
    with as_file(files("invsolve.testing") / "photographs" / f"{each.photograph}.jpg") as source:
        pixels = read_image(source).pixels
    return Image(pixels[:, each.top : each.top + each.side, each.left : each.left + each.side].contiguous(), None, 8)


def _write(each: Example, path: Path) -> Path:
    from invsolve.core.rng import Rng
    from invsolve.operators.kernels import camera_shake_kernel
    from invsolve.restoration.prepare import prepare

    clean = _clean(each)
    if each.task == "jpeg":
        return _jpeg(clean, path)
    told: dict[str, Any] = dict(each.degrade)
    task = each.task
    if task == "inpaint":
        told["mask"] = _scratches(each.side)
    if task == "blind-deblur":
        task, told["kernel"] = "deblur", camera_shake_kernel(9.0, 0.4, Rng(3))
    job = prepare(clean, Options.of(task, simulate=True, **told))
    alpha = None
    if task == "inpaint":
        alpha = 1.0 - _scratches(each.side).float()[None]
    return write_image(path, Image(job.y.clamp(0, 1), alpha, 8), overwrite=True)


def _scratches(side: int) -> Any:
    """Return a mask of thin slanted lines and a stain, bool [side, side]."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    lines = (rows + 3 * columns) % 64 < 5
    stain = (rows - 0.72 * side).square() + (columns - 0.3 * side).square() < (0.09 * side) ** 2
    return lines | stain


def _jpeg(clean: Image, path: Path) -> Path:
    from PIL import Image as Pillow

    Pillow.fromarray(eight_bits(clean.pixels)).save(path, quality=15)
    return path
