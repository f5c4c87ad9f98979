"""Super-resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from invsolve.core.checks import InputError
from invsolve.core.options import option
from invsolve.core.settings import Range, check_settings
from invsolve.io.jpeg import turned
from invsolve.tasks.base import Size, Streams, Task
from invsolve.tasks.jpeg import JPEG
from invsolve.tasks.resizing import resized

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import LinearOperator
    from invsolve.io import Image

__all__ = ["Superres"]


@dataclass(frozen=True)
class Superres(Task):
    """y = x downsampled, + noise.

    Args:
        factor: by which the image was made smaller, 2 or more.
        downsampling: by which filter: "bicubic" and "lanczos" as Pillow does it, "area" (the mean of factor x factor
            pixels), "nearest" (every so many pixels, beginning with the first).
        codec: how the small image was compressed, where it is a JPEG file: what is compared is then its coefficients.
    """

    factor: Annotated[int, Range(2)] = option(4, "how many times larger")

    downsampling: Literal["bicubic", "area", "lanczos", "nearest"] = option(
        "bicubic", "how it was made smaller: bicubic, area, lanczos or nearest"
    )

    codec: JPEG | None = None

    name = "superres"
    tuning = {"superres2": ((0.01, {"factor": 2}),), "superres4": ((0.01, {"factor": 4}),)}

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def section(cls, options: Any) -> str:
        return "superres2" if options.factor < 3 else "superres4"

    @property
    def severity(self) -> tuple[str, float]:
        kind = self.name if self.downsampling == "bicubic" else f"{self.name}-{self.downsampling}"
        return kind if self.codec is None else f"{kind}-jpeg", float(self.factor)

    @classmethod
    def from_options(cls, options: Self, image: Image, simulation: Streams | None) -> Self:
        if simulation is not None or image.jpeg is None:
            return options
        from invsolve.noise.estimate import noise_of

        codec = JPEG.of_tables(image.jpeg, image.pixels)
        if codec.was_noisy(image.pixels, noise_of(image.pixels)):
            return options  # what the estimate of the noise says allows for the compression
        return replace(options, codec=codec.by_frequency(image.pixels))

    @property
    def noise_level(self) -> float | None:
        return None if self.codec is None else self.codec.level

    def operator(self, channels: int, size: Size) -> LinearOperator:
        self._fits(size)
        if self.codec is None:
            return self._smaller(channels, size)
        from invsolve.tasks.compressed import CompressedSmall

        codec = self.codec.operator(channels, size)
        blocks = (codec.in_shape[1], codec.in_shape[2])
        return CompressedSmall(codec, self._smaller(channels, blocks), 1.0 if self._decimated else self.factor**-2)

    def _smaller(self, channels: int, size: Size) -> LinearOperator:
        from invsolve.operators import SuperResolution
        from invsolve.tasks.decimation import Decimation

        shape = (channels, self.factor * size[0], self.factor * size[1])
        if self._decimated:
            return Decimation(shape, self.factor)
        kernel = "average" if self.downsampling == "area" else self.downsampling
        return SuperResolution(shape, self.factor, kernel)

    @property
    def _decimated(self) -> bool:
        return self.downsampling == "nearest"

    def measurement(self, y: Tensor, channels: int) -> Tensor:
        return super().measurement(y, channels) if self.codec is None else self.codec.measurement(y, channels)

    def visible(self, x: Tensor, size: Size) -> Tensor:
        if self.codec is None:
            return x
        mark = self.codec.tables.orientation
        height, width = size[::-1] if mark > 4 else size
        return turned(x[..., : self.factor * height, : self.factor * width], mark)

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "bicubic", resized(y, self.restored_size((y.shape[1], y.shape[2])))

    def restored_size(self, size: Size) -> Size:
        self._fits(size)
        return self.factor * size[0], self.factor * size[1]

    def measured_size(self, size: Size) -> Size:
        self._fits(size)
        return size[0] // self.factor, size[1] // self.factor

    def shown(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, 1).repeat_interleave(self.factor, 2)

    def opacity(self, alpha: Tensor) -> Tensor:
        return resized(alpha, self.restored_size((alpha.shape[1], alpha.shape[2]))).clamp(0, 1)

    def record(self, prior: Any) -> dict[str, Any]:
        codec = {} if self.codec is None else {"compression": self.codec.record(prior)}
        return {"factor": self.factor, "downsampling": self.downsampling, **codec}

    def _fits(self, size: Size) -> None:
        if self.factor > min(size):
            raise InputError(f"a factor of {self.factor} is larger than the image of {size[1]} x {size[0]} pixels")
