"""The compression of a JPEG file: quantisation tables and chroma subsampling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from invsolve.core.lazy import torch
from invsolve.io.metadata import orientation_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["JPEGTables", "turned", "unturned"]

_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *([99] * 32),
)  # fmt: skip
"""ITU-T T.81, annex K."""

_SAMPLINGS = {(1, 1), (1, 2), (2, 1), (2, 2)}


@dataclass(frozen=True)
class JPEGTables:
    """The parameters that determine which images correspond to a JPEG file.

    Attributes:
        luma: 64 luma quantisation steps, row by row, in units of 1 / 255.
        chroma: chroma quantisation steps; None for a grey file.
        sampling: (rows, columns) of pixels that share one chroma value: (2, 2) is 4:2:0, (1, 2) is 4:2:2.
        orientation: the EXIF orientation (1 to 8) of the stored image.
        second: steps of the second chroma plane, if they differ from those of the first.
    """

    luma: tuple[int, ...]
    chroma: tuple[int, ...] | None = None
    sampling: tuple[int, int] = (2, 2)
    orientation: int = 1
    second: tuple[int, ...] | None = None

    @classmethod
    def of_quality(cls, quality: int, *, colour: bool = True, sampling: tuple[int, int] = (2, 2)) -> JPEGTables:
        """Return the standard tables, scaled as in libjpeg for a quality of 1 to 100."""
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        luma, chroma = (
            tuple(min(max((step * scale + 50) // 100, 1), 255) for step in table) for table in (_LUMA, _CHROMA)
        )
        return cls(luma, chroma if colour else None, sampling if colour else (1, 1))

    @classmethod
    def read(cls, image: Any) -> JPEGTables | None:
        """Return the tables of an image opened by Pillow; None if it is not a grey or YCbCr JPEG."""
        if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
            return None
        tables, layers = image.quantization, image.layer
        turn = orientation_of(image.getexif())
        if image.mode == "L":
            return cls(tuple(tables[layers[0][3]]), None, (1, 1), turn)
        # without a JFIF marker, an Adobe transform of 0 or the component names R, G, B mean RGB without conversion
        if image.info.get("adobe_transform") == 0 or [layer[0] for layer in layers] == [82, 71, 66]:
            return None
        (_, across, down, _), *colours = layers
        if len({layer[1:3] for layer in colours}) != 1:
            return None
        sampling = (down / colours[0][2], across / colours[0][1])
        if sampling not in _SAMPLINGS:
            return None
        luma, chroma, second = (tuple(tables[layer[3]]) for layer in layers)
        rows, columns = (int(pixels) for pixels in sampling)
        return cls(luma, chroma, (rows, columns), turn, None if second == chroma else second)

    @cached_property
    def quality(self) -> int:
        """The quality, 1 to 100, of the nearest standard table."""

        def distance(quality: int) -> float:
            table = JPEGTables.of_quality(quality).luma
            return sum(abs(a - b) / (a + b) for a, b in zip(table, self.luma, strict=True))

        return min(range(1, 101), key=distance)

    def steps(self, plane: int) -> Tensor:
        """Return the quantisation steps [8, 8] of luma (0) or a chroma plane (1, 2)."""
        table = self.luma if plane == 0 or self.chroma is None else self.chroma
        table = self.second if plane == 2 and self.second is not None else table
        return torch.tensor(table, dtype=torch.float64).view(8, 8)


def turned(x: Tensor, orientation: int) -> Tensor:
    """Rotate a stored image [..., H, W] upright, according to its orientation."""
    if orientation in (5, 6, 7, 8):
        x = x.transpose(-1, -2)
    if orientation in (2, 3, 6, 7):
        x = x.flip(-1)
    return x.flip(-2) if orientation in (3, 4, 7, 8) else x


def unturned(x: Tensor, orientation: int) -> Tensor:
    """Rotate an upright image [..., H, W] to its stored orientation; the inverse of `turned`."""
    if orientation in (3, 4, 7, 8):
        x = x.flip(-2)
    if orientation in (2, 3, 6, 7):
        x = x.flip(-1)
    return x.transpose(-1, -2) if orientation in (5, 6, 7, 8) else x
