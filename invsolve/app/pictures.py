"""Image files that a visitor chooses, and small previews of them as data URLs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from invsolve.app.events import QUICK
from invsolve.core.checks import InvsolveError
from invsolve.core.lazy import torch
from invsolve.io import Image, read_header, read_image
from invsolve.io.image import eight_bits

__all__ = ["chosen_image", "picture_of"]

SHOWN_BY_BROWSERS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif")

MARK = (1.0, 0.18, 0.44)
"""The colour of the brush."""


def chosen_image(elem_id: str, *, height: int, check: Callable[[Path], None]) -> gr.Image:
    """Create an image component in the current layout; its value is the path of the uploaded file, of any format.

    Gradio would open files with Pillow before a handler sees them, and does not explain why Pillow cannot read a file.
    `invsolve.io` reads more formats and gives clear error messages. Formats that browsers cannot show get a preview.

    Args:
        elem_id: id of the component.
        height: height in pixels.
        check: raises `InvsolveError` for a file that is not accepted.
    """

    def shown(name: str | None) -> str:
        if name is None or (Path(name).suffix.lower() in SHOWN_BY_BROWSERS and _is_image(Path(name))):
            return ""
        try:
            check(Path(name))
            return f'<img alt="The chosen image" src="{picture_of(Path(name), 2 * height)}">'
        except InvsolveError:
            return '<p class="iv-hint">This file cannot be read as an image.</p>'

    with gr.Column(elem_classes="iv-chosen"):
        image = gr.Image(
            type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Image", height=height,
            elem_id=elem_id, buttons=[], format="png",
        )  # fmt: skip
        seen = gr.HTML(padding=False, elem_classes="iv-seen")
    image.preprocess = _path_of
    image.change(shown, image, seen, **QUICK)
    return image


def _path_of(payload: Any) -> str | None:
    return None if payload is None else payload.path


def _is_image(path: Path) -> bool:
    try:
        return read_header(path).width > 0
    except InvsolveError:
        return False


def picture_of(source: Path | Image, side: int, *, marked: bool = False) -> str:
    """Return an image as the data URL of a JPEG of at most `side` x `side` pixels.

    Args:
        source: an image file of any supported format, or an image.
        side: largest side in pixels.
        marked: show transparent pixels in the colour of the brush.
    """
    from PIL import Image as Pillow

    image = source if isinstance(source, Image) else read_image(source, holes=True)
    pixels = image.pixels.nan_to_num(0).clamp(0, 1)
    if pixels.shape[0] == 1:
        pixels = pixels.expand(3, -1, -1)
    if marked and image.alpha is not None:
        colour = torch.tensor(MARK)[:, None, None]
        pixels = torch.where(image.alpha < 1, 0.4 * pixels + 0.6 * colour, pixels)
    picture = Pillow.fromarray(eight_bits(pixels))
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
