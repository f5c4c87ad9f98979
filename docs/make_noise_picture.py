"""Draw docs/images/noise.jpg, files and their noise by `estimate_noise`: python docs/make_noise_picture.py"""

from __future__ import annotations

import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFont

import invsolve as iv

PAGE = Path(__file__).parent / "images" / "noise.jpg"
SIDE, GAP, HEAD, FOOT = 230, 8, 24, 62


def files(folder: Path) -> dict[str, Path]:
    """One photograph, stored in four ways."""
    clean = skimage.data.coffee()[60:290, 180:410] / 255
    rng = np.random.default_rng(0)
    white = 0.05 * rng.standard_normal(clean.shape)
    grows = np.sqrt(0.0004 + 0.01 * clean) * rng.standard_normal(clean.shape)
    made = {
        "as it is": (clean, "png", {}),
        "noise 0.05": (clean + white, "png", {}),
        "noise 0.05, then JPEG 80": (clean + white, "jpg", {"quality": 80}),
        "variance 0.0004 + 0.01 x": (clean + grows, "png", {}),
    }
    paths = {}
    for i, (name, (pixels, suffix, options)) in enumerate(made.items()):
        paths[name] = folder / f"{i}.{suffix}"
        Image.fromarray((255 * pixels.clip(0, 1)).round().astype(np.uint8)).save(paths[name], **options)
    return paths


def main() -> None:
    """Draw each file with its description."""
    with TemporaryDirectory() as folder:
        found = files(Path(folder))
        size = (len(found) * (SIDE + GAP) - GAP, HEAD + SIDE + FOOT)
        sheet, font = Image.new("RGB", size, "white"), ImageFont.load_default(12)
        draw = ImageDraw.Draw(sheet)
        for i, (name, path) in enumerate(found.items()):
            left = i * (SIDE + GAP)
            said = iv.estimate_noise(path).description
            sheet.paste(Image.open(path), (left, HEAD))
            draw.text((left + SIDE / 2, HEAD / 2), name, fill="black", font=font, anchor="mm")
            draw.multiline_text((left + 2, HEAD + SIDE + 4), textwrap.fill(said, 38), fill="black", font=font)
    sheet.save(PAGE, quality=90)


if __name__ == "__main__":
    main()
