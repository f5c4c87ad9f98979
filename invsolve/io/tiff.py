"""TIFF files, read with tifffile: every tag that changes the meaning of pixels is applied, or the file is rejected."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from invsolve.core.boundary import MAX_PIXELS, MAX_PROFILE_BYTES, foreign
from invsolve.core.checks import InputError
from invsolve.io.metadata import Metadata, tiff_tags, with_exif_directories

__all__ = ["MARKS", "Decoded", "Page", "encode", "read", "read_size"]

logger = logging.getLogger(__name__)

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Signatures of TIFF files; the last two are BigTIFF."""

_GREY_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_GREY_WHITE_IS_ZERO: 1, _GREY: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_OTHERS = {
    4: "a transparency mask", 8: "CIE L*a*b* colours", 9: "ICC L*a*b* colours", 10: "ITU L*a*b* colours",
    32803: "the raw values of a colour filter array", 32844: "LogL values", 32845: "LogLuv colours",
    34892: "linear raw values",
}  # fmt: skip
_PACKED = {
    1: "none", 2: "CCITT", 3: "CCITT G3", 4: "CCITT G4", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits",
    32946: "deflate", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP",
}  # fmt: skip
_JPEG, _ONE_OF_SEVERAL = 7, 2
_UNUSED = {290: "GrayResponseUnit", 291: "GrayResponseCurve", 301: "TransferFunction", 42113: "GDAL_NODATA"}
_MAX_CHANNELS, _MAX_SEGMENTS = 16, 1 << 17


class Decoded(NamedTuple):
    """A page of a TIFF file.

    Attributes:
        values: [H, W, C] in [0, 1] (floating point values are unchanged), C = 1 to 4 as in `Image`, float32; colours
            are not premultiplied.
        orientation: 1 to 8, not yet applied.
        icc: the colour profile.
        directory: its index among all images of the file.
    """

    values: Any
    orientation: int
    icc: bytes | None
    directory: int


class Page(NamedTuple):
    """A page to write: values [H, W, C], colour profile, metadata, and whether the last channel is opacity."""

    values: Any
    icc: bytes | None
    metadata: Metadata
    transparent: bool


def read_size(path: Path, content: bytes, page: int = 0) -> tuple[int, int, int, int]:
    """Return height, width and depth (8, 16, or 32 for floating point) of a page, and the number of pages.

    Raises:
        InputError: the page is damaged or not supported.
    """
    with _page(path, content, page) as (found, count):
        return found.imagelength, found.imagewidth, _depth(path, found), count


def read(path: Path, content: bytes, number: int = 0) -> Decoded:
    """Decode a page.

    Raises:
        InputError: the page is damaged or not supported.
    """
    import numpy

    with _page(path, content, number) as (page, _):
        _check(path, page, len(content))
        _warn(path, page)
        values = page.asarray(squeeze=False)[:, 0]  # [separate planes, H, W, channels]
        values = values[..., 0].transpose(1, 2, 0) if page.planarconfig == 2 else values[0]
        values = _scaled(path, page, numpy.asarray(values))
        icc = page.tags.valueof(34675)
        orientation = page.tags.valueof(274, 1)
        directory = page.index
    if isinstance(icc, bytes) and len(icc) > MAX_PROFILE_BYTES:
        raise InputError(f"{path} has a colour profile that is too large: remove it")
    return Decoded(values, orientation, icc if isinstance(icc, bytes) else None, directory)


