"""Images -> files: whole or not at all, and never over a file that is there unless asked to."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from invsolve.core.checks import InputError, nearest
from invsolve.io.header import SUFFIXES, png_chunk
from invsolve.io.image import Image

__all__ = ["check_target", "encode_image", "write_files", "write_image"]

_MAX_SIDE = {"jpeg": 65_500, "webp": 16_383}
_STRIP_BYTES = 1 << 20


def write_image(path: str | Path, image: Image, *, overwrite: bool = False) -> Path:
    """Write an image; the ending of `path` decides the format.

    PNG and TIFF keep the image's depth (PNG has no floating point and takes 16 bit), JPEG (quality 95, full colour
    resolution) and WebP (lossless) are 8 bit. Values are rounded to the nearest step and clipped to [0, 1].

    Raises:
        InputError: no such folder, the file exists and `overwrite` is not set, the format is unknown or cannot hold the
            image.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    write_files({path: encode_image(image, path)}, overwrite=overwrite)
    return path


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise `InputError` unless a file may be written at `path`."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist: make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder {path.parent} is not writable")
    if path.exists() and not overwrite:
        raise InputError(
            f"{path} exists already: choose another output or overwrite it with --overwrite (overwrite=True)"
        )


def write_files(contents: Mapping[Path, bytes], *, overwrite: bool = False) -> None:
    """Write several files, all or none: temporary files first, then renames.

    Raises:
        InputError: a file exists and `overwrite` is not set, or one cannot be written.
    """
    for path in contents:
        check_target(path, overwrite=overwrite)
    staged = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    try:
        for path, part in staged.items():
            part.write_bytes(contents[path])
        for path, part in staged.items():
            part.replace(path)
    except OSError as error:
        raise InputError(f"{error.filename} cannot be written: {error.strerror}") from error
    finally:
        for part in staged.values():
            part.unlink(missing_ok=True)


def encode_image(image: Image, path: str | Path) -> bytes:
    """The content of a file named `path`.

    Raises:
        InputError: the ending stands for no known format, or the format cannot hold the image.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} has an ending of no known image format; {nearest(suffix, SUFFIXES)}")
    form = SUFFIXES[suffix]
    if form == "jpeg" and image.alpha is not None:
        raise InputError(f"{path}: JPEG holds no transparency; choose .png, .webp or .tif")
    if max(image.size) > _MAX_SIDE.get(form, 1 << 30):
        raise InputError(f"{path}: a side of {max(image.size)} pixels is too long for this format; choose .png or .tif")
    if form in ("jpeg", "webp") or image.depth == 8:
        return _by_pillow(_values(image, 8), form, image.icc)
    if form == "png":
        return _png(_values(image, 16), image.icc)
    return _tiff(_values(image, image.depth), image.icc, transparent=image.alpha is not None)


def _values(image: Image, depth: int) -> Any:
    """[H, W, C] array of uint8, uint16 or float32."""
    import numpy
    import torch

    planes: Tensor = image.pixels if image.alpha is None else torch.cat([image.pixels, image.alpha])
    values = planes.detach().cpu().clamp(0, 1).permute(1, 2, 0).contiguous().numpy()
    if depth == 32:
        return values.astype(numpy.float32)
    kind, top = (numpy.uint8, 255) if depth == 8 else (numpy.uint16, 65535)
    return numpy.rint(values.astype(numpy.float64) * top).astype(kind)


def _by_pillow(values: Any, form: str, icc: bytes | None) -> bytes:
    from PIL import Image as pillow

    options: dict[str, Any] = {
        "png": {},
        "jpeg": {"quality": 95, "subsampling": 0},
        "webp": {"lossless": True, "exact": True},
        "tiff": {"compression": "tiff_adobe_deflate"},
    }[form]
    image = pillow.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    buffer = io.BytesIO()
    image.save(buffer, form.upper(), **options, **({"icc_profile": icc} if icc else {}))
    return buffer.getvalue()


def _png(values: Any, icc: bytes | None) -> bytes:
    """A 16 bit PNG file."""
    import numpy

    height, width, channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    # Each row as the difference to the row above (filter 2): what smooth images are compressed best with.
    rows = values.astype(">u2").reshape(height, -1).view(numpy.uint8)
    above = numpy.vstack([numpy.zeros_like(rows[:1]), rows[:-1]])
    filtered = numpy.hstack([numpy.full((height, 1), 2, numpy.uint8), rows - above])
    profile = png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)) if icc else b""
    body = png_chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + profile + body + png_chunk(b"IEND", b"")


def _tiff(values: Any, icc: bytes | None, *, transparent: bool) -> bytes:
    """A 16 bit or floating point TIFF file: little-endian, compressed strips, opacity marked as such.

    Grey with opacity is written as colour, which more programs read.
    """
    if values.shape[2] == 2:
        values = values[..., [0, 0, 0, 1]]
    height, width, channels = values.shape
    bits = 8 * values.dtype.itemsize
    rows = max(1, _STRIP_BYTES // (width * channels * bits // 8))
    data = values.astype(values.dtype.newbyteorder("<"))
    strips = [zlib.compress(data[top : top + rows].tobytes(), 6) for top in range(0, height, rows)]
    offsets, place = [], 8
    for strip in strips:
        offsets.append(place)
        place += len(strip)
    tags: list[tuple[int, str, tuple[int, ...] | bytes]] = [
        (256, "I", (width,)), (257, "I", (height,)), (258, "H", (bits,) * channels), (259, "H", (8,)),
        (262, "H", (1 if channels < 3 else 2,)), (273, "I", tuple(offsets)), (277, "H", (channels,)),
        (278, "I", (rows,)), (279, "I", tuple(map(len, strips))), (284, "H", (1,)),
        (338, "H", (2,) if transparent else ()), (339, "H", (3 if bits == 32 else 1,) * channels),
        (34675, "B", icc or b""),
    ]  # fmt: skip
    tags = [tag for tag in tags if tag[2]]
    place += place % 2
    extra_at = place + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for tag, code, content in tags:
        packed = struct.pack(f"<{len(content)}{code}", *content)
        if len(packed) > 4:
            where, extra = struct.pack("<I", extra_at + len(extra)), extra + packed + b"\0" * (len(packed) % 2)
        else:
            where = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, {"B": 7, "H": 3, "I": 4}[code], len(content)) + where
    body = b"".join(strips)
    head = b"II*\0" + struct.pack("<I", place)
    return head + body + b"\0" * (len(body) % 2) + struct.pack("<H", len(tags)) + entries + b"\0" * 4 + extra
