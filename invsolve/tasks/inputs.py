"""Read the inputs of tasks besides the image: masks and blur kernels, from files, arrays or tensors."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.core.boundary import MAX_TEXT_BYTES, foreign, read_bytes
from invsolve.core.checks import InputError, ShapeError, as_tensor
from invsolve.core.lazy import torch
from invsolve.io import Image, read_image
from invsolve.io.inputs import Source, as_image, from_pillow

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_kernel", "read_mask"]

logger = logging.getLogger(__name__)


def read_mask(source: Source, size: tuple[int, int]) -> Tensor:
    """Read the mask of missing pixels, bool [H, W]: white (at least half of the full scale) in a file or an array.

    Integers with no value above 1 are read as 0 and 1. Transparent pixels of a mask count as black.

    Raises:
        InputError: the mask cannot be read, has another size, or marks nothing or everything.
    """
    if not isinstance(source, str | Path | Image):
        source = from_pillow(source)
        if isinstance(source, list | tuple | torch.Tensor) or getattr(source, "dtype", None) is not None:
            source = _of_integers(source)
    image = as_image(source)
    level = _grey(image)
    step = 1 / (255 if image.depth == 8 else 65535)
    missing = level >= (0.5 * step if image.depth < 32 and 0 < float(level.max()) < 1.5 * step else 0.5)
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


def _grey(image: Image) -> torch.Tensor:
    """The brightness [H, W] of an image on a black background."""
    return image.pixels.mean(0) * (1.0 if image.alpha is None else image.alpha[0])


def _of_integers(source: Any) -> Any:
    """Convert integers of any size to 8 bits: 0 and 1, or 0 to 255; 16-bit values are unchanged."""
    values = as_tensor(source, "a mask")
    if values.is_floating_point() or values.dtype in (torch.bool, torch.uint8, torch.uint16) or not values.numel():
        return source
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 255:
        raise InputError(f"an integer mask must be 0 and 1, or 0 to 255, got {low} to {high}")
    eight = values.to(torch.uint8)
    return eight if isinstance(source, torch.Tensor) else eight.numpy()


def read_kernel(source: Source) -> Tensor:
    """Read a blur kernel [h, w]: an image on a black background, a .npy or text file of numbers, or an array.

    The result sums to one; a warning is given if the numbers do not sum to about 1. The entry [h // 2, w // 2]
    corresponds to no shift. For an even side, this is one of the two middle entries, as in scipy.ndimage, and a warning
    is given.

    Raises:
        InputError: the input cannot be read, or is not a kernel.
    """

    if isinstance(source, str | Path):
        values = _kernel_file(Path(source))
    else:
        values = _grey(source) if isinstance(source, Image) else source
    values = as_tensor(from_pillow(values), "a blur kernel").detach().cpu()
    if values.is_complex():
        raise InputError(f"a blur kernel must be real-valued, got {str(values.dtype).removeprefix('torch.')}")
    kernel = values.double()
    if kernel.ndim != 2 or not kernel.numel():
        raise ShapeError(f"a blur kernel must be 2-D, got the shape {list(kernel.shape)}")
    total = float(kernel.sum())
    if not bool(torch.isfinite(kernel).all()) or total <= 1e-8:
        raise InputError(f"a blur kernel must be finite with a sum above 0, got the sum {total:.4g}")
    if abs(total - 1) > 0.01:
        logger.warning("the blur kernel sums to %.4g and is divided by that", total)
    if any(side % 2 == 0 for side in kernel.shape):
        logger.warning(
            "the blur kernel has an even side, %d x %d: its entry [%d, %d] is taken as the middle (pad it to odd "
            "sides to define its middle)",
            *kernel.shape,
            kernel.shape[0] // 2,
            kernel.shape[1] // 2,
        )
    return kernel / total


def _kernel_file(path: Path) -> Any:
    import numpy

    if path.suffix.lower() not in (".npy", ".txt", ".csv"):
        return _grey(read_image(path))
    content = read_bytes(path, "blur kernel", MAX_TEXT_BYTES)
    with foreign(f"{path}, which should hold a table of numbers,"):
        if path.suffix.lower() == ".npy":
            return numpy.load(io.BytesIO(content), allow_pickle=False)
        lines = io.StringIO(content.decode("utf-8"))
        return numpy.loadtxt(lines, delimiter="," if path.suffix.lower() == ".csv" else None, ndmin=2)
