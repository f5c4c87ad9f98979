"""Masks painted over an image with painter.js: shapes in image pixels, drawn at full resolution."""

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
"""Largest number of shapes and of points; largest coordinate of a point, in pixels."""

SIDE = 1600
"""Largest side of the image shown in the painter, in pixels."""


def painter(elem_id: str) -> gr.HTML:
    """Create the painter in the current layout; `paintable` makes its value, and `painted_mask` reads it."""
    return scripted("painter", elem_id)


def paintable(path: Path) -> dict[str, Any]:
    """Return the painter's value for a file: its size, its picture with transparent pixels marked, and a key."""
    image = read_image(path, holes=True)  # upright, not as stored in the file
    (height, width), picture = image.size, picture_of(image, SIDE, marked=True)
    key = hashlib.sha256(picture.encode()).hexdigest()[:16]
    return {"picture": picture, "key": key, "size": [width, height]}


def painted_mask(painted: Any, image: Path, target: Path) -> Path | None:
    """Write a mask that is white where the image is painted or transparent; return None if nothing was painted.

    Args:
        painted: the painter's value, {"size": [width, height], "shapes": [...]}. A shape is {"tool": "brush", "box" or
            "erase", "width": of the brush, "points": [[x, y], ...]}: a line, or two corners of a box.
        image: the file to restore; shapes painted on an image of another size are ignored.
        target: the file of the mask.

    Raises:
        InputError: if the value is not one that the painter sends.
    """
    shapes = painted.get("shapes") if isinstance(painted, Mapping) else None
    if not shapes:
        return None
    read = read_image(image, holes=True)
    height, width = read.size
    if painted.get("size") != [width, height]:
        return None
    try:
        missing = torch.from_numpy(_drawn(shapes, height, width)) > 0
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError("the painted mask cannot be read: paint it again, or choose a mask as a file") from error
    if not bool(missing.any()):
        return None
    if read.alpha is not None:
        missing |= read.alpha[0] < 1
    return write_image(target, Image(missing.float()[None], None, 8), overwrite=True)


def _drawn(shapes: Sequence[Mapping[str, Any]], height: int, width: int) -> Any:
    """Draw the shapes in order, uint8 [height, width], 255 where pixels are missing.

    Raises:
        ValueError: if there are too many shapes or points, or a point lies far outside.
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
    """Read a coordinate or a width.

    Raises:
        ValueError: if it is not a number, or too large.
    """
    number = float(value)
    if not math.isfinite(number) or abs(number) > FAR:
        raise ValueError
    return number
