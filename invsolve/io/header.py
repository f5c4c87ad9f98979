"""Read the format and size of an image file without decoding it."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from invsolve.core.boundary import MAX_IMAGE_BYTES, MAX_PIXELS, foreign, open_file
from invsolve.core.checks import InputError
from invsolve.io import png, raw, tiff

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["MAX_PIXELS", "READABLE", "SUFFIXES", "Header", "heif_open", "page_count", "pillow_open", "read_header"]

SUFFIXES = {
    ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff",
    ".avif": "avif", ".jp2": "jpeg2000", ".bmp": "bmp", ".ppm": "ppm", ".pgm": "ppm", ".pnm": "ppm", ".tga": "tga",
}  # fmt: skip
"""Extensions of the files that can be written, and their formats."""

READABLE = {*SUFFIXES, *raw.SUFFIXES, ".gif", ".heic", ".heif", ".hif", ".jfif", ".j2k", ".jpx", ".dib", ".pbm"}
"""Extensions of the files that count as images when a folder is searched."""

_BY_PILLOW = ("AVIF", "BMP", "DIB", "GIF", "JPEG2000", "PPM")
"""Further formats that Pillow decodes itself. Some of its other formats call programs, or are not images."""

_HEVC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_CONTAINER_BRANDS, _AVIF_BRANDS = {b"mif1", b"msf1"}, {b"avif", b"avis"}

_MAX_BRANDS = 4096
"""Bytes of an ftyp box in which brands are looked for."""


@dataclass(frozen=True)
class Header:
    """The format and size of an image file.

    Attributes:
        format: "png", "jpeg", "webp", "tiff", "heif", "raw", or a Pillow format in lower case.
        height, width: as stored, before the orientation is applied.
        depth: bits per value: 8, 16 or 32 (floating point).
        pages: number of pages of a TIFF file; 1 for any other format, even if it holds further images.
    """

    format: str
    height: int
    width: int
    depth: int
    pages: int = 1


def read_header(path: str | Path, page: int = 0) -> Header:
    """Read the header of an image file without decoding it.

    Args:
        path: path of the file.
        page: page of a TIFF file, from 0.

    Raises:
        InputError: the file does not exist, is a folder, a pipe or a device, is empty, is not an image of a known
            format, or is larger than `MAX_PIXELS`.
    """
    path = Path(path)
    with open_file(path, "image", MAX_IMAGE_BYTES) as file:
        start = file.read(33)
        if not start:
            raise InputError(f"{path} is empty (0 bytes)")
        file.seek(0)
        header = _parse(path, file, start, page)
    if min(header.height, header.width) < 1:
        raise InputError(f"{path} is damaged: its size is given as {header.width} x {header.height}")
    if header.height * header.width > MAX_PIXELS:
        raise InputError(
            f"{path} has {header.width} x {header.height} pixels, more than the limit of {MAX_PIXELS // 10**6} "
            "million: cut it into parts"
        )
    return header


def page_count(path: str | Path) -> int:
    """Return the number of pages of a TIFF file; 1 for any other format.

    Raises:
        InputError: see `read_header`.
    """
    with open_file(path, "image", MAX_IMAGE_BYTES) as file:
        several = file.read(4) in tiff.MARKS
    return read_header(path).pages if several else 1


def _parse(path: Path, file: BinaryIO, start: bytes, page: int) -> Header:
    if page and start[:4] not in tiff.MARKS:
        raise InputError(f"{path} is not a TIFF file and has only one page: there is no page {page + 1}")
    if start.startswith(png.MARK):
        if len(start) < 33 or start[12:16] != b"IHDR":
            raise InputError(f"{path} is damaged: a PNG file without its header")
        width, height, bits = struct.unpack(">IIB", start[16:25])
        return Header("png", height, width, max(bits, 8))
    for name, known in (("jpeg", start[:3] == b"\xff\xd8\xff"), ("webp", start[:4] + start[8:12] == b"RIFFWEBP")):
        if known:
            with pillow_open(path, file.read()) as image:
                return Header(name, image.height, image.width, 8)
    content = file.read()
    if raw.is_raw(path, content):
        return Header("raw", *raw.read_size(path, content))
    if start[:4] in tiff.MARKS:
        return Header("tiff", *tiff.read_size(path, content, page))
    if _is_heif(content):
        with heif_open(path, content) as image:
            return Header("heif", image.height, image.width, 8)
    with pillow_open(path, content) as image:
        depth = 32 if image.mode == "F" else 16 if image.mode.startswith("I") else 8
        return Header((image.format or "").lower(), image.height, image.width, depth)


def _is_heif(content: bytes) -> bool:
    """Whether a file is HEIC or HEIF. A container brand is followed by the brand of the codec, which may be AVIF's."""
    if content[4:8] != b"ftyp":
        return False
    (length,) = struct.unpack(">I", content[:4])
    others = {content[i : i + 4] for i in range(16, min(length, len(content), _MAX_BRANDS), 4)}
    return content[8:12] in _HEVC_BRANDS or (content[8:12] in _CONTAINER_BRANDS and not others & _AVIF_BRANDS)


@contextmanager
def pillow_open(path: Path, content: bytes) -> Iterator[PillowImage]:
    """Open the content of a file with Pillow; any problem raises an `InputError`."""
    from PIL import Image as pillow
    from PIL import UnidentifiedImageError

    known = ["PNG", "JPEG", "WEBP", "TIFF", *_BY_PILLOW]
    formats = [*known, "TGA"] if path.suffix.lower() == ".tga" else known  # TGA files have no signature
    with foreign(path):
        try:
            image = pillow.open(io.BytesIO(content), formats=formats)
        except UnidentifiedImageError as error:
            raise InputError(
                f"{path} is not an image in a supported format: PNG, JPEG, WebP, TIFF, AVIF, HEIC, JPEG 2000, GIF, "
                "BMP, PPM, TGA or the raw file of a camera"
            ) from error
        except pillow.DecompressionBombError as error:
            raise InputError(
                f"{path} has more pixels than the limit of {MAX_PIXELS // 10**6} million: cut it into parts"
            ) from error
        with image:
            yield image


@contextmanager
def heif_open(path: Path, content: bytes) -> Iterator[PillowImage]:
    """Open a HEIC or HEIF file, as written by phones; any problem raises an `InputError`."""
    try:
        import pillow_heif
    except ImportError as error:
        raise InputError(f"{path} is a HEIC file: to read it, pip install 'invsolve[heif]'") from error
    with foreign(path), pillow_heif.open_heif(io.BytesIO(content)).to_pillow() as image:
        yield image
