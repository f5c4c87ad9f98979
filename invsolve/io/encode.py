"""Write images to files: completely or not at all; existing files are only replaced on request."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.core.checks import InputError, nearest
from invsolve.core.files import destination, new_file
from invsolve.io import png, tiff
from invsolve.io.header import SUFFIXES
from invsolve.io.image import Image
from invsolve.io.metadata import png_chunks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LONGEST", "check_format", "check_target", "encode_image", "warn_of_colours", "write_files", "write_image",
]  # fmt: skip

logger = logging.getLogger(__name__)

LONGEST = 255
"""Largest length of a file name in bytes, on common file systems."""

_MAX_SIDE = {"jpeg": 65_500, "webp": 16_383, "avif": 65_535, "bmp": 32_767, "tga": 65_535}

_OPAQUE = {"jpeg", "bmp", "ppm"}
"""Formats without transparency."""

_KEPT = {
    "jpeg": ("icc_profile", "exif", "xmp", "dpi"),
    "webp": ("icc_profile", "exif", "xmp"),
    "avif": ("icc_profile", "exif", "xmp"),
    "bmp": ("dpi",),
}
"""Metadata that the formats written by Pillow can hold."""


def write_image(path: str | Path, image: Image, *, overwrite: bool = False) -> Path:
    """Write an image; the extension of `path` determines the format.

    PNG and TIFF keep the image's depth (PNG uses 16 bits for floating point images). The other formats use 8 bits: JPEG
    (quality 95, no chroma subsampling), WebP and JPEG 2000 (lossless), AVIF (quality 90, no chroma subsampling), BMP,
    PPM and TGA. Values are clipped to [0, 1] and rounded to the nearest step. The colour profile, EXIF, XMP and the
    resolution are kept by the formats that support them. Colours that a PNG file declared without a profile are kept
    by PNG alone; for another format, a warning in the log says so, unless they are sRGB.

    Raises:
        InputError: the folder does not exist, the file exists and `overwrite` is not set, or the format is unknown or
            cannot hold the image.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    write_files({path: encode_image(image, path)}, overwrite=overwrite)
    warn_of_colours(image, path)
    return path


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise `InputError` if a file cannot be written at `path`, or at the target of a link at `path`."""
    if len(os.fsencode(path.name)) > LONGEST:
        raise InputError(f"the name {path.name} is longer than the limit of {LONGEST} bytes")
    target = destination(path)
    if target.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is a pipe or a device: name a file")
    if not target.parent.is_dir():
        raise InputError(f"the folder {target.parent} does not exist: make it first")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"the folder {target.parent} is not writable")
    if os.path.lexists(path) and not overwrite:
        raise InputError(
            f"{path} already exists: choose another output or overwrite it with --overwrite (overwrite=True)"
        )


def write_files(contents: Mapping[Path, bytes], *, overwrite: bool = False) -> None:
    """Write several files, all or none: first temporary files, then renames. For a link, its target is written.

    Raises:
        InputError: a file exists and `overwrite` is not set, or a file cannot be written.
    """
    for path in contents:
        check_target(path, overwrite=overwrite)
    staged: dict[Path, Path] = {}
    at = Path()
    try:
        for path, content in contents.items():
            at = path
            target = destination(path)
            staged[target] = new_file(target)
            staged[target].write_bytes(content)
        for target, part in staged.items():
            at = target
            part.replace(target)
    except OSError as error:
        raise InputError(f"{at} cannot be written: {error.strerror}") from error
    finally:
        for part in staged.values():
            part.unlink(missing_ok=True)


def encode_image(image: Image, path: str | Path, *, quality: int | None = None, further: Sequence[Image] = ()) -> bytes:
    """Return the content of a file named `path`.

    Args:
        image: the image to encode.
        path: its extension determines the format.
        quality: quality of JPEG, WebP and AVIF, 1 to 100; see `write_image` for the defaults.
        further: further pages of a TIFF file.

    Raises:
        InputError: the extension is not that of a known format, or the format cannot hold the image.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"the extension of {path} is not that of an image format; {nearest(suffix, SUFFIXES)}")
    form = SUFFIXES[suffix]
    check_format(path, image.size, image.alpha)
    if form in _OPAQUE and image.alpha is not None:  # it is opaque everywhere
        image = replace(image, alpha=None)
    if form == "tiff":
        return tiff.encode([_page(page) for page in (image, *further)])
    if further:
        raise InputError(f"{path}: a {suffix} file holds only one of the {1 + len(further)} pages; choose .tif")
    icc = _profile(image)
    if form == "png":
        data = png.encode(_values(image, 8 if image.depth == 8 else 16), icc, image.metadata.colours)
        return png.with_chunks(data, png_chunks(image.metadata, image.size))
    return _by_pillow(image, form, icc, quality)


