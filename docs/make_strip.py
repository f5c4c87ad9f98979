"""Draw docs/images/strip.jpg, six degraded images above their restorations: python docs/make_strip.py

Each image is a crop of a scikit-image photograph, degraded as by `invsolve restore --simulate` and restored with the
defaults. None of the photographs was used for training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFont

import invsolve as iv
from invsolve.operators import camera_shake_kernel

PAGE = Path(__file__).parent / "images" / "strip.jpg"
SIDE, GAP, HEAD = 320, 6, 30
TASKS: dict[str, tuple[str, tuple[int, int, int], dict[str, Any]]] = {
    "noise 0.15": ("chelsea", (20, 110, 160), {"task": "denoise", "noise": 0.15}),
    "4 times smaller": ("astronaut", (0, 96, 256), {"task": "superres", "factor": 4}),
    "70 % lost": ("coffee", (40, 120, 256), {"task": "inpaint", "noise": 0.01}),
    "JPEG quality 10": ("rocket", (0, 200, 256), {"task": "jpeg", "compression": 10}),
    "blur of 2.5 pixels": ("astronaut", (180, 20, 256), {"task": "deblur", "blur_sigma": 2.5, "noise": 0.005}),
    "unknown blur": ("coffee", (150, 300, 256), {"task": "blind-deblur", "kernel_size": 21, "noise": 0.005}),
}


def crop_of(name: str, place: tuple[int, int, int]) -> torch.Tensor:
    """A square [3, side, side] of a photograph, in [0, 1]."""
    top, left, side = place
    pixels = getattr(skimage.data, name)()[top : top + side, left : left + side, :3]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def tile(x: torch.Tensor) -> Image.Image:
    """An image as a square of the strip."""
    pixels = (255 * x.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    """Restore the six images and draw them."""
    width = len(TASKS) * (SIDE + GAP) - GAP
    strip = Image.new("RGB", (width, HEAD + 2 * SIDE + GAP), "white")
    font, draw = ImageFont.load_default(20), ImageDraw.Draw(strip)
    for column, (title, (name, place, options)) in enumerate(TASKS.items()):
        clean = crop_of(name, place)
        if options["task"] == "inpaint":
            lost = torch.rand(clean.shape[1:], generator=torch.Generator().manual_seed(0)) < 0.7
            options = {**options, "mask": lost.float()}
        if options["task"] == "blind-deblur":
            options = {**options, "kernel": camera_shake_kernel(12.0, 0.5, iv.Rng(1)).numpy()}
        done = iv.restore(clean, simulate=True, seed=0, **options)
        print(title, {method: f"{found['psnr']:.2f} dB" for method, found in done.record["scores"].items()})
        left = column * (SIDE + GAP)
        draw.text((left + SIDE / 2, HEAD / 2), title, fill="black", font=font, anchor="mm")
        strip.paste(tile(done.degraded), (left, HEAD))
        strip.paste(tile(done.image.pixels), (left, HEAD + SIDE + GAP))
    PAGE.parent.mkdir(exist_ok=True)
    strip.save(PAGE, quality=88)


if __name__ == "__main__":
    main()
