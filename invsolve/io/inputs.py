"""Convert user inputs to images: files, arrays, tensors."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from invsolve.core.boundary import foreign, open_file
from invsolve.core.checks import InputError, ShapeError, as_tensor
from invsolve.core.lazy import torch
from invsolve.io.decode import check_values, read_image
from invsolve.io.image import Image

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Source", "as_image", "describe", "from_pillow", "without_hidden_colours"]

logger = logging.getLogger(__name__)

Source: TypeAlias = str | Path | Image | Any
"""A file, an `Image`, a Pillow image, a tensor [C, H, W] or [H, W], or an array [H, W] or [H, W, C]. Values are 8 or
16 bit integers at full scale, or floating point numbers in [0, 1]."""

_INTEGER_SCALES = {"uint8": (255.0, 8), "uint16": (65535.0, 16), "bool": (1.0, 8)}


def as_image(source: Source, *, holes: bool = False, page: int | None = None) -> Image:
    """Convert any image input to an `Image`; see `Source`.

    Args:
        source: the image.
        holes: allow NaN pixels, which are missing pixels.
        page: page of a TIFF file; see `read_image`.

    Raises:
        InputError: a file that cannot be read, or invalid values or shapes.
    """
    if isinstance(source, str | Path):
        return read_image(source, holes=holes, page=page)
    if isinstance(source, Image):
        check_values(source.pixels, "the image", holes=holes)
        return source
    planes, depth = _planes(source)
    if len(planes) not in (1, 2, 3, 4):
        raise ShapeError(
            f"an image must have 1 to 4 channels (grey or colour, with or without opacity), got {len(planes)}: "
            "tensors are [C, H, W], arrays [H, W, C]"
        )
    channels = 1 if len(planes) < 3 else 3
    check_values(planes[:channels], "the image", holes=holes)
    alpha = planes[channels:].clone() if len(planes) > channels else None
    if alpha is not None and not bool(((alpha >= 0) & (alpha <= 1)).all()):
        raise InputError("the image's opacity, its last channel, lies outside [0, 1]: 0 is transparent, 1 opaque")
    return Image(planes[:channels], alpha, depth)


def _planes(source: Any) -> tuple[Tensor, int]:
    """Return [C, H, W] float32 on the CPU, and the bits per value."""
    values, depth = _array(source)
    if isinstance(source, torch.Tensor):
        values = values[0] if values.ndim == 4 and len(values) == 1 else values
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3 or not values.numel():
            raise ShapeError(f"an image tensor must have the shape [C, H, W], got {list(source.shape)}")
        return values, depth
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or not values.numel():
        raise ShapeError(f"an image array must have the shape [H, W] or [H, W, C], got {list(values.shape)}")
    return values.permute(2, 0, 1).contiguous(), depth


def _array(source: Any) -> tuple[Tensor, int]:
    """Return the values in their layout, float32 on the CPU, integers divided by full scale; and the bits per value."""
    import numpy

    if isinstance(source, torch.Tensor):
        kind, values = str(source.dtype).removeprefix("torch."), source.detach().cpu()
    else:
        source = from_pillow(source)
        try:
            array = numpy.asarray(source)
        except ValueError as error:  # lists of different lengths
            raise InputError(
                f"an image must be a file, an array or a tensor, got {type(source).__name__}: {error}"
            ) from error
        kind = array.dtype.name
        if array.dtype.kind not in "fuib":
            raise InputError(f"images must hold 8 or 16 bit integers or floating point values, got {kind}")
        values = torch.from_numpy(array.astype(numpy.float32))
    if kind in _INTEGER_SCALES:
        scale, depth = _INTEGER_SCALES[kind]
        return values.to(torch.float32) / scale, depth
    if not kind.startswith(("float", "bfloat")):
        raise InputError(f"images must hold 8 or 16 bit integers (uint8, uint16) or floating point values, got {kind}")
    return values.to(torch.float32, copy=True), 16


def from_pillow(source: Any) -> Any:
    """Convert a Pillow image as if read from a file: upright, no palette, grey or RGB. Other inputs are unchanged."""
    if type(source).__module__.split(".", 1)[0] != "PIL":
        return source
    from PIL import ImageOps

    try:
        with foreign("the EXIF data of a Pillow image"):
            image = ImageOps.exif_transpose(source)
    except InputError as error:
        logger.warning("%s; it is left out", error)
        image = source
    if getattr(source, "format", None) == "PNG" and _has_transparent_value(image):
        return _with_opacity(image)
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("F", "I;16", "I;16B", "I;16L", "L", "LA", "RGB", "RGBA"):
        return image
    if image.mode == "I":
        raise InputError("a Pillow image of mode I holds 32 bit integers: divide them by the value of white")
    return image.convert("L" if image.mode == "1" else "RGBA" if image.has_transparency_data else "RGB")


def _has_transparent_value(image: Any) -> bool:
    """Whether one value of an opened PNG file is transparent. Pillow keeps colours of 16 bits, of pixels of 8 bits."""
    value = image.info.get("transparency")
    if image.mode == "RGB":
        return isinstance(value, tuple) and max(value) < 256
    return isinstance(value, int) and image.mode in ("1", "L", "I;16")


def _with_opacity(image: Any) -> Any:
    """Convert a Pillow image with one transparent value to one with an opacity channel."""
    import numpy

    if image.mode != "I;16":
        return image.convert("RGBA" if image.mode == "RGB" else "LA")
    values = numpy.asarray(image)
    return numpy.stack([values, numpy.where(values == image.info["transparency"], 0, 65535).astype(values.dtype)], -1)


def without_hidden_colours(image: Image) -> Tensor:
    """Return the pixels [C, H, W]; fully transparent pixels get the colour of the nearest visible pixel.

    Colours under an opacity of 0 are arbitrary. Operations that blur, enlarge or smooth an image must not spread them
    to visible pixels.
    """
    if image.alpha is None:
        return image.pixels
    hidden = image.alpha[0] <= 0
    if not bool(hidden.any()) or bool(hidden.all()):
        return image.pixels
    from scipy.ndimage import distance_transform_edt

    places: Any = distance_transform_edt(hidden.numpy(), return_distances=False, return_indices=True)
    rows, columns = torch.from_numpy(places).long()
    return image.pixels[:, rows, columns]


def describe(source: Source) -> dict[str, Any]:
    """Describe an input for a record: its path, or its shape if it came from memory, and its SHA-256."""
    if isinstance(source, str | Path):
        digest = hashlib.sha256()
        with open_file(source, "file") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return {"path": str(Path(source).resolve()), "sha256": digest.hexdigest()}
    if isinstance(source, Image):
        source = source.pixels
    if not isinstance(source, torch.Tensor):
        source = as_tensor(source, "an image")
    values = source.detach().cpu().contiguous()
    content = values.view(torch.uint8) if values.ndim else values[None].view(torch.uint8)
    return {"shape": list(values.shape), "sha256": hashlib.sha256(content.numpy().tobytes()).hexdigest()}
