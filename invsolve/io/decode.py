"""Files -> images: tifffile for TIFF, imagecodecs for PNG of 16 bits, Pillow for the others."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.core.boundary import MAX_IMAGE_BYTES, MAX_PIXELS_A_BYTE, foreign, read_bytes
from invsolve.core.checks import InputError
from invsolve.io import png, tiff
from invsolve.io.header import Header, pillow_open, read_header
from invsolve.io.image import Image

__all__ = ["FLOAT_RANGE", "read_image"]

logger = logging.getLogger(__name__)

FLOAT_RANGE = (-1.5, 2.5)
"""Floating point values of an image: [0, 1] and room for noise, which a sensor or a simulation does not clip."""

_GREY_MODES = {"1", "L", "LA", "I;16"}


def read_image(path: str | Path) -> Image:
    """Read a PNG, JPEG, WebP or TIFF file: 8 or 16 bit or floating point; grey, colour or palette; opacity.

    An orientation mark is applied, a colour profile is kept (pixels are not converted), colours in CMYK become RGB. Of
    a file with several images the first is read, with a warning in the log.

    Raises:
        InputError: the file cannot be read, is no image, is truncated or damaged, is too large (see `read_header`),
            or holds floating point values that are not finite or far outside [0, 1].
    """
    path = Path(path)
    header = read_header(path)
    content = read_bytes(path, "image", MAX_IMAGE_BYTES)
    if header.height * header.width > MAX_PIXELS_A_BYTE * len(content):
        raise InputError(
            f"{path} is damaged: {len(content)} bytes cannot hold its {header.width} x {header.height} pixels"
        )
    if header.format == "tiff" and not tiff.by_pillow(path, content):
        found = tiff.read(path, content)
        return _image(path, _turned(found.values, found.orientation), header, found.icc)
    icc, exif = None, None
    if header.format == "png":
        content, icc, exif = png.pick(path, content)
        if header.depth == 16:
            return _deep_png(path, content, header, icc, exif)
    return _by_pillow(path, content, header, icc, exif)


def _deep_png(path: Path, content: bytes, header: Header, icc: bytes | None, exif: bytes | None) -> Image:
    import imagecodecs
    import numpy

    with foreign(path):
        values = imagecodecs.png_decode(content)
    planes = values.reshape(*values.shape[:2], -1).astype(numpy.float32) / numpy.float32(65535)
    return _image(path, _turned(planes, _orientation(path, exif)), header, icc)


def _by_pillow(path: Path, content: bytes, header: Header, icc: bytes | None, exif: bytes | None) -> Image:
    import numpy
    from PIL import ImageOps

    with pillow_open(path, content) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            logger.warning("%s holds several images: the first is read", path)
        if header.format != "png":
            icc = None if image.mode == "CMYK" else image.info.get("icc_profile")
        image.load()
        upright = ImageOps.exif_transpose(image)
        grey = upright.mode in _GREY_MODES
        opaque = not upright.has_transparency_data
        mode = ("L" if grey else "RGB") if opaque else ("LA" if grey else "RGBA")
        values = numpy.array(upright.convert(mode))
    planes = values.reshape(*values.shape[:2], -1).astype(numpy.float32) / numpy.float32(255)
    return _image(path, _turned(planes, _orientation(path, exif)), header, icc)


def _orientation(path: Path, exif: bytes | None) -> int:
    """The orientation mark in the content of an eXIf chunk, 1 where there is none."""
    from PIL import Image as pillow

    if exif is None:
        return 1
    with foreign(f"the EXIF data of {path}"):
        table = pillow.Exif()
        table.load(exif)
        return int(table.get(0x0112, 1))


def _turned(values: Any, orientation: int) -> Any:
    """Apply an orientation mark (1 to 8) to [H, W, C]."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _image(path: Path, values: Any, header: Header, icc: bytes | None) -> Image:
    """The image of [H, W, C] float32 values, C = 1 to 4."""
    import numpy

    planes = torch.from_numpy(numpy.ascontiguousarray(values.transpose(2, 0, 1), dtype=numpy.float32))
    if header.depth == 32:
        _check_floats(path, planes)
    channels = 1 if len(planes) < 3 else 3
    alpha = planes[channels:].clone() if len(planes) > channels else None
    return Image(planes[:channels], alpha, header.depth, header.format, icc)


def _check_floats(path: Path, planes: Tensor) -> None:
    if not bool(torch.isfinite(planes).all()):
        raise InputError(f"{path} has pixels that are NaN or infinite: replace them, or mask them for inpainting")
    low, high = planes.min().item(), planes.max().item()
    if low < FLOAT_RANGE[0] or high > FLOAT_RANGE[1]:
        raise InputError(f"{path} has values from {low:.4g} to {high:.4g}: scale floating point images to [0, 1]")
