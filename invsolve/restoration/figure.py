"""The comparison figure: labelled panels side by side, and the map of standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invsolve.io import Image

__all__ = ["comparison", "deviation_map"]

MIN_SIDE, MAX_SIDE = 256, 1024
GAP, LINE = 8, 26


def comparison(panels: Sequence[tuple[str, Tensor]]) -> Image:
    """Images [C, H, W] of one size side by side under their labels, in colour.

    Images under 256 pixels are enlarged by repeating pixels, those above 1024 made smaller.
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


def deviation_map(std: Tensor) -> tuple[Image, float]:
    """The standard deviation [C, H, W] as a grey image (its mean over the channels) and the value of white."""
    level = std.mean(0, keepdim=True)
    white = float(level.max()) or 1.0
    return Image(level / white), white


def _to_pillow(pixels: Tensor) -> Any:
    from PIL import Image as pillow

    values = (pixels.expand(3, -1, -1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
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
