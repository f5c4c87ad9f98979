"""Files -> images: Pillow for 8 bit, OpenCV for 16 bit and floating point."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.io.header import Header, check_png, pillow_open, read_header, tiff_tags
from invsolve.io.image import Image

__all__ = ["read_image"]

logger = logging.getLogger(__name__)

_FLOAT_RANGE = (-0.5, 1.5)
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
    if header.format == "png":
        check_png(path, path.read_bytes())
    if header.depth == 8:
        return _by_pillow(path, header)
    return _by_opencv(path, header)


def _by_pillow(path: Path, header: Header) -> Image:
    import numpy
    from PIL import ImageOps

    with pillow_open(path) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            logger.warning("%s holds several images: the first is read", path)
        icc = None if image.mode == "CMYK" else image.info.get("icc_profile")
        image.load()
        upright = ImageOps.exif_transpose(image)
        grey = upright.mode in _GREY_MODES
        opaque = not upright.has_transparency_data
        mode = ("L" if grey else "RGB") if opaque else ("LA" if grey else "RGBA")
        values = numpy.array(upright.convert(mode))
    return _image(path, values, header, icc)


def _by_opencv(path: Path, header: Header) -> Image:
    import cv2
    import numpy

    if header.format == "tiff":
        with path.open("rb") as file:
            tags = tiff_tags(file)
        if tags.get(277, (1,))[0] == 2:
            raise InputError(
                f"{path} is a grey {header.depth} bit TIFF with opacity, which is not read: save it as colour"
            )
        icc = bytes(tags[34675]) if 34675 in tags else None
        orientation = 1  # OpenCV turns TIFF files itself
    else:
        with pillow_open(path) as image:
            icc, orientation = image.info.get("icc_profile"), image.getexif().get(0x0112, 1)
    with _quiet(cv2):
        values = cv2.imdecode(numpy.frombuffer(path.read_bytes(), numpy.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise InputError(f"{path} is truncated, damaged or of a kind that cannot be decoded")
    if values.ndim == 3:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    if header.format == "png" and _png_is_grey(path):
        values = values[..., [0, 3]] if values.ndim == 3 else values
    return _image(path, _turned(values, orientation), header, icc)


def _png_is_grey(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(26)[25] in (0, 4)


def _turned(values: Any, orientation: int) -> Any:
    """Apply an EXIF orientation mark (1 to 8) to [H, W, ...]."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


@contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """Keep OpenCV from writing to standard error: what is wrong is told in our own sentence."""
    logs = cv2.utils.logging
    level = logs.getLogLevel()
    logs.setLogLevel(logs.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logs.setLogLevel(level)


def _image(path: Path, values: Any, header: Header, icc: bytes | None) -> Image:
    import numpy

    if values.ndim == 2:
        values = values[..., None]
    scale = {8: 255.0, 16: 65535.0, 32: 1.0}[header.depth]
    planes = torch.from_numpy(numpy.ascontiguousarray(values.transpose(2, 0, 1), dtype=numpy.float32)) / scale
    if header.depth == 32:
        _check_floats(path, planes)
    channels = 1 if len(planes) < 3 else 3
    alpha = planes[channels:] if len(planes) > channels else None
    return Image(planes[:channels].clone(), alpha, header.depth, header.format, icc)


def _check_floats(path: Path, planes: Tensor) -> None:
    if not bool(torch.isfinite(planes).all()):
        raise InputError(f"{path} has pixels that are NaN or infinite: replace them, or mask them for inpainting")
    low, high = planes.min().item(), planes.max().item()
    if low < _FLOAT_RANGE[0] or high > _FLOAT_RANGE[1]:
        raise InputError(f"{path} has values from {low:.4g} to {high:.4g}: scale floating point images to [0, 1]")
