"""Restore the files: a row of numbers for each."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import invsolve as iv
from benchmarks.common import add_row, psnr, rows_of, write_image
from benchmarks.field.files import Kind, Made, clean_images, write_file
from benchmarks.field.tools import by_tool, opened

__all__ = ["BELOW", "one", "run"]

BELOW = 0.3
"""Difference in dB from which a restoration counts as below the floor."""


def run(folder: Path, kinds: Sequence[Kind], images: int = 0) -> Iterator[dict[str, Any]]:
    """Compute and yield the rows that are not yet in `folder`; each is added to rows.jsonl.

    Args:
        folder: folder of files, restorations and rows.
        kinds: kinds of files.
        images: number of images of each kind; all if 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = {(row["kind"], row["image"]) for row in rows_of(folder)}
    for kind in kinds:
        clean = clean_images(kind.pages)
        for name in list(clean)[: images or None]:
            if (kind.name, name) not in done:
                row = one(kind, name, clean[name], folder)
                add_row(folder, row)
                yield row


def one(kind: Kind, name: str, clean: NDArray[np.uint8], folder: Path) -> dict[str, Any]:
    """Make one file, restore it and compare.

    Args:
        kind: kind of the file.
        name: name of the image; name and kind seed the random numbers.
        clean: pixels of the image.
        folder: where the file and the restoration are written.
    """
    rng = np.random.default_rng(zlib.crc32(f"{kind.name} {name}".encode()))
    made = kind.make(clean, rng)
    path = write_file(made, folder / "files" / f"{kind.name} {name}".replace(" ", "-").replace("%", "percent"))
    begun = time.process_time()
    done = iv.restore(path, **made.options)
    seconds = time.process_time() - begun
    restored = done.image.pixels.permute(1, 2, 0).numpy()
    tool = by_tool(kind.tool, path, made)
    for what, pixels in (("restored", restored), ("tool", tool)):
        write_image(pixels, folder / what / f"{path.stem}.png")
    return {
        "kind": kind.name,
        "image": name,
        "tool": kind.tool,
        "file": _psnr(_shown(path, made, clean), clean, made),
        "one line": _psnr(tool, clean, made),
        "restored": _psnr(restored, clean, made),
        "status": done.record["status"][0],
        "task": done.record["task"]["name"],
        "warnings": done.record["warnings"],
        "calls": done.record["stats"]["network_forwards"] if "stats" in done.record else 0,
        "seconds": round(seconds, 2),
    }


def _psnr(x: NDArray[Any], clean: NDArray[np.uint8], made: Made) -> float:
    """PSNR in dB, over the missing pixels if there are any; grey and colour images are compared without conversion."""
    x, target = np.broadcast_arrays(np.atleast_3d(x), np.atleast_3d(clean) / 255.0)
    where = slice(None) if made.mask is None else made.mask
    return round(psnr(x[where], target[where]), 3)


def _shown(path: Path, made: Made, clean: NDArray[np.uint8]) -> NDArray[Any]:
    """The file as a viewer shows it at the size of the clean image."""
    pixels = opened(path)
    if pixels.shape[:2] == clean.shape[:2]:
        return pixels / 255.0
    size = clean.shape[1], clean.shape[0]
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)) / 255.0
