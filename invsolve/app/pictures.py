"""Image files that a visitor chooses, and small pictures of them as the text of an address that a page shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from invsolve.core.checks import InvsolveError
from invsolve.core.lazy import torch
from invsolve.io import Image, read_header, read_image

__all__ = ["chosen_image", "picture_of"]

SHOWN_BY_BROWSERS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif")

MARK = (1.0, 0.18, 0.44)
"""The colour of the brush."""


def chosen_image(elem_id: str, *, height: int, check: Callable[[Path], None]) -> gr.Image:
    """A place for an image in the layout that is being made; its value is the file as it came, whatever it is.

    Gradio opens files with Pillow before a handler sees them, and does not say what is wrong with one that Pillow does
    not read; `invsolve.io` reads more, and says so in a sentence. What browsers do not show is shown as a picture.

    Args:
        elem_id: of the component.
        height: in pixels.
        check: raises `InvsolveError` for a file that is not taken.
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
    image.change(shown, image, seen, queue=False, show_progress="hidden", api_visibility="private")
    return image


def _path_of(payload: Any) -> str | None:
    return None if payload is None else payload.path


def _is_image(path: Path) -> bool:
    try:
        return read_header(path).width > 0
    except InvsolveError:
        return False


def picture_of(source: Path | Image, side: int, *, marked: bool = False) -> str:
    """An image, as a JPEG of at most `side` x `side` pixels.

    Args:
        source: a file of any format that is read, or what was read from one.
        side: in pixels.
        marked: show what is transparent in the colour of the brush.
    """
    import numpy
    from PIL import Image as Pillow

    image = source if isinstance(source, Image) else read_image(source, holes=True)
    pixels = image.pixels[:3].nan_to_num(0).clamp(0, 1)
    if pixels.shape[0] == 1:
        pixels = pixels.expand(3, -1, -1)
    if marked and image.alpha is not None:
        colour = torch.tensor(MARK)[:, None, None]
        pixels = torch.where(image.alpha < 1, 0.4 * pixels + 0.6 * colour, pixels)
    values = (255 * pixels).round().byte().permute(1, 2, 0).contiguous().numpy()
    picture = Pillow.fromarray(numpy.ascontiguousarray(values))
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
