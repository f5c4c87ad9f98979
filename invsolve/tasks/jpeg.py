"""Removal of JPEG compression artefacts."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from invsolve.core.checks import InputError
from invsolve.core.lazy import lazy, torch
from invsolve.core.options import option
from invsolve.core.settings import Range, check_settings
from invsolve.io.image import eight_bits
from invsolve.io.inputs import without_hidden_colours
from invsolve.io.jpeg import JPEGTables, turned, unturned
from invsolve.tasks.base import Size, Streams, Task

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import LinearOperator
    from invsolve.core.rng import Rng
    from invsolve.io import Image
    from invsolve.noise.estimated import NoiseEstimate
    from invsolve.tasks import jpeg_cells as cells
    from invsolve.tasks import jpeg_codec as codec
    from invsolve.tasks import jpeg_history as history
    from invsolve.tasks.compressed import Compressed
else:
    cells, codec, history = (lazy(f"invsolve.tasks.jpeg_{name}") for name in ("cells", "codec", "history"))

__all__ = ["JPEG", "JPEGOptions", "encoded"]

NOISY = 0.75
"""Noise level, in units of the compression error, above which the image was noisy before compression."""

DEFAULT = 30
"""Default quality of a simulation."""


@dataclass(frozen=True)
class JPEGOptions:
    """The user options; only needed if the file does not contain its compression settings."""

    compression: Annotated[int, Range(1, 100)] | None = option(
        None,
        "JPEG quality, if the file does not contain it or for a simulation (there 30 by default)",
        metavar="QUALITY",
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class JPEG(Task):
    """y = decode(encode(x)): see `JPEGCoefficients`. The noise is the compression error, not noise of the image.

    Args:
        tables: the compression tables of the file.
        level: root mean square of the compression error, in [0, 1] units.
        source: source of the tables: "file", "pixels" (an image that was a JPEG before), "given".
        spread: standard deviations [planes, 8, 8] of coefficients about the middle of their cells, relative to that of
            a uniform distribution over the cell; 1 if None.
        noise: standard deviation of the noise before compression; `level` and `spread` account for it.
    """

    tables: JPEGTables
    level: float
    source: Literal["file", "pixels", "given"] = "file"
    spread: Tensor | None = None
    noise: float = 0.0

    name = "jpeg"
    options = JPEGOptions
    tuning = {"jpeg": ((1e-4, {"compression": 10}), (1e-4, {"compression": 40}))}

    @classmethod
    def from_options(cls, options: JPEGOptions, image: Image, simulation: Streams | None) -> Self:
        if simulation is not None:
            return cls.simulated(options, image.pixels)
        found = image.jpeg or history.find_tables(image.pixels)
        source: Literal["file", "pixels", "given"] = "file" if image.jpeg else "pixels"
        if found is None and options.compression is not None:
            found, source = JPEGTables.of_quality(options.compression, colour=len(image.pixels) == 3), "given"
        if found is None:
            raise InputError(
                "this image is not a JPEG file, and its pixels show no trace of JPEG compression: give the original "
                "file, before any editing, or --compression QUALITY"
            )
        return cls.of_tables(found, image.pixels, source)

    @classmethod
    def of_image(cls, image: Image) -> Self | None:
        """Create the task for a JPEG file, or for pixels decoded from one; None for other images."""
        tables = image.jpeg or history.find_tables(image.pixels)
        if tables is None or (tables.chroma is not None and len(image.pixels) != 3):
            return None
        return cls.of_tables(tables, without_hidden_colours(image), "file" if image.jpeg else "pixels")

    @classmethod
    def of_tables(cls, tables: JPEGTables, y: Tensor, source: Literal["file", "pixels", "given"]) -> Self:
        """Create the task for a decoded image [C, H, W], upright."""
        return cls(tables, codec.expected_error(unturned(y, tables.orientation), tables), source)

    def by_frequency(self, y: Tensor, noise: float = 0.0) -> Self:
        """Return the task with a separate uncertainty for each frequency.

        It is less than a cell where most values are zero, and at least the error of rounding to 8 bits.

        Args:
            y: the decoded image [C, H, W], upright.
            noise: standard deviation of the noise before compression, in [0, 1] units.
        """
        variances = codec.expected_variances(unturned(y, self.tables.orientation), self.tables, noise)
        steps = [self.tables.steps(k) for k in range(len(variances))]
        spread = [
            v.clamp_min(codec.CELL**2).sqrt() / (codec.CELL * step) for v, step in zip(variances, steps, strict=True)
        ]
        return replace(self, level=codec.error_of(variances, self.tables), spread=torch.stack(spread), noise=noise)

    def rounding(self, y: Tensor) -> Tensor:
        """See `jpeg_codec.rounding`; y is the decoded image [C, H, W], rows and columns are upright."""
        stored = codec.rounding(unturned(y, self.tables.orientation), self.tables)
        return stored.T if self.tables.orientation > 4 else stored

    def after(self, inner: LinearOperator) -> Compressed:
        """Return the operator `inner` followed by this compression."""
        from invsolve.tasks.compressed import Compressed

        channels, height, width = inner.out_shape
        return Compressed(self.operator(channels, (height, width)), inner)

    def was_noisy(self, y: Tensor, noise: NoiseEstimate) -> bool:
        """Whether the image was certainly noisy before compression.

        Args:
            y: the decoded image [C, H, W], upright.
            noise: noise of y, including the compression error.
        """
        return noise.low > NOISY * self.level and self.may_be_noisy(y)

    def may_be_noisy(self, y: Tensor) -> bool:
        """Whether every frequency of the decoded image y is strong enough to contain noise, or fine texture."""
        return codec.noise_bound(unturned(y, self.tables.orientation), self.tables) > NOISY * self.level

    @classmethod
    def simulated(cls, options: JPEGOptions, clean: Tensor) -> Self:
        """Create the task for a clean image that is to be compressed."""
        tables = JPEGTables.of_quality(options.compression or DEFAULT, colour=len(clean) == 3)
        return cls.of_tables(tables, encoded(clean, tables), "given")

    @classmethod
    def from_draw(cls, options: JPEGOptions, drawn: Mapping[str, Tensor]) -> Task:
        tables = JPEGTables.of_quality(options.compression or DEFAULT)
        return cls(tables, codec.typical_error(tables), "given")

    @property
    def severity(self) -> tuple[str, float]:
        return self.name, float(self.tables.quality)

    @property
    def noise_level(self) -> float:
        return self.level

    def operator(self, channels: int, size: Size) -> codec.JPEGCoefficients:
        height, width = size[::-1] if self.tables.orientation > 4 else size
        return codec.JPEGCoefficients(
            (channels, *codec.padded_size((height, width), self.tables)),
            self.tables,
            self.level / codec.CELL,
            self.spread,
        )

    def measurement(self, y: Tensor, channels: int) -> Tensor:
        found = codec.coefficients(unturned(y, self.tables.orientation), self.tables)
        planes = found if len(y) == channels else found * channels
        middle = torch.zeros(8, 8, dtype=torch.float64)
        middle[0, 0] = 8 * 128  # the level shift of luma; chroma has none
        level = [self.tables.chroma is None or k == 0 for k in range(len(planes))]
        whole = [plane + middle / self.tables.steps(k) if level[k] else plane for k, plane in enumerate(planes)]
        if self.spread is not None:
            whole = [plane / self.spread[k % len(self.spread)] for k, plane in enumerate(whole)]
        return self.level / codec.CELL * torch.cat([plane.flatten() for plane in whole]).float()

    def degrade(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        return encoded(clean, self.tables), clean

    def noisy(self, clean: Tensor, level: float, rng: Rng) -> Tensor:
        return clean

    def visible(self, x: Tensor, size: Size) -> Tensor:
        height, width = size[::-1] if self.tables.orientation > 4 else size
        return turned(x[..., :height, :width], self.tables.orientation)

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "JPEG", y

    def consistent(self, x: Tensor, y: Tensor, noise: NoiseEstimate) -> Tensor:
        return x if self.source == "given" else cells.within_cells(x, y, self.tables)

    def record(self, prior: Any) -> dict[str, Any]:
        return {"quality": self.tables.quality, "sampling": list(self.tables.sampling), "tables": self.source}


def encoded(clean: Tensor, tables: JPEGTables) -> Tensor:
    """Compress an image [C, H, W] with these tables as a JPEG file, and decode it."""
    import numpy
    from PIL import Image as pillow

    values = eight_bits(clean)
    qtables = [list(table) for table in (tables.luma, tables.chroma, tables.second) if table is not None]
    file = io.BytesIO()
    picture = pillow.fromarray(values[..., 0] if len(clean) == 1 else values)
    how = {} if len(clean) == 1 else {"subsampling": {(1, 1): "4:4:4", (1, 2): "4:2:2"}.get(tables.sampling, "4:2:0")}
    picture.save(file, "JPEG", qtables=qtables, **how)
    decoded = torch.from_numpy(numpy.array(pillow.open(file))).float() / 255
    return decoded[None] if decoded.ndim == 2 else decoded.permute(2, 0, 1)
