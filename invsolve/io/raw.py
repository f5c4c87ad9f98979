"""Camera raw files, read with LibRaw: the sensor values behind the colour filters, and their development."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from invsolve.core.boundary import foreign
from invsolve.core.checks import InputError
from invsolve.core.lazy import torch
from invsolve.io.metadata import Metadata, of_tiff

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SUFFIXES", "Decoded", "Mosaic", "is_raw", "read", "read_size"]

logger = logging.getLogger(__name__)

SUFFIXES = {
    ".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".rw2", ".pef", ".srw",
    ".3fr", ".fff", ".iiq", ".erf", ".mef", ".mos", ".mrw", ".dcr", ".kdc", ".rwl", ".gpr",
}  # fmt: skip
"""File extensions of raw files."""

_DNG_VERSION, _NOISE_PROFILE = 50706, 51041


@dataclass(frozen=True, eq=False)
class Mosaic:
    """The values of a sensor, one colour per pixel, in upright orientation.

    Attributes:
        values: [1, H, W] float32, linear in the light: 0 is the black level, 1 is sensor saturation. Noise can be
            below 0.
        pattern: filter colours of a square tile, row by row: "RGGB", or 36 letters for an X-Trans sensor.
        white_balance: factors for red, green and blue that make grey neutral; the smallest is 1.
        matrix: [3, 3], maps white-balanced camera colours to linear sRGB; its rows sum to 1.
        noise: (a, b) of the variance a + b x of a value x, if the file contains it (DNG NoiseProfile).
    """

    values: Tensor
    pattern: str
    white_balance: tuple[float, float, float]
    matrix: Tensor
    noise: tuple[float, float] | None = None

    def developed(self, colours: Tensor) -> Tensor:
        """Convert camera colours [..., 3, H, W] in the units of `values` to sRGB [..., 3, H, W] in [0, 1].

        The steps are white balance, clipping at the white of the weakest channel, the matrix, and the sRGB curve. There
        is no brightening, local contrast or sharpening.
        """
        balance = torch.tensor(self.white_balance).to(colours).view(3, 1, 1)
        white = (balance * colours).clamp(0, 1)
        linear = torch.einsum("cd,...dhw->...chw", self.matrix.to(colours), white).clamp(0, 1)
        return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


class Decoded(NamedTuple):
    """A decoded raw file: LibRaw's sRGB image [H, W, 3] in [0, 1], the sensor values, and the camera's metadata."""

    values: Any
    mosaic: Mosaic
    metadata: Metadata


def is_raw(path: Path, content: bytes) -> bool:
    """Whether a file is raw by its extension, or a DNG file by its tags."""
    return path.suffix.lower() in SUFFIXES or _has_tag(content, _DNG_VERSION)


def _has_tag(content: bytes, tag: int) -> bool:
    """Whether the first directory of a TIFF file has a tag."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None or len(content) < 8:
        return False
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    if start + 2 > len(content):
        return False
    (count,) = struct.unpack_from(f"{order}H", content, start)
    count = min(count, (len(content) - start - 2) // 12)
    return any(struct.unpack_from(f"{order}H", content, start + 2 + 12 * i)[0] == tag for i in range(count))


def read_size(path: Path, content: bytes) -> tuple[int, int, int]:
    """Return height, width and depth, as stored.

    Raises:
        InputError: rawpy is not installed, or LibRaw does not support the file.
    """
    with _opened(path, content) as raw:
        return raw.sizes.height, raw.sizes.width, 16


def read(path: Path, content: bytes) -> Decoded:
    """Decode a raw file.

    Raises:
        InputError: the file is damaged, or does not hold exactly one of red, green and blue per pixel.
    """
    import numpy
    import rawpy

    with _opened(path, content) as raw:
        mosaic = _mosaic(path, content, raw)
        with foreign(path):
            values = raw.postprocess(
                use_camera_wb=True, no_auto_bright=True, gamma=(2.4, 12.92), output_bps=16,
                output_color=rawpy.ColorSpace.sRGB,
            )  # fmt: skip
    return Decoded(values.astype(numpy.float32) / numpy.float32(65535), mosaic, of_tiff(path, content))


def _mosaic(path: Path, content: bytes, raw: Any) -> Mosaic:
    import numpy
    import rawpy

    with foreign(path):
        one_colour = raw.raw_type == rawpy.RawType.Flat and raw.num_colors == 3
    if not one_colour:
        raise InputError(
            f"{path} does not hold one value of red, green or blue per pixel (the camera has demosaiced it, or its "
            "sensor has other filters): develop it to TIFF, and restore that"
        )
    with foreign(path):
        measured, places = numpy.array(raw.raw_image_visible, numpy.float32), numpy.array(raw.raw_colors_visible)
        black = numpy.asarray(raw.black_level_per_channel, numpy.float32)[places]
        side = len(raw.raw_pattern)
        names = numpy.frombuffer(raw.color_desc, "S1")[places]
        balances = raw.camera_whitebalance, raw.daylight_whitebalance
        matrix, flip = torch.tensor(raw.color_matrix[:, :3]), raw.sizes.flip
    if not (black < raw.white_level).all():
        raise InputError(f"{path} is damaged: its black level lies above its white level, {raw.white_level}")
    values = _upright((measured - black) / (raw.white_level - black), flip)
    names = _upright(names, flip)
    height, width = names.shape
    tile = names[:side, :side]
    if (numpy.tile(tile, (height // side + 1, width // side + 1))[:height, :width] != names).any():
        raise InputError(f"{path} has an irregular colour filter pattern: develop it to TIFF, and restore that")
    if not torch.allclose(matrix.sum(1), torch.ones_like(matrix[:, 0]), atol=0.02):
        logger.warning("%s: the colours of this camera are unknown, so sRGB is assumed", path)
        matrix = torch.eye(3, dtype=torch.float32)
    balance = next((b[:3] for b in balances if min(b[:3]) > 0), [1.0, 1.0, 1.0])
    red, green, blue = (float(factor / min(balance)) for factor in balance)
    planes = torch.from_numpy(numpy.ascontiguousarray(values))[None]
    return Mosaic(planes, tile.tobytes().decode(), (red, green, blue), matrix, _noise_profile(content))


def _upright(values: Any, flip: int) -> Any:
    """Apply LibRaw's orientation flags to [H, W]: 1 flips left and right, 2 flips top and bottom, then 4 transposes."""
    values = values[::-1] if flip & 2 else values
    values = values[:, ::-1] if flip & 1 else values
    return values.T if flip & 4 else values


def _noise_profile(content: bytes) -> tuple[float, float] | None:
    """(a, b) of a DNG file, averaged over the colours: the variance of a sensor value x is a + b x."""
    import tifffile

    if not _has_tag(content, _DNG_VERSION):
        return None
    with foreign("the noise profile of the DNG file"), tifffile.TiffFile(io.BytesIO(content)) as file:
        first: Any = file.pages.first
        told = [page.tags.valueof(_NOISE_PROFILE) for page in (first, *(first.pages or ()))]
    pairs = next((value for value in told if isinstance(value, tuple) and len(value) >= 2), None)
    if pairs is None:
        return None
    b, a = (sum(pairs[i::2]) / (len(pairs) // 2) for i in (0, 1))
    return (a, b) if a >= 0 and b >= 0 and a + b > 0 else None


@contextmanager
def _opened(path: Path, content: bytes) -> Iterator[Any]:
    try:
        import rawpy
    except ImportError as error:
        raise InputError(f"{path} is the raw file of a camera: to read it, pip install 'invsolve[raw]'") from error
    with foreign(path):
        raw = rawpy.imread(io.BytesIO(content))
    with raw:
        yield raw
