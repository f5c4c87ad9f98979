"""PNG files: selection of the chunks to decode, and encoding with 8 or 16 bits."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from invsolve.core.boundary import MAX_PROFILE_BYTES, foreign
from invsolve.core.checks import InputError

__all__ = ["Picked", "chunk", "encode", "pick", "with_chunks"]

_MARK = b"\x89PNG\r\n\x1a\n"
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_XMP = b"XML:com.adobe.xmp\0\0\0"
"""Start of an iTXt chunk with an XMP packet: its keyword, then zeros for uncompressed text."""

_DEFLATE = 1032
"""Largest number of bytes that one byte of a deflate stream can represent."""


class Picked(NamedTuple):
    """The parts of a PNG file that are used.

    Attributes:
        content: a PNG file with only the chunks for the first image's pixels. The decoder does not see texts,
            animations or chunks added by programs.
        icc: the colour profile.
        exif: the content of the eXIf chunk.
        xmp: the XMP packet in an uncompressed iTXt chunk.
        dpi: pixels per inch.
    """

    content: bytes
    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None


def pick(path: Path, data: bytes) -> Picked:
    """Select the chunks of a PNG file that are used.

    Raises:
        InputError: a chunk is truncated or has a wrong checksum, or the data are too short for the pixels.
    """
    parts, icc, exif, xmp, dpi = [_MARK], None, None, None, None
    place, kind, packed = len(_MARK), b"", 0
    while kind != b"IEND" and place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[place + 4 : end - 4]) != struct.unpack(">I", data[end - 4 : end])[0]:
            raise InputError(f"{path} is damaged: a checksum in the PNG file is wrong")
        content = data[place + 8 : end - 4]
        if kind in _PIXELS:
            parts.append(_deepened(data, content) if kind == b"tRNS" else data[place:end])
            packed += length if kind == b"IDAT" else 0
        elif kind == b"iCCP":
            icc = _profile(path, content)
        elif kind == b"eXIf":
            exif = content
        elif kind == b"iTXt" and content.startswith(_XMP):
            xmp = content[len(_XMP) :].partition(b"\0")[2].partition(b"\0")[2] or None
        elif kind == b"pHYs" and length == 9:
            x, y, unit = struct.unpack(">IIB", content)
            dpi = (x * 0.0254, y * 0.0254) if unit == 1 and x and y else None
        place = end
    if kind != b"IEND":
        raise InputError(f"{path} is truncated: the PNG file ends early")
    _check_pixels(path, data, packed)
    return Picked(b"".join(parts), icc, exif, xmp, dpi)


def _deepened(data: bytes, content: bytes) -> bytes:
    """Return the tRNS chunk; a transparent grey value of 2 or 4 bits is scaled to 8 bits, as Pillow expects."""
    bits, colour = data[24], data[25]
    if colour == 0 and bits in (2, 4) and len(content) == 2:
        (value,) = struct.unpack(">H", content)
        content = struct.pack(">H", value % 2**bits * 255 // (2**bits - 1))
    return chunk(b"tRNS", content)


def _check_pixels(path: Path, data: bytes, packed: int) -> None:
    """Raise `InputError` if `packed` bytes cannot hold the number of pixels in the header."""
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    if colour not in _CHANNELS or bits not in (1, 2, 4, 8, 16):
        raise InputError(f"{path} is damaged: the PNG header names an unknown pixel type")
    if height * ((width * bits * _CHANNELS[colour] + 7) // 8) > _DEFLATE * packed:
        raise InputError(f"{path} is truncated: {packed} bytes cannot hold its {width} x {height} pixels")


def _profile(path: Path, content: bytes) -> bytes:
    """Read the colour profile in an iCCP chunk: a name, a zero, a zero for the method, and the deflated profile."""
    with foreign(f"the colour profile of {path}"):
        unpack = zlib.decompressobj()
        profile = unpack.decompress(content[content.index(b"\0") + 2 :], MAX_PROFILE_BYTES)
        if not unpack.eof:
            raise InputError(f"{path} has a colour profile that is truncated or too large")
        return profile


def chunk(kind: bytes, content: bytes) -> bytes:
    """Create a PNG chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def encode(values: Any, icc: bytes | None) -> bytes:
    """Encode [H, W, C] values of 8 or 16 bits, C = 1 to 4, as a PNG file."""
    import imagecodecs
    import numpy

    data = bytes(imagecodecs.png_encode(numpy.ascontiguousarray(values), level=6))
    profile = chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)) if icc else b""
    return with_chunks(data, profile)


def with_chunks(data: bytes, chunks: bytes) -> bytes:
    """Insert chunks after the header of a PNG file."""
    return data[:33] + chunks + data[33:]
