"""The table and the figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import invsolve as iv
from benchmarks.common import eight_bits, markdown, rows_of
from benchmarks.field.files import KINDS, clean_images
from benchmarks.field.runs import BELOW
from benchmarks.field.tools import opened
from benchmarks.photographs import pixels_of

__all__ = ["clock", "report"]

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
SHOWN = (
    ("noise 0.1, JPEG 85", "astronaut"),
    ("JPEG 20", "coffee"),
    ("half size, JPEG 80", "astronaut"),
    ("blur 2.5", "chelsea"),
    ("shake of 15, PNG", "coffee"),
    ("scratches and dust", "astronaut"),
    ("page: noise 0.05", "page"),
)
"""A file of each group for the figure."""
SIDE, ZOOM = 96, 2
INVISIBLE = 48.0
"""PSNR of errors of one step of 8 bits; an image closer to the clean one counts as equal to it."""


def report(folder: Path) -> str:
    """Write table.md and field.jpg, and return the table."""
    rows = rows_of(folder)
    RESULTS.mkdir(exist_ok=True)
    lines = [_line(kind.name, [row for row in rows if row["kind"] == kind.name]) for kind in KINDS]
    head = ("file", "n", "as it is", "one line", "restored", "gain over the better", "worst", "below, silent", "warned",
            "CPU s")  # fmt: skip
    silent = [row for row in rows if _below(row) and not row["warnings"]]
    text = markdown(head, [line for line in lines if line])
    text += f"\n{len(silent)} of {len(rows)} restorations are more than {BELOW} dB below their floor without a warning"
    text += ".\n" if not silent else ": " + "; ".join(f"{row['kind']}, {row['image']}" for row in silent) + ".\n"
    (RESULTS / "table.md").write_text(text)
    _figure(folder).save(IMAGES / "field.jpg", quality=85, optimize=True)
    return text


def _floor(row: dict[str, Any]) -> float:
    return min(max(row["file"], row["one line"]), INVISIBLE)


def _below(row: dict[str, Any]) -> bool:
    return row["restored"] < _floor(row) - BELOW


def _line(name: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table row of a kind of file: means over its images."""
    if not rows:
        return []
    gains = [row["restored"] - _floor(row) for row in rows]
    means = [f"{statistics.fmean(min(row[key], 60) for row in rows):.2f}" for key in ("file", "one line", "restored")]
    tool = "" if rows[0]["tool"] == "itself" else f" ({rows[0]['tool']})"
    return [
        name,
        str(len(rows)),
        means[0],
        "" if not tool else means[1] + tool,
        means[2],
        f"{statistics.fmean(gains):+.2f}",
        f"{min(gains):+.2f}",
        str(sum(_below(row) and not row["warnings"] for row in rows)),
        str(sum(bool(row["warnings"]) for row in rows)),
        f"{statistics.fmean(row['seconds'] for row in rows):.1f}",
    ]


def _figure(folder: Path) -> Image.Image:
    """A column for each chosen file: the file, the result of a one-line tool, the restoration and the clean image."""
    columns = []
    for kind, name in SHOWN:
        pages = next(k.pages for k in KINDS if k.name == kind)
        stem = f"{kind} {name}".replace(" ", "-").replace("%", "percent")
        files = list((folder / "files").glob(f"{stem}.*"))
        if not files:
            continue
        clean = clean_images(pages)[name]
        paths = [files[0], folder / "tool" / f"{stem}.png", folder / "restored" / f"{stem}.png"]
        columns.append((kind, [_crop(_pixels(path), clean.shape) for path in paths] + [_crop(clean, clean.shape)]))
    side, top, left = SIDE * ZOOM, 34, 84
    sheet = Image.new("RGB", (left + len(columns) * (side + 6), top + 4 * (side + 6)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for row, words in enumerate(("the file", "one line", "restored", "clean")):
        draw.text((6, top + row * (side + 6) + side // 2), words, "black", font)
    for column, (kind, crops) in enumerate(columns):
        x = left + column * (side + 6)
        draw.text((x, 10), kind, "black", font)
        for row, crop in enumerate(crops):
            sheet.paste(crop, (x, top + row * (side + 6)))
    return sheet


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA") if image.mode == "RGBA" else image.convert("RGB"))


def _crop(pixels: NDArray[np.uint8], shape: Sequence[int]) -> Image.Image:
    """The middle, enlarged by repeating pixels; transparent pixels are magenta."""
    image = Image.fromarray(pixels)
    if image.mode == "RGBA":
        ground = Image.new("RGBA", image.size, (200, 0, 160, 255))
        image = Image.alpha_composite(ground, image)
    image = image.convert("RGB").resize((shape[1], shape[0]), Image.Resampling.NEAREST)
    top, left = (shape[0] - SIDE) // 2, (shape[1] - SIDE) // 2
    crop = image.crop((left, top, left + SIDE, top + SIDE))
    return crop.resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.NEAREST)


def clock(folder: Path) -> None:
    """Restore scikit-image's blurred photograph of a clock blindly, and write both side by side as clock.jpg."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels := pixels_of("clock")).save(path := folder / "clock.png")
    done = iv.restore(path, task="blind-deblur")
    for warning in done.record["warnings"]:
        print(f"warning: {warning}")
    restored = eight_bits(done.image.pixels[0].numpy())
    both = np.concatenate([pixels, np.full((len(pixels), 6), 255, np.uint8), restored], 1)
    RESULTS.mkdir(exist_ok=True)
    Image.fromarray(both).save(IMAGES / "clock.jpg", quality=88)
    done.save(folder / "clock-restored.png")
    print(opened(path).shape, "->", IMAGES / "clock.jpg")