def _scaled(path: Path, page: Any, values: Any) -> Any:
    """Convert all stored channels to [H, W, 1 to 4] float32."""
    import numpy

    top = 1.0 if page.sampleformat == 3 else float(2**page.bitspersample - 1)
    colours = _COLOURS[page.photometric]
    alpha, kind = _alpha(path, page, colours)
    opacity = None if alpha is None else values[..., alpha : alpha + 1].astype(numpy.float32) / numpy.float32(top)
    if page.photometric == _PALETTE:
        table = numpy.asarray(page.colormap, numpy.float32).T
        pixels = (table / (65535.0 if table.max() > 255 else 255.0))[values[..., 0]]
    elif page.photometric == _CMYK or (page.photometric == _YCBCR and page.compression != _JPEG):
        from PIL import Image as pillow

        mode = "CMYK" if page.photometric == _CMYK else "YCbCr"
        made = pillow.frombytes(mode, values.shape[1::-1], numpy.ascontiguousarray(values[..., :colours]).tobytes())
        pixels = numpy.asarray(made.convert("RGB"), numpy.float32) / numpy.float32(255)
    else:
        pixels = values[..., :colours].astype(numpy.float32) / numpy.float32(top)
    if page.photometric == _GREY_WHITE_IS_ZERO:
        pixels = 1 - pixels
    if opacity is None:
        return pixels
    if kind == 1:  # premultiplied colours
        pixels = numpy.divide(pixels, opacity, out=numpy.zeros_like(pixels), where=opacity > 0)
        pixels = pixels if top == 1.0 else pixels.clip(0, 1)
    return numpy.concatenate([pixels, opacity], 2)


def _alpha(path: Path, page: Any, colours: int) -> tuple[int | None, int]:
    """Return the index of the opacity channel, and its kind: 1 for premultiplied colours, 2 otherwise."""
    extra = page.samplesperpixel - colours
    if extra < 1:
        return None, 0
    kinds = [int(kind) for kind in page.extrasamples] or [2]  # if untagged, most programs mean this
    found = next((i for i, kind in enumerate(kinds[:extra]) if kind in (1, 2)), None)
    if extra > (0 if found is None else 1):
        logger.warning("%s has channels that are neither colours nor opacity: they are left out", path)
    return (None, 0) if found is None else (colours + found, kinds[found])


def _depth(path: Path, page: Any) -> int:
    bits, form = page.bitspersample, page.sampleformat
    if not isinstance(bits, int) or not isinstance(form, int):
        raise InputError(
            f"{path} mixes types of values ({bits} bits): only 8 bit, 16 bit and floating point values can be read"
        )
    if form == 3 and bits in (16, 32, 64):
        return 32
    if form in (1, 4) and 1 <= bits <= 16:
        return 16 if bits > 8 else 8
    name = {1: "unsigned integers", 2: "signed integers", 3: "floating point"}.get(form, "values of another kind")
    raise InputError(f"{path} holds {bits} bit {name}: only 8 bit, 16 bit and floating point values can be read")


