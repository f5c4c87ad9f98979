"""Read image files: tifffile for TIFF, imagecodecs for 16-bit PNG, LibRaw for raw files, Pillow for the rest."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.core.boundary import MAX_IMAGE_BYTES, MAX_PIXELS_A_BYTE, foreign, read_bytes
from invsolve.core.checks import InputError
from invsolve.core.lazy import torch
from invsolve.io import png, raw, tiff
from invsolve.io.header import Header, heif_open, pillow_open, read_header
from invsolve.io.image import Image
from invsolve.io.jpeg import JPEGTables, turned
from invsolve.io.metadata import Metadata, orientation_of, read_metadata, upright

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_values", "read_image"]

logger = logging.getLogger(__name__)

_GREY_MODES = {"1", "L", "LA"}

_DEEP_MODES = {"I": 65535, "I;16": 65535, "I;16B": 65535, "F": 1}
"""Pillow modes of grey images with more than 8 bits, and their white value: 16-bit PGM and JPEG 2000, PFM."""


_SEVERAL = "%s holds several images: the first is read"


def read_image(path: str | Path, *, holes: bool = False, page: int | None = None) -> Image:
    """Read an image file: 8 or 16 bit or floating point; grey, colour or palette; opacity.

    Supported formats are PNG, JPEG, WebP, TIFF, and others that Pillow decodes (AVIF, JPEG 2000, GIF, BMP, PPM, TGA).
    HEIC needs the extra `invsolve[heif]`, and camera raw files need `invsolve[raw]`. Raw files are developed by LibRaw
    to 16-bit sRGB; the sensor values are in `Image.mosaic`. EXIF, XMP and the resolution are kept as `Image.metadata`.
    The orientation is applied, a colour profile is kept, also the colours that a PNG file declares otherwise (pixels
    are not converted), and CMYK becomes RGB. Of a file with several images, the first is read, with a warning in the
    log.

    Args:
        path: path of the file.
        holes: whether floating point pixels may be NaN, meaning missing.
        page: page of a TIFF file, from 0; if None, the first, with a warning if there are others.

    Raises:
        InputError: the file cannot be read, is not an image, is truncated or damaged, is too large (see `read_header`),
            or holds floating point values that are not finite or far outside [0, 1].
    """
    path = Path(path)
    header = read_header(path, page or 0)
    if page is None and header.pages > 1:
        logger.warning("%s has %d pages: the first is read", path, header.pages)
    content = read_bytes(path, "image", MAX_IMAGE_BYTES)
    if header.height * header.width > MAX_PIXELS_A_BYTE * len(content):
        raise InputError(
            f"{path} is damaged: {len(content)} bytes cannot hold its {header.width} x {header.height} pixels"
        )
    if header.format == "raw":
        developed = raw.read(path, content)
        made = _image(path, developed.values, header, None, developed.metadata)
        return dataclasses.replace(made, mosaic=developed.mosaic)
    if header.format == "tiff":
        found = tiff.read(path, content, page or 0)
        metadata = _of_tiff(path, content, found.directory)
        return _image(path, found.values, header, found.icc, metadata, found.orientation, holes)
    if header.format != "png":
        return _by_pillow(path, content, header)
    picked = png.pick(path, content)
    if picked.frames > 1:
        logger.warning(_SEVERAL, path)
    metadata = dataclasses.replace(upright(path, picked.exif, picked.xmp, picked.dpi), colours=picked.colours)
    values = _deep(path, picked.content) if header.depth == 16 else _shallow(path, picked.content)
    return _image(path, values, header, picked.icc, metadata, _orientation(path, picked.exif))


def _deep(path: Path, content: bytes) -> Any:
    """Decode a 16-bit PNG file to [H, W, C]."""
    import imagecodecs
    import numpy

    with foreign(path):
        values = imagecodecs.png_decode(content)
    return values.reshape(*values.shape[:2], -1).astype(numpy.float32) / numpy.float32(65535)


def _shallow(path: Path, content: bytes) -> Any:
    """Decode an 8-bit PNG file to [H, W, C]."""
    with pillow_open(path, content) as image:
        image.load()
        return _converted(image)


def _by_pillow(path: Path, content: bytes, header: Header) -> Image:
    from PIL import ImageOps

    with (heif_open if header.format == "heif" else pillow_open)(path, content) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            logger.warning(_SEVERAL, path)
        icc = None if image.mode == "CMYK" else image.info.get("icc_profile")
        metadata, jpeg = read_metadata(path, image), JPEGTables.read(image)
        image.load()
        found = _image(path, _converted(ImageOps.exif_transpose(image)), header, icc, metadata)
        return dataclasses.replace(found, jpeg=jpeg)


def _of_tiff(path: Path, content: bytes, directory: int) -> Metadata:
    try:
        with pillow_open(path, content) as image, foreign(path):
            image.seek(directory)
            return read_metadata(path, image)
    except InputError:  # a pixel format that Pillow does not support
        return Metadata()


def _converted(image: Any) -> Any:
    """Convert a Pillow image to [H, W, C], C = 1 to 4."""
    import numpy

    if white := _DEEP_MODES.get(image.mode):
        return numpy.asarray(image, dtype=numpy.float32)[..., None] / numpy.float32(white)
    grey = image.mode in _GREY_MODES
    opaque = not image.has_transparency_data
    values = numpy.array(image.convert(("L" if grey else "RGB") if opaque else ("LA" if grey else "RGBA")))
    return values.reshape(*values.shape[:2], -1).astype(numpy.float32) / numpy.float32(255)


def _orientation(path: Path, exif: bytes | None) -> int:
    """Return the orientation in the content of an eXIf chunk; 1 if there is none."""
    from PIL import Image as pillow

    if exif is None:
        return 1
    try:
        with foreign(f"the EXIF data of {path}"):
            table = pillow.Exif()
            table.load(exif)
            return orientation_of(table)
    except InputError:  # damaged: `upright` has warned
        return 1


def _image(
    path: Path, values: Any, header: Header, icc: bytes | None, metadata: Metadata, turn: int = 1, holes: bool = False
) -> Image:
    """Create an image from [H, W, C] float32 values as stored, C = 1 to 4, and their orientation."""
    import numpy

    planes = torch.from_numpy(numpy.ascontiguousarray(values.transpose(2, 0, 1), dtype=numpy.float32))
    planes = turned(planes, turn).contiguous()
    channels = 1 if len(planes) < 3 else 3
    if header.depth == 32:
        check_values(planes[:channels], path, holes=holes)
    alpha = planes[channels:].clone() if len(planes) > channels else None
    return Image(planes[:channels], alpha, header.depth, header.format, icc, metadata)


def check_values(pixels: Tensor, what: object, *, holes: bool = False) -> None:
    """Raise `InputError` if pixels [C, H, W] are not in [0, 1], apart from unclipped noise.

    Of black with noise of a standard deviation of 1, 18 % lies outside [-1, 2], 0.14 % outside [-3, 4] and nothing
    outside [-7, 8]. Values in [-1, 1] or up to 255 are told apart by that.

    Args:
        pixels: the pixels of an image.
        what: name of the image in the message.
        holes: whether pixels may be NaN.
    """
    values = pixels[~torch.isnan(pixels)] if holes else pixels
    if not values.numel() or not bool(torch.isfinite(values).all()):
        raise InputError(f"{what} has pixels that are NaN or infinite: replace them, or mask them for inpainting")
    low, high = values.min().item(), values.max().item()
    far, farther = (((values < low) | (values > high)).float().mean().item() for low, high in ((-1, 2), (-3, 4)))
    if far > 0.2 or farther > max(2e-3, 2 / values.numel()) or low < -7 or high > 8:
        raise InputError(f"{what} has values from {low:.4g} to {high:.4g}: scale it to [0, 1]")
    if low >= -1 and high <= 1 and (values < -0.5).float().mean().item() > 0.03:
        raise InputError(f"{what} has values from {low:.4g} to {high:.4g}, as in [-1, 1]: scale it to [0, 1]")
