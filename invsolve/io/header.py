"""What an image file says about itself before anything is decoded: its kind and its size."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from invsolve.core.checks import InputError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["MAX_PIXELS", "SUFFIXES", "Header", "check_png", "pillow_open", "png_chunk", "read_header", "tiff_tags"]

MAX_PIXELS = 178_956_970
"""Larger images are refused: the limit at which Pillow takes a file for an attack."""

SUFFIXES = {
    ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff",
}  # fmt: skip
"""File endings and the formats they stand for."""

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
_INTEGERS = {1: "B", 3: "H", 4: "I"}


@dataclass(frozen=True)
class Header:
    """The kind and size of an image file.

    Attributes:
        format: "png", "jpeg", "webp" or "tiff".
        height, width: as stored, before an orientation mark is applied.
        depth: 8, 16 or 32 (floating point) bits a value.
    """

    format: str
    height: int
    width: int
    depth: int


def read_header(path: str | Path) -> Header:
    """Look at a file without decoding it.

    Raises:
        InputError: no such file, a folder, an empty file, not an image of a known format, or larger than `MAX_PIXELS`.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: name an image in it")
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            start = file.read(33)
            if not start:
                raise InputError(f"{path} is empty (0 bytes)")
            header = _parse(path, file, start)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if min(header.height, header.width) < 1:
        raise InputError(f"{path} is damaged: its size is given as {header.width} x {header.height}")
    if header.height * header.width > MAX_PIXELS:
        raise InputError(
            f"{path} has {header.width} x {header.height} pixels, more than the {MAX_PIXELS // 10**6} million that are "
            "read: cut it into parts"
        )
    return header


def _parse(path: Path, file: BinaryIO, start: bytes) -> Header:
    if start.startswith(_PNG):
        if len(start) < 33 or start[12:16] != b"IHDR":
            raise InputError(f"{path} is damaged: a PNG file without its header")
        width, height, bits = struct.unpack(">IIB", start[16:25])
        return Header("png", height, width, max(bits, 8))
    if start[:4] in _TIFF:
        tags = tiff_tags(file)
        if 256 not in tags or 257 not in tags:
            raise InputError(f"{path} is damaged: a TIFF file without the size of its image")
        return Header("tiff", tags[257][0], tags[256][0], _tiff_depth(path, tags))
    if start[:3] == b"\xff\xd8\xff":
        return _by_pillow(path, "jpeg")
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _by_pillow(path, "webp")
    raise InputError(f"{path} is not an image: PNG, JPEG, WebP and TIFF are read")


def _by_pillow(path: Path, name: str) -> Header:
    with pillow_open(path) as image:
        return Header(name, image.height, image.width, 8)


@contextmanager
def pillow_open(path: Path) -> Iterator[PillowImage]:
    """Open an image with Pillow; what is wrong with the file becomes an `InputError`."""
    from PIL import Image as pillow
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            with pillow.open(path) as image:
                yield image
    except pillow.DecompressionBombError as error:
        raise InputError(
            f"{path} has more than the {MAX_PIXELS // 10**6} million pixels that are read: cut it into parts"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is damaged or of a kind that cannot be decoded") from error
    except (OSError, SyntaxError, struct.error, EOFError) as error:
        raise InputError(f"{path} is truncated or damaged: {error}") from error


def tiff_tags(file: BinaryIO) -> dict[int, tuple[int, ...]]:
    """The integer tags (and tag 34675, the colour profile, byte by byte) of a TIFF file's first image."""
    file.seek(0)
    order = "<" if file.read(4)[:2] == b"II" else ">"
    tags: dict[int, tuple[int, ...]] = {}
    try:
        file.seek(struct.unpack(order + "I", file.read(4))[0])
        entries = file.read(12 * struct.unpack(order + "H", file.read(2))[0])
        for place in range(0, len(entries) // 12 * 12, 12):
            tag, kind, count = struct.unpack(order + "HHI", entries[place : place + 8])
            code = "B" if tag == 34675 else _INTEGERS.get(kind)
            if code is None or (tag not in _WANTED):
                continue
            size, value = count * struct.calcsize(code), entries[place + 8 : place + 12]
            if size > 4:
                file.seek(struct.unpack(order + "I", value)[0])
                value = file.read(size)
            tags[tag] = struct.unpack(f"{order}{count}{code}", value[:size])
    except struct.error:
        return {}
    return tags


_WANTED = {256, 257, 258, 277, 338, 339, 34675}


def _tiff_depth(path: Path, tags: dict[int, tuple[int, ...]]) -> int:
    bits, kinds = tags.get(258, (1,)), tags.get(339, (1,))
    if len(set(bits)) > 1 or len(set(kinds)) > 1:
        raise InputError(f"{path} mixes kinds of values ({bits} bits): 8 or 16 bit or 32 bit floating point is read")
    if kinds[0] == 3 and bits[0] == 32:
        return 32
    if kinds[0] == 1 and bits[0] <= 16:
        return 16 if bits[0] > 8 else 8
    name = {1: "unsigned integers", 2: "signed integers", 3: "floating point"}.get(
        kinds[0], "values of an unknown kind"
    )
    raise InputError(f"{path} holds {bits[0]} bit {name}: 8 or 16 bit or 32 bit floating point is read")


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def check_png(path: Path, data: bytes) -> None:
    """Raise `InputError` unless every chunk is there with the right checksum, up to the end mark."""
    place, kind = len(_PNG), b""
    while kind != b"IEND" and place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[place + 4 : end - 4]) != struct.unpack(">I", data[end - 4 : end])[0]:
            raise InputError(f"{path} is damaged: a checksum in the PNG file is wrong")
        place = end
    if kind != b"IEND":
        raise InputError(f"{path} is truncated: the PNG file ends early")
