"""Helpers of several benchmarks: noise for large batches, tables, stored rows, image files, PSNR and memory."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from invsolve.core.rng import NoiseSource
from invsolve.execution.memory import forget_peak, peak

__all__ = [
    "SharedNoise", "add_row", "added_memory", "eight_bits", "markdown", "psnr", "rows_of", "stored", "write_image",
]  # fmt: skip


class SharedNoise(NoiseSource):
    """One generator for the whole batch: on small problems, `Rng`'s streams per sample cost more than the solver."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator, dtype=like.dtype)

    def uniform(self, like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=self._generator, dtype=like.dtype)

    def poisson(self, rate: Tensor) -> Tensor:
        return torch.poisson(rate, generator=self._generator)

    def state(self) -> Tensor:
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        self._generator.set_state(state)


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows that `add_row` wrote; empty if there is no file yet."""
    path = folder / "rows.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def add_row(folder: Path, row: Mapping[str, Any]) -> None:
    """Add a row to rows.jsonl in the folder; an interrupted run continues after the last row."""
    with (folder / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def write_image(pixels: NDArray[Any], path: Path, **storage: Any) -> None:
    """Write an image to an 8-bit file, and make its folder if there is none.

    Args:
        pixels: [h, w, 1 or 3] or [h, w], clipped to [0, 1].
        path: path of the file, which is overwritten.
        storage: options of Pillow's `save`.
    """
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(eight_bits(pixels).squeeze()).save(path, **storage)


def eight_bits(x: NDArray[Any]) -> NDArray[np.uint8]:
    """An image in [0, 1] as a file of 8 bits stores it, clipped."""
    return (x.clip(0, 1) * 255).round().astype(np.uint8)


def stored(pixels: NDArray[np.uint8], format: str = "JPEG", **storage: Any) -> NDArray[np.uint8]:
    """The pixels [h, w, 3] of an image after it was written to a file.

    Args:
        pixels: [h, w, 3].
        format: of the file, a name of Pillow.
        storage: options of Pillow's `save`.
    """
    with io.BytesIO() as buffer:
        Image.fromarray(pixels).save(buffer, format, **storage)
        return np.asarray(Image.open(buffer).convert("RGB"))


def psnr(x: ArrayLike, truth: ArrayLike) -> float:
    """PSNR in dB of an image, clipped to [0, 1]; 120 for an exact copy."""
    error = np.asarray(x, np.float64).clip(0, 1) - np.asarray(truth, np.float64)
    return float(-10 * np.log10(np.square(error).mean() + 1e-12))


def added_memory(run: Callable[[], object]) -> tuple[float, float]:
    """The memory of the process on the CPU before a run, and what the run adds to it at its peak, both in GiB.

    An earlier peak, of loading the weights for example, does not count.
    """
    forget_peak()
    before = peak("cpu")
    run()
    return before / 2**30, (peak("cpu") - before) / 2**30
