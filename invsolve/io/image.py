"""An image in memory, its middle, and its pixels in 8 bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from invsolve.core.checks import InputError, ShapeError
from invsolve.io.jpeg import JPEGTables
from invsolve.io.metadata import Metadata
from invsolve.io.raw import Mosaic

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Image", "eight_bits", "middle"]


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels, and the information needed to write them in their original file format.

    Args:
        pixels: [C, H, W] float32 on the CPU with C = 1 (grey) or 3 (red, green, blue); 0 is black, 1 is white. Pixels
            of a floating point file may be slightly outside [0, 1], for example because of noise.
        alpha: opacity [1, H, W] in [0, 1], 1 is opaque; None if the image has none. Colours are not premultiplied.
        depth: bits per value in the file: 8, 16, or 32 for floating point.
        format: file format: "png", "jpeg", "webp", "tiff", "avif", ...
        icc: the embedded colour profile.
        metadata: EXIF, XMP and resolution, which a restoration keeps.
        jpeg: how the file was compressed, if the pixels are exactly those of a JPEG file.
        mosaic: the sensor values, if the file is a camera raw file; pixels are then those developed by LibRaw.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    depth: int = 8
    format: str = "png"
    icc: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    jpeg: JPEGTables | None = None
    mosaic: Mosaic | None = None

    def __post_init__(self) -> None:
        shape = list(self.pixels.shape)
        if self.pixels.ndim != 3 or shape[0] not in (1, 3) or 0 in shape:
            raise ShapeError(f"an image must have the shape [1 or 3, height, width], got {shape}")
        if self.alpha is not None and list(self.alpha.shape) != [1, *shape[1:]]:
            raise ShapeError(f"opacity of shape {[1, *shape[1:]]} expected, got {list(self.alpha.shape)}")
        if self.depth not in (8, 16, 32):
            raise InputError(f"an image must have 8, 16 or 32 (floating point) bits per value, got {self.depth}")

    @property
    def seen(self) -> Tensor | None:
        """Mask of pixels that are not fully transparent, bool [H, W]; None without opacity."""
        return None if self.alpha is None else self.alpha[0] > 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.pixels.shape[1], self.pixels.shape[2]


def middle(image: Tensor, side: int) -> Tensor:
    """Return the middle of an image [..., H, W]: at most `side` rows and columns."""
    top, left = (max(length - side, 0) // 2 for length in image.shape[-2:])
    return image[..., top : top + side, left : left + side]


def eight_bits(pixels: Tensor) -> Any:
    """Convert pixels [C, H, W] to a uint8 array [H, W, C]: [0, 1] becomes 0 to 255, values beyond are clipped."""
    return (255 * pixels.detach().cpu().clamp(0, 1)).round().byte().permute(1, 2, 0).contiguous().numpy()
