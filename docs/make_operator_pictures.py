"""Draw docs/images/operators.jpg, a photograph under nine operators: python docs/make_operator_pictures.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import invsolve as iv
from invsolve import operators

PAGE = Path(__file__).parent / "images" / "operators.jpg"
SIDE, GAP, HEAD, COLUMNS = 192, 6, 24, 5


def pictures(x: Tensor) -> dict[str, Tensor]:
    """Measurements of an image [1, 3, H, W], shown by an adjoint or pseudo-inverse if a measurement is not an image."""
    shape = tuple(x.shape[1:])
    rng = iv.Rng(3)
    mri = operators.MRI((1, *shape[1:]), _columns(shape[1]))
    gray = x.mean(1, keepdim=True)
    rays = operators.Tomography((1, *shape[1:]), angles=24)
    return {
        "photograph": x,
        "SuperResolution, 4": operators.SuperResolution(shape, 4)(x),
        "Inpainting, 70 % missing": operators.Inpainting.random(shape, keep=0.3, rng=rng)(x),
        "GaussianBlur, 2": operators.GaussianBlur(shape, 2.0, padding="symmetric")(x),
        "MotionBlur": operators.Blur(shape, operators.camera_shake_kernel(14.0, 0.5, iv.Rng(1)))(x),
        "JPEG, quality 5": operators.JPEG(shape, quality=5)(x),
        "Quantisation, 4 levels": operators.Quantisation(shape, levels=4)(x),
        "Demosaicing": operators.Demosaicing(shape).adjoint(operators.Demosaicing(shape)(x)),
        "MRI, adjoint": mri.adjoint(mri(gray)),
        "Tomography, pseudo-inverse": rays.pinv(rays(gray)),
    }


def _columns(side: int) -> Tensor:
    """A quarter of the Fourier columns: the middle ones and some others."""
    kept = torch.rand(side, generator=torch.Generator().manual_seed(0)) < 0.17
    kept[side // 2 - side // 20 : side // 2 + side // 20] = True
    return kept.float().expand(side, side)


def main() -> None:
    """Draw the pictures with their names."""
    pixels = skimage.data.chelsea()[20:212, 90:282].copy()
    found = pictures(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    rows = -(-len(found) // COLUMNS)
    size = (COLUMNS * (SIDE + GAP) - GAP, rows * (SIDE + HEAD + GAP) - GAP)
    sheet, font = Image.new("RGB", size, "white"), ImageFont.load_default(13)
    draw = ImageDraw.Draw(sheet)
    for i, (name, x) in enumerate(found.items()):
        left, top = (i % COLUMNS) * (SIDE + GAP), (i // COLUMNS) * (SIDE + HEAD + GAP)
        values = (255 * x[0].clamp(0, 1)).round().byte().expand(3, -1, -1).permute(1, 2, 0)
        tile = Image.fromarray(np.ascontiguousarray(values.numpy()))
        sheet.paste(tile.resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, top + HEAD))
        draw.text((left + SIDE / 2, top + HEAD / 2), name, fill="black", font=font, anchor="mm")
    sheet.save(PAGE, quality=88)


if __name__ == "__main__":
    main()
