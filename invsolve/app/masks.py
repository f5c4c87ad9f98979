"""Masks that are painted over an image with painter.js: shapes in pixels of the image, drawn at full resolution."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from invsolve.app.pictures import picture_of
from invsolve.app.scripted import scripted
from invsolve.core.checks import InputError
from invsolve.core.lazy import torch
from invsolve.io import Image, read_image, write_image

__all__ = ["paintable", "painted_mask", "painter"]

MAX_SHAPES, MAX_POINTS, FAR = 1000, 200_000, 1e5
"""Of what was painted; and how far from the image's corner a point may be, in pixels."""

SIDE = 1600
"""Of the image under the brush, at most, in pixels."""


def painter(elem_id: str) -> gr.HTML:
    """The painter in the layout that is being made; its value is what `paintable` gives and `painted_mask` takes."""
    return scripted("painter", elem_id)


def paintable(path: Path) -> dict[str, Any]:
    """The painter's value for a file: its size, and its picture with a key, on which what is transparent is marked."""
    image = read_image(path, holes=True)  # upright, and not as the file stores it
    (height, width), picture = image.size, picture_of(image, SIDE, marked=True)
    key = hashlib.sha256(picture.encode()).hexdigest()[:16]
    return {"picture": picture, "key": key, "size": [width, height]}


def painted_mask(painted: Any, image: Path, target: Path) -> Path | None:
    """Write what was painted, and what is transparent in the image, as a white mask; None where nothing was painted.

    Args:
        painted: the painter's value, {"size": [width, height], "shapes": [...]}. A shape is {"tool": "brush", "box" or
            "erase", "width": of the brush, "points": [[x, y], ...]}: a line, or two corners of a box.
        image: the file that is restored; what was painted on an image of another size is left out.
        target: the mask's file.

    Raises:
        InputError: what was painted is nothing that the painter sends.
    """
    shapes = painted.get("shapes") if isinstance(painted, Mapping) else None
    if not shapes:
        return None
    read = read_image(image, holes=True)
    height, width = read.pixels.shape[1:]
    if painted.get("size") != [width, height]:
        return None
    try:
        missing = torch.from_numpy(_drawn(shapes, height, width)) > 0
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError("what was painted cannot be read: paint it again, or choose a mask as a file") from error
    if not bool(missing.any()):
        return None
    if read.alpha is not None:
        missing |= read.alpha[0] < 1
    return write_image(target, Image(missing.float()[None], None, 8), overwrite=True)


def _drawn(shapes: Sequence[Mapping[str, Any]], height: int, width: int) -> Any:
    """The shapes one over the other, uint8 [height, width], 255 where something is to be filled in.

    Raises:
        ValueError: too many shapes or points, or one that lies far outside.
    """
    import cv2
    import numpy

    if len(shapes) > MAX_SHAPES or sum(len(shape["points"]) for shape in shapes) > MAX_POINTS:
        raise ValueError
    drawn = numpy.zeros((height, width), numpy.uint8)
    for shape in shapes:
        points = [(_place(x), _place(y)) for x, y in shape["points"]]
        value = 0 if shape["tool"] == "erase" else 255
        if shape["tool"] == "box":
            (x, y), (right, bottom) = points[0], points[-1]
            (left, right), (top, bottom) = sorted((x, right)), sorted((y, bottom))
            drawn[max(0, round(top)) : max(0, round(bottom)), max(0, round(left)) : max(0, round(right))] = value
            continue
        line = numpy.array([[round(16 * (place - 0.5)) for place in point] for point in points], numpy.int32)
        thickness = max(1, min(round(_place(shape["width"])), height + width))
        cv2.polylines(drawn, [line], isClosed=False, color=value, thickness=thickness, shift=4)
    return drawn


def _place(value: Any) -> float:
    """A coordinate or a width.

    Raises:
        ValueError: it is no number, or a huge one.
    """
    number = float(value)
    if not math.isfinite(number) or abs(number) > FAR:
        raise ValueError
    return number