def check_format(path: str | Path, size: tuple[int, int], alpha: Tensor | None) -> None:
    """Raise `InputError` if the format of a file named `path` cannot hold an image.

    Args:
        path: a path with one of the extensions `SUFFIXES`.
        size: (height, width).
        alpha: opacity in [0, 1].
    """
    suffix = Path(path).suffix.lower()
    form = SUFFIXES[suffix]
    if form in _OPAQUE and alpha is not None and bool((alpha < 1 - 0.5 / 255).any()):
        raise InputError(f"{path}: {suffix} files have no transparency; choose .png, .webp or .tif")
    if max(size) > _MAX_SIDE.get(form, 1 << 30):
        raise InputError(f"{path}: a side of {max(size)} pixels is too long for this format; choose .png or .tif")


def warn_of_colours(image: Image, path: str | Path) -> None:
    """Log a warning if the format of a file named `path` cannot declare the colours of an image read from PNG."""
    suffix = Path(path).suffix.lower()
    form = SUFFIXES[suffix]
    kept = form == "png" or (_profile(image) is not None and (form == "tiff" or "icc_profile" in _KEPT.get(form, ())))
    if not kept and (names := png.other_colours(image.metadata.colours)):
        logger.warning(
            "%s: its PNG source declares other colours than sRGB (%s), which %s files cannot declare, so it will look "
            "different: choose .png",
            path, names, suffix,
        )  # fmt: skip


def _page(image: Image) -> tiff.Page:
    return tiff.Page(_values(image, image.depth), _profile(image), image.metadata, image.alpha is not None)


def _profile(image: Image) -> bytes | None:
    """The colour profile if it matches the image (grey or RGB): a grey profile would make colours unreadable."""
    kind = b"GRAY" if len(image.pixels) == 1 else b"RGB "
    return image.icc if image.icc is not None and image.icc[16:20] == kind else None


def _values(image: Image, depth: int) -> Any:
    """Return a [H, W, C] array of uint8, uint16 or float32."""
    import numpy
    import torch

    planes: Tensor = image.pixels if image.alpha is None else torch.cat([image.pixels, image.alpha])
    values = planes.detach().cpu().clamp(0, 1).permute(1, 2, 0).contiguous().numpy()
    if depth == 32:
        return values.astype(numpy.float32)
    kind, top = (numpy.uint8, 255) if depth == 8 else (numpy.uint16, 65535)
    return numpy.rint(values.astype(numpy.float64) * top).astype(kind)


def _by_pillow(image: Image, form: str, icc: bytes | None, quality: int | None) -> bytes:
    from PIL import Image as pillow

    values, metadata = _values(image, 8), image.metadata
    exif = metadata.exif_for(image.size)
    told = {"icc_profile": icc, "exif": exif, "xmp": metadata.xmp, "dpi": metadata.dpi}
    options: dict[str, Any] = {
        "jpeg": {"quality": quality or 95, "subsampling": 0},
        "webp": {"lossless": True, "exact": True} if quality is None else {"quality": quality, "exact": True},
        "avif": {"quality": quality or 90, "subsampling": "4:4:4"},
    }.get(form, {})
    options |= {name: told[name] for name in _KEPT.get(form, ()) if told[name]}
    made = pillow.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    buffer = io.BytesIO()
    made.save(buffer, form.upper(), **options)
    return buffer.getvalue()
