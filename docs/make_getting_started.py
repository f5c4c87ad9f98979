"""Draw docs/images/getting-started.jpg, the pictures that `restore` writes: python docs/make_getting_started.py"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import skimage.data
import torch
from PIL import Image

import invsolve as iv
from invsolve import costs, operators
from invsolve.commands.cli import main as invsolve

PAGE = Path(__file__).parent / "images" / "getting-started.jpg"


def main() -> None:
    """Blur a photograph, restore it with the command, and put the pictures side by side."""
    pixels = skimage.data.coffee()[100:260, 230:390].copy()
    clean = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    blur = operators.GaussianBlur(tuple(clean.shape[1:]), 2.0, padding="symmetric")
    y = costs.GaussianLikelihood(blur, None, sigma=0.01).simulate(clean, iv.Rng(0))
    eight_bit = (255 * y[0].clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
    with TemporaryDirectory() as folder:
        Image.fromarray(np.ascontiguousarray(eight_bit)).save(Path(folder) / "coffee.png")
        options = ["--task", "deblur", "--blur-sigma", "2", "--noise", "0.01", "--samples", "6"]
        invsolve(["restore", str(Path(folder) / "coffee.png"), *options])
        parts = [
            Image.open(Path(folder) / f"coffee-restored-{name}.png").convert("RGB")
            for name in ("comparison", "interval")
        ]
    parts[0] = parts[0].crop((0, 0, 2 * (parts[0].width + 8) // 3 - 8, parts[0].height))  # cut off the map
    height = max(part.height for part in parts)
    sheet = Image.new("RGB", (sum(part.width for part in parts) + 12, height), "white")
    left = 0
    for part in parts:
        sheet.paste(part, (left, height - part.height))
        left += part.width + 12
    sheet.save(PAGE, quality=88)


if __name__ == "__main__":
    main()
