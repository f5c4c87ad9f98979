"""The comparison figure: labelled panels side by side, and the map of interval widths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invsolve.io import Image
from invsolve.io.image import eight_bits

__all__ = ["comparison", "interval_map", "interval_width"]

MIN_SIDE, MAX_SIDE = 256, 1024
GAP, LINE = 8, 26
BAR, LABELS = 20, 56


def comparison(panels: Sequence[tuple[str, Tensor]]) -> Image:
    """Place images [C, H, W] of equal size side by side under their labels, in colour.

    Images with a longest side under 256 pixels are enlarged by repeating pixels; those above 1024 pixels are reduced.
    """
    from PIL import Image as pillow
    from PIL import ImageDraw, ImageFont

    images = [_fitted(_to_pillow(pixels)) for _, pixels in panels]
    width, height = images[0].size
    sheet = pillow.new("RGB", (len(images) * (width + GAP) - GAP, height + LINE), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for i, ((label, _), image) in enumerate(zip(panels, images, strict=True)):
        left = i * (width + GAP)
        sheet.paste(image, (left, LINE))
        while draw.textlength(label, font) > width and len(label) > 1:
            label = label[:-1]
        draw.text((left + 2, 4), label, fill="black", font=font)
    return _from_pillow(sheet)


def interval_width(low: Tensor, high: Tensor) -> tuple[Tensor, float]:
    """Return the interval widths (channel mean) relative to the width shown as white, [1, H, W], and that width.

    White is the width that 1 of 200 pixels reaches, rounded up to two digits.
    """
    width = (high - low).mean(0, keepdim=True)
    reached = float(width.flatten().kthvalue(max(1, round(0.995 * width.numel()))).values)
    unit = 10.0 ** (math.floor(math.log10(max(reached, 1e-3))) - 1)
    white = math.ceil(reached / unit - 1e-6) * unit or unit
    return (width / white).clamp(0, 1), white


def interval_map(low: Tensor, high: Tensor) -> tuple[Image, float]:
    """Return a map of the interval widths as grey levels with a scale bar, and the width shown as white."""
    from PIL import Image as pillow
    from PIL import ImageDraw, ImageFont

    levels, white = interval_width(low, high)
    picture = _fitted(_to_pillow(levels))
    width, height = picture.size
    sheet = pillow.new("RGB", (width + GAP + BAR + LABELS, height), "white")
    sheet.paste(picture, (0, 0))
    steps = torch.linspace(1, 0, height)[None, :, None].expand(1, height, BAR)
    sheet.paste(_to_pillow(steps), (width + GAP, 0))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    draw.rectangle((width + GAP, 0, width + GAP + BAR - 1, height - 1), outline="black")
    for share in (1.0, 0.75, 0.5, 0.25, 0.0):
        top = round((1 - share) * (height - 16))
        draw.text((width + GAP + BAR + 5, top), f"{share * white:.3f}", fill="black", font=font)
    return _from_pillow(sheet), white


def _to_pillow(pixels: Tensor) -> Any:
    from PIL import Image as pillow

    values = eight_bits(pixels.expand(3, -1, -1))
    return pillow.fromarray(values)


def _fitted(image: Any) -> Any:
    from PIL import Image as pillow

    longest = max(image.size)
    if longest < MIN_SIDE:
        scale = -(-MIN_SIDE // longest)
        return image.resize((image.width * scale, image.height * scale), pillow.Resampling.NEAREST)
    if longest > MAX_SIDE:
        size = (max(1, image.width * MAX_SIDE // longest), max(1, image.height * MAX_SIDE // longest))
        return image.resize(size, pillow.Resampling.LANCZOS)
    return image


def _from_pillow(image: Any) -> Image:
    import numpy

    values = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)
    return Image(values.float() / 255)
