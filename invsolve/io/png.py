"""PNG files: selection of the chunks to decode, and encoding with 8 or 16 bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from invsolve.core.boundary import MAX_PROFILE_BYTES, foreign
from invsolve.core.checks import InputError

__all__ = ["MARK", "Picked", "chunk", "encode", "other_colours", "pick", "with_chunks"]

MARK = b"\x89PNG\r\n\x1a\n"
"""Signature of PNG files."""

_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_XMP = b"XML:com.adobe.xmp\0\0\0"
"""Start of an iTXt chunk with an XMP packet: its keyword, then zeros for uncompressed text."""

_COLOURS = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
"""Chunks that declare the colours of the pixels, without iCCP, and their lengths; the first that is there counts, and
gAMA and cHRM count together. A colour profile comes after cICP."""

_CICP_SRGB = bytes([1, 13, 0, 1])
_GAMMA_SRGB = 45_455
_CHROMATICITIES_SRGB = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
"""sRGB as declared by cICP, gAMA and cHRM; the last two in units of 1e-5."""

_GAMMA_TOLERANCE, _CHROMATICITY_TOLERANCE = 0.05, 1_000
"""Differences that libpng does not correct either: relative, and in units of 1e-5."""

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
        frames: number of frames of an animation; 1 for an image.
        colours: names and contents of the chunks that declare the colours, apart from the profile.
    """

    content: bytes
    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None
    frames: int
    colours: tuple[tuple[bytes, bytes], ...]


def pick(path: Path, data: bytes) -> Picked:
    """Select the chunks of a PNG file that are used.

    Raises:
        InputError: a chunk is truncated or has a wrong checksum, or the data are too short for the pixels.
    """
    parts, icc, exif, xmp, dpi, frames = [MARK], None, None, None, None, 1
    colours: dict[bytes, bytes] = {}
    place, kind, packed = len(MARK), b"", 0
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
        elif _COLOURS.get(kind) == length and not packed:  # after the pixels, decoders ignore them
            colours.setdefault(kind, content)
        elif kind == b"eXIf":
            exif = content
        elif kind == b"iTXt" and content.startswith(_XMP):
            xmp = content[len(_XMP) :].partition(b"\0")[2].partition(b"\0")[2] or None
        elif kind == b"acTL" and length == 8:
            (frames,) = struct.unpack(">I", content[:4])
        elif kind == b"pHYs" and length == 9:
            x, y, unit = struct.unpack(">IIB", content)
            dpi = (x * 0.0254, y * 0.0254) if unit == 1 and x and y else None
        place = end
    if kind != b"IEND":
        raise InputError(f"{path} is truncated: the PNG file ends early")
    _check_pixels(path, data, packed)
    declared = tuple((kind, colours[kind]) for kind in _COLOURS if kind in colours)
    return Picked(b"".join(parts), icc, exif, xmp, dpi, frames, declared)


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


def other_colours(colours: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the names of the chunks that declare other colours than sRGB; "" if none does."""
    told = dict(colours)
    if b"cICP" in told:
        return "" if told[b"cICP"] == _CICP_SRGB else "cICP"
    if b"sRGB" in told:
        return ""
    others = []
    if b"gAMA" in told:
        (gamma,) = struct.unpack(">I", told[b"gAMA"])
        others += ["gAMA"] if abs(gamma - _GAMMA_SRGB) > _GAMMA_TOLERANCE * _GAMMA_SRGB else []
    if b"cHRM" in told:
        differences = (a - b for a, b in zip(struct.unpack(">8I", told[b"cHRM"]), _CHROMATICITIES_SRGB, strict=True))
        others += ["cHRM"] if any(abs(each) > _CHROMATICITY_TOLERANCE for each in differences) else []
    return ", ".join(others)


def encode(values: Any, icc: bytes | None, colours: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """Encode [H, W, C] values of 8 or 16 bits, C = 1 to 4, as a PNG file.

    Args:
        values: the values.
        icc: the colour profile.
        colours: further chunks that declare the colours, see `Picked`.
    """
    import imagecodecs
    import numpy

    data = bytes(imagecodecs.png_encode(numpy.ascontiguousarray(values), level=6))
    told = dict(colours)
    if icc:
        told[b"iCCP"] = b"ICC profile\0\0" + zlib.compress(icc)
    order = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
    return with_chunks(data, b"".join(chunk(kind, told[kind]) for kind in order if kind in told))


def with_chunks(data: bytes, chunks: bytes) -> bytes:
    """Insert chunks after the header of a PNG file."""
    return data[:33] + chunks + data[33:]
