"""Images, masks and blur kernels from whatever a user has of them: files, arrays, tensors."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from invsolve.core.checks import InputError, ShapeError
from invsolve.io.decode import read_image
from invsolve.io.image import Image

__all__ = ["Source", "as_image", "describe", "read_kernel", "read_mask"]

logger = logging.getLogger(__name__)

Source: TypeAlias = str | Path | Image | Tensor | Any
"""A file, an `Image`, a tensor [C, H, W] in [0, 1], or an array [H, W] or [H, W, C]: uint8, uint16 or in [0, 1]."""

_INTEGER_SCALES = {"uint8": (255.0, 8), "uint16": (65535.0, 16)}


def as_image(source: Source) -> Image:
    """An image from whatever stands for one; see `Source`.

    Raises:
        InputError: a file that cannot be read, or values or shapes that are no image.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, str | Path):
        return read_image(source)
    planes, depth = _planes(source)
    if len(planes) not in (1, 2, 3, 4):
        raise ShapeError(f"an image has 1 to 4 channels (grey or colour, with opacity or not), got {len(planes)}")
    if not bool(torch.isfinite(planes).all()):
        raise InputError("the image has pixels that are NaN or infinite: replace them, or mask them for inpainting")
    low, high = planes.min().item(), planes.max().item()
    if low < -0.5 or high > 1.5:
        raise InputError(f"the image has values from {low:.4g} to {high:.4g}: scale it to [0, 1]")
    channels = 1 if len(planes) < 3 else 3
    alpha = planes[channels:] if len(planes) > channels else None
    return Image(planes[:channels], alpha, depth)


def _planes(source: Any) -> tuple[Tensor, int]:
    """[C, H, W] float32 on the CPU and the bits of a value."""
    if isinstance(source, Tensor):
        tensor = source.detach().cpu()
        if tensor.ndim == 4 and len(tensor) == 1:
            tensor = tensor[0]
        if tensor.ndim == 2:
            tensor = tensor[None]
        if tensor.ndim != 3 or not tensor.numel():
            raise ShapeError(f"an image is a tensor of shape [C, H, W], got {list(source.shape)}")
        if not tensor.is_floating_point():
            raise InputError(f"an image is a tensor of floating point values in [0, 1], got {tensor.dtype}")
        return tensor.float().clone(), 16
    import numpy

    values = numpy.asarray(source)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or not values.size:
        raise ShapeError(f"an image is an array of shape [H, W] or [H, W, C], got {list(values.shape)}")
    scale, depth = _INTEGER_SCALES.get(values.dtype.name, (1.0, 16))
    if scale == 1.0 and values.dtype.kind != "f":
        raise InputError(f"an image holds uint8, uint16 or floating point values, got {values.dtype}")
    planes = numpy.ascontiguousarray(values.transpose(2, 0, 1).astype(numpy.float32))
    return torch.from_numpy(planes) / scale, depth


def read_mask(source: Source, size: tuple[int, int]) -> Tensor:
    """Where an image is missing, bool [H, W]: white in a mask file (0.5 and above), True or non-zero in an array.

    Raises:
        InputError: the mask cannot be read, has another size, or marks nothing or everything.
    """
    if isinstance(source, Tensor) and source.dtype == torch.bool:
        source = source.float()
    elif not isinstance(source, str | Path | Image | Tensor):
        import numpy

        source = numpy.asarray(source).astype(bool).astype(numpy.float32)
    image = as_image(source)
    missing = image.pixels.mean(0) >= 0.5
    if tuple(missing.shape) != size:
        raise InputError(
            f"the mask is {missing.shape[1]} x {missing.shape[0]} pixels, the image {size[1]} x {size[0]}: "
            "they must have the same size"
        )
    if not bool(missing.any()):
        raise InputError("the mask marks nothing: missing pixels are white (0.5 and above), known ones black")
    if bool(missing.all()):
        raise InputError("the mask marks everything as missing: known pixels must be black (below 0.5)")
    return missing


def read_kernel(source: Source) -> Tensor:
    """A blur kernel [h, w] that sums to one: a grey image, a .npy or text file of numbers, or an array.

    Numbers that do not sum to about 1 are divided by their sum, with a warning.

    Raises:
        InputError: it cannot be read, or is no kernel.
    """
    import numpy

    if isinstance(source, str | Path):
        values = _kernel_file(Path(source))
    else:
        values = source.pixels.mean(0) if isinstance(source, Image) else source
    kernel = torch.as_tensor(numpy.asarray(values), dtype=torch.float64)
    if kernel.ndim != 2 or not kernel.numel():
        raise ShapeError(f"a blur kernel has two dimensions, got the shape {list(kernel.shape)}")
    total = float(kernel.sum())
    if not bool(torch.isfinite(kernel).all()) or total <= 1e-8:
        raise InputError(f"a blur kernel holds finite numbers with a sum above 0, got the sum {total:.4g}")
    if abs(total - 1) > 0.01:
        logger.warning("the blur kernel sums to %.4g and is divided by that", total)
    return kernel / total


def _kernel_file(path: Path) -> Any:
    import numpy

    if path.suffix.lower() not in (".npy", ".txt", ".csv"):
        return read_image(path).pixels.mean(0)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        if path.suffix.lower() == ".npy":
            return numpy.load(path, allow_pickle=False)
        return numpy.loadtxt(path, delimiter="," if path.suffix.lower() == ".csv" else None, ndmin=2)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path} holds no table of numbers: {error}") from error


def describe(source: Source) -> dict[str, Any]:
    """What a record says about an input: its path and SHA-256, or that it came from memory."""
    if isinstance(source, str | Path):
        path = Path(source)
        return {"path": str(path.resolve()), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    if isinstance(source, Image):
        source = source.pixels
    values = torch.as_tensor(source).detach().cpu().contiguous()
    return {"shape": list(values.shape), "sha256": hashlib.sha256(values.numpy().tobytes()).hexdigest()}
