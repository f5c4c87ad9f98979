"""Pictures of restorations: one run of each kind of blur."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.blind.kernels import KINDS

__all__ = ["figure"]

SHOWN_SIZE = 15
SIDE, ZOOM = 96, 2
LEFT, TOP, GAP = 100, 34, 6


def figure(folder: Path) -> Image.Image:
    """A column for the first run with 15 pixels of each kind: the file, both restorations and both kernels."""
    stems = {kind.name: f"{kind.name}-{SHOWN_SIZE}-0".replace(" ", "-") for kind in KINDS if SHOWN_SIZE in kind.sizes}
    columns = {}
    for kind, stem in stems.items():
        if files := list((folder / "files").glob(f"{stem}.*")):
            paths = [files[0], *(folder / what / f"{stem}.png" for what in ("blind", "known"))]
            columns[kind] = [*map(_crop, paths), _kernels(folder / "kernels" / f"{stem}.png")]
    side = SIDE * ZOOM
    sheet = Image.new("RGB", (LEFT + len(columns) * (side + GAP), TOP + 3 * (side + GAP) + side // 2), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for row, words in enumerate(("the file", "blind", "true kernel", "kernels:\ntrue, found")):
        middle = side // 2 if row < 3 else side // 4
        draw.text((6, TOP + row * (side + GAP) + middle), words, "black", font)
    for number, (kind, tiles) in enumerate(columns.items()):
        x = LEFT + number * (side + GAP)
        draw.text((x, 10), kind, "black", font)
        for row, tile in enumerate(tiles):
            sheet.paste(tile, (x, TOP + row * (side + GAP)))
    return sheet


def _crop(path: Path) -> Image.Image:
    """The middle of an image, enlarged by repeating pixels."""
    with Image.open(path) as image:
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        crop = image.convert("RGB").crop((left, top, left + SIDE, top + SIDE))
    return crop.resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.NEAREST)


def _kernels(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB").resize((SIDE * ZOOM, SIDE * ZOOM // 2), Image.Resampling.BILINEAR)
