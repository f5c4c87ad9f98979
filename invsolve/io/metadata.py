"""Metadata of image files: EXIF, XMP, resolution and declared colours, read from one file and written to another."""

from __future__ import annotations

import io
import logging
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invsolve.core.boundary import foreign
from invsolve.core.checks import InputError

__all__ = ["Metadata", "of_tiff", "orientation_of", "png_chunks", "read_metadata", "tiff_tags", "with_exif_directories"]

logger = logging.getLogger(__name__)

MAX_EXIF, MAX_XMP = 60_000, 60_000
"""Largest size in bytes that is kept: it fits into one segment of a JPEG file."""

_ORIENTATION, _SOFTWARE, _EXIF_IFD, _GPS_IFD = 0x0112, 0x0131, 0x8769, 0x8825
_DESCRIPTIVE = {0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, _EXIF_IFD, _GPS_IFD}
"""Tags of a TIFF file's first directory that are kept: description, make, model, software, date, artist, copyright,
EXIF, GPS."""

_WIDTH, _HEIGHT, _MAKER_NOTE = 0xA002, 0xA003, 0x927C
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_XMP_ORIENTATION = re.compile(rb"""(\btiff:Orientation(?:\s*=\s*["']|>\s*))[1-8]""")


@dataclass(frozen=True)
class Metadata:
    """Metadata that is copied from a degraded file to its restoration.

    Attributes:
        exif: an EXIF block (a TIFF structure) without thumbnail; its orientation is 1, because the pixels are upright.
        xmp: an XMP packet.
        dpi: pixels per inch, horizontally and vertically.
        colours: how a PNG file declares its colours, apart from a profile: (name, content) of its chunks cICP, sRGB,
            gAMA and cHRM. Pixels are not converted.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    colours: tuple[tuple[bytes, bytes], ...] = ()

    def exif_for(self, size: tuple[int, int]) -> bytes | None:
        """Return the EXIF block for an image of (height, width) made by this library."""
        from invsolve import __version__

        table = _table(self.exif)
        if table is None:
            return None
        table[_SOFTWARE] = f"invsolve {__version__}"
        details = table.get_ifd(_EXIF_IFD)
        for tag, length in ((_WIDTH, size[1]), (_HEIGHT, size[0])):
            if tag in details:
                details[tag] = length
        return _bytes(table)


def read_metadata(path: Path, image: Any) -> Metadata:
    """Read the metadata of an opened Pillow image; damaged or too large parts are left out with a warning.

    XMP and EXIF of PNG files are read by `invsolve.io.png`, which selects the chunks to use.
    """
    try:
        with foreign(f"the metadata of {path}"):
            own = image.getexif()
            exif = None
            if any(tag != _ORIENTATION and (tag in _DESCRIPTIVE or image.format != "TIFF") for tag in own):
                # a copy: the original is still needed for the orientation
                exif = _bytes(_described(own) if image.format == "TIFF" else _table(own.tobytes()))
            xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
            xmp = xmp.encode() if isinstance(xmp, str) else xmp
            marked = _ORIENTATION in (image.tag_v2 if image.format == "TIFF" else own)
            return checked(path, exif, _upright_xmp(xmp) if marked else xmp, _dpi(image.info.get("dpi")))
    except InputError as error:
        logger.warning("%s; it is left out", error)
        return Metadata()


def orientation_of(exif: Any) -> int:
    """Return the orientation, 1 to 8, in a Pillow Exif; 1 if there is none, or if the value means nothing."""
    value = exif.get(_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def _described(own: Any) -> Any:
    """Create a Pillow Exif with the descriptive tags of the first directory of a TIFF or BigTIFF file."""
    from PIL import Image as pillow

    table = pillow.Exif()
    for tag in _DESCRIPTIVE.intersection(own):
        table[tag] = dict(own.get_ifd(tag)) if tag in (_EXIF_IFD, _GPS_IFD) else own[tag]
    return table


def of_tiff(path: Path, content: bytes) -> Metadata:
    """Read the metadata in the TIFF structure of a raw file: camera, lens, exposure, date and GPS."""
    from PIL import Image as pillow

    table = pillow.Exif()
    try:
        with foreign(f"the metadata of {path}"):
            table.load(content)
            for tag in [tag for tag in table if tag not in _DESCRIPTIVE]:
                del table[tag]
            table.get_ifd(_EXIF_IFD).pop(_MAKER_NOTE, None)  # contains offsets into the raw file
            return checked(path, _bytes(table), None, None)
    except InputError:  # raw files that are not TIFF structures have their metadata elsewhere
        return Metadata()


def checked(path: Path, exif: bytes | None, xmp: bytes | None, dpi: tuple[float, float] | None) -> Metadata:
    """Return metadata without the parts that are too large to be kept."""
    for name, content, most in (("EXIF data", exif, MAX_EXIF), ("an XMP packet", xmp, MAX_XMP)):
        if content is not None and len(content) > most:
            logger.warning("%s has %s of %d bytes, more than the %d that are kept", path, name, len(content), most)
    return Metadata(exif if exif and len(exif) <= MAX_EXIF else None, xmp if xmp and len(xmp) <= MAX_XMP else None, dpi)


def upright(path: Path, exif: bytes | None, xmp: bytes | None, dpi: tuple[float, float] | None) -> Metadata:
    """Create metadata from raw blocks, with the orientation reset."""
    try:
        with foreign(f"the metadata of {path}"):
            table = _table(exif)
            xmp = _upright_xmp(xmp) if exif and _ORIENTATION in _loaded(exif) else xmp
            return checked(path, None if table is None else _bytes(table), xmp, dpi)
    except InputError as error:
        logger.warning("%s; it is left out", error)
        return Metadata(dpi=dpi)


def png_chunks(metadata: Metadata, size: tuple[int, int]) -> bytes:
    """Return the chunks eXIf, iTXt and pHYs for a PNG file."""
    from invsolve.io.png import chunk

    parts = []
    if metadata.dpi is not None:
        a_metre = [round(value / 0.0254) for value in metadata.dpi]
        if all(0 < value < 2**31 for value in a_metre):
            parts.append(chunk(b"pHYs", struct.pack(">IIB", *a_metre, 1)))
    if (exif := metadata.exif_for(size)) is not None:
        parts.append(chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if metadata.xmp is not None:
        parts.append(chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    return b"".join(parts)


def tiff_tags(metadata: Metadata, size: tuple[int, int]) -> list[tuple[int, int, int, Any, bool]]:
    """Return the text tags for a TIFF file's first directory in tifffile's form: (code, type, count, value, once)."""
    tags: list[tuple[int, int, int, Any, bool]] = []
    table = _table(metadata.exif_for(size))
    for code, value in sorted(table.items()) if table is not None else ():
        if code in _DESCRIPTIVE and isinstance(value, str):
            text = value.encode("utf-8", "replace")
            tags.append((code, 2, len(text) + 1, text, True))
    if metadata.xmp is not None:
        tags.append((700, 1, len(metadata.xmp), metadata.xmp, True))
    return tags


def with_exif_directories(content: bytes, metadata: Metadata, size: tuple[int, int]) -> bytes:
    """Add the EXIF and GPS directories to a little-endian TIFF file.

    A new first directory that refers to them is appended. The data of the old first directory stay in place.
    """
    from PIL import TiffImagePlugin

    table = _table(metadata.exif_for(size))
    if table is None or content[:4] != b"II*\0":
        return content
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    following = content[start + 2 + 12 * count :][:4]
    entries = [content[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    buffer = io.BytesIO(content)
    for code in (_EXIF_IFD, _GPS_IFD):
        found = table.get_ifd(code)
        if not found:
            continue
        directory = TiffImagePlugin.ImageFileDirectory_v2(ifh=b"II*\0\x08\0\0\0", group=code)
        for tag, value in found.items():
            directory[tag] = value
        place = _end(buffer)
        buffer.write(directory.tobytes(place))
        entries.append(struct.pack("<HHII", code, 4, 1, place))
    place = _end(buffer)
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    buffer.write(struct.pack("<H", len(entries)) + b"".join(entries) + following)
    buffer.seek(4)
    buffer.write(struct.pack("<I", place))
    return buffer.getvalue()


def _end(buffer: io.BytesIO) -> int:
    """Return the end of a file, padded to an even offset."""
    place = buffer.seek(0, io.SEEK_END)
    return place + buffer.write(b"\0" * (place % 2))


def _table(exif: bytes | None) -> Any:
    """Load a block as a Pillow Exif with orientation 1; None if the block is empty."""
    if not exif:
        return None
    table = _loaded(exif)
    table[_ORIENTATION] = 1
    return table


def _loaded(exif: bytes) -> Any:
    """Load a block as a Pillow Exif without changes."""
    from PIL import Image as pillow

    table = pillow.Exif()
    table.load(exif)
    return table


def _upright_xmp(xmp: bytes | None) -> bytes | None:
    """Set the orientation in an XMP packet, if it has one, to 1, because the image is upright."""
    return None if xmp is None else _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _bytes(table: Any) -> bytes:
    table[_ORIENTATION] = 1
    return table.tobytes()


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(part) for part in value)
    except (TypeError, ValueError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None