def _check(path: Path, page: Any, size: int) -> None:
    """Raise `InputError` for unsupported or impossible contents."""
    _depth(path, page)
    height, width = page.imagelength, page.imagewidth
    if page.photometric not in _COLOURS:
        kind = _OTHERS.get(page.photometric, f"pixels of the kind {page.photometric}")
        raise InputError(f"{path} holds {kind}, which cannot be read: save it as RGB or grey")
    if page.photometric in (_CMYK, _YCBCR) and page.bitspersample != 8:
        raise InputError(f"{path} holds {page.bitspersample} bit CMYK or YCbCr colours: save it as RGB")
    if page.photometric == _YCBCR and page.compression != _JPEG and page.tags.valueof(530, (2, 2)) != (1, 1):
        raise InputError(f"{path} holds YCbCr colours of reduced resolution outside JPEG: save it as RGB")
    if page.compression not in _PACKED:
        raise InputError(f"{path} is compressed with {page.compression!s:.40}: use LZW, deflate or no compression")
    if prod(page.shaped) == 0 or page.imagedepth != 1 or height * width > MAX_PIXELS:
        raise InputError(f"{path} is damaged, or not a single image: {width} x {height} x {page.imagedepth} pixels")
    if not _COLOURS[page.photometric] <= page.samplesperpixel <= _MAX_CHANNELS:
        least = _COLOURS[page.photometric]
        raise InputError(f"{path} has {page.samplesperpixel} channels, but its colours need {least} to {_MAX_CHANNELS}")
    if page.photometric == _PALETTE and (page.colormap is None or page.colormap.shape != (3, 2**page.bitspersample)):
        raise InputError(f"{path} is damaged: a TIFF file whose palette is missing")
    if page.tags.valueof(332, 1) != 1:
        raise InputError(f"{path} holds inks other than cyan, magenta, yellow and black: save it as RGB")
    fractions = page.tags.valueof(532, ())  # ReferenceBlackWhite, alternating numerators and denominators
    told = page.tags.valueof(336) or tuple(
        a / b for a, b in zip(fractions[::2], fractions[1::2], strict=True)
    )  # DotRange
    usual = (0, 2**page.bitspersample - 1)
    if told and page.photometric != _YCBCR and told != usual * (len(told) // 2):
        raise InputError(f"{path} has black and white at {told[:2]}, not at {usual}: save it again")
    _check_segments(path, page, size)


def _check_segments(path: Path, page: Any, size: int) -> None:
    """Raise `InputError` if not all strips or tiles are inside the file."""
    offsets, counts = page.dataoffsets, page.databytecounts
    segments = prod(page.chunked)
    if len(offsets) < segments or len(counts) < segments:
        raise InputError(f"{path} is damaged: it has only {min(len(offsets), len(counts))} of its {segments} parts")
    if segments > _MAX_SEGMENTS or prod(page.chunks) > MAX_PIXELS:
        raise InputError(
            f"{path} is divided into {segments} parts, which are too many or too large: save it with strips of a few "
            "rows"
        )
    if any(start < 8 or count < 1 or start + count > size for start, count in zip(offsets, counts, strict=False)):
        raise InputError(f"{path} is truncated or damaged: a part of its pixels lies outside the file")


def _warn(path: Path, page: Any) -> None:
    names = [name for tag, name in _UNUSED.items() if tag in page.tags]
    if names:
        logger.warning("%s has tags that are not applied to its pixels: %s", path, ", ".join(names))


@contextmanager
def _page(path: Path, content: bytes, index: int = 0) -> Iterator[tuple[Any, int]]:
    """Open a page without decoding it, and count the pages; nothing is written to the log or to standard error.

    Reduced copies of a page and masks do not count as pages.
    """
    log = logging.getLogger("tifffile")
    before = log.disabled
    log.disabled = True
    try:
        import tifffile

        with foreign(path), tifffile.TiffFile(io.BytesIO(content)) as file:
            first: Any = file.pages.first
            every: Any = file.pages
            pages = [page for page in every if not (page.is_reduced or page.is_mask)] or [first]
            if not 0 <= index < len(pages):
                raise InputError(f"{path} has {len(pages)} pages: there is no page {index + 1}")
            page: Any = pages[index]
            if not (isinstance(page.imagelength, int) and isinstance(page.imagewidth, int)) or (
                min(page.imagelength, page.imagewidth) < 1
            ):
                raise InputError(f"{path} is damaged: a TIFF file without the size of its image")
            yield page, len(pages)
    finally:
        log.disabled = before


def encode(pages: Sequence[Page]) -> bytes:
    """Encode one or more pages as a TIFF file: deflate compression, opacity marked as not premultiplied.

    EXIF directories are written for the first page only. Text tags are written for all pages.
    """
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder="<") as writer:
        for values, icc, metadata, transparent in pages:
            writer.write(
                values[..., 0] if values.shape[2] == 1 else values,
                photometric="minisblack" if values.shape[2] < 3 else "rgb",
                planarconfig="contig" if values.shape[2] > 1 else None,
                extrasamples=["unassalpha"] if transparent else None,
                compression="zlib",
                predictor=True,
                iccprofile=icc,
                metadata=None,
                software=False,
                subfiletype=_ONE_OF_SEVERAL if len(pages) > 1 else 0,
                contiguous=False,
                resolution=metadata.dpi,
                resolutionunit=None if metadata.dpi is None else "INCH",
                extratags=tiff_tags(metadata, _size(values)),
            )
    return with_exif_directories(buffer.getvalue(), pages[0].metadata, _size(pages[0].values))


def _size(values: Any) -> tuple[int, int]:
    return values.shape[0], values.shape[1]
