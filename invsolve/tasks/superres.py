"""Super-resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from invsolve.core.checks import InputError
from invsolve.core.options import option
from invsolve.core.settings import Range, check_settings
from invsolve.io.inputs import without_hidden_colours
from invsolve.tasks.base import Size, Streams
from invsolve.tasks.jpeg import JPEG
from invsolve.tasks.jpeg_measured import JPEGMeasured
from invsolve.tasks.resizing import enlarged, resized
from invsolve.tasks.sampling import DENSE, Sampling, read_sampling

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import LinearOperator
    from invsolve.io import Image

__all__ = ["Superres"]

AUTO, BICUBIC, AREA, NEAREST = "auto", "bicubic", "area", "nearest"

NOISY = 0.012
"""Noise level from which noise dominates the spectrum near the Nyquist frequency."""


@dataclass(frozen=True)
class Superres(JPEGMeasured):
    """y = x downsampled, + noise.

    Args:
        factor: downsampling factor, 2 or more.
        downsampling: downsampling filter: "bicubic" and "lanczos" as in Pillow, "area" (the mean of factor x factor
            pixels), "nearest" (every factor-th pixel, starting with the first), or "auto": detected from the image's
            spectrum, see `invsolve.tasks.sampling`. In simulations and suites, "auto" is bicubic.
        codec: how the small image was compressed, if it is or was a JPEG file; the DCT coefficients are then compared.
        sampling: the result of the detection; None if it was not run or gave no result.
        automatic: whether `downsampling` was detected from the image. A detected "nearest" is modelled with values at
            the pixel centres, as interpolation does: it is unknown which pixels were kept, and not certain that any
            were. At factors above 2 these values are too few, and the image is interpolated.
    """

    factor: Annotated[int, Range(2)] = option(4, "how many times larger")

    downsampling: Literal["auto", "bicubic", "area", "lanczos", "nearest"] = option(
        AUTO, "how the image was made smaller: bicubic, area, lanczos, nearest (default auto: detected)"
    )

    codec: JPEG | None = None
    sampling: Sampling | None = None
    automatic: bool = False

    name = "superres"
    spares_detail = True
    tuning = {"superres2": ((0.01, {"factor": 2}),), "superres4": ((0.01, {"factor": 4}),)}

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def section(cls, options: Any) -> str:
        if options.downsampling == NEAREST:
            return "inpaint"  # the pixels between the kept ones are missing
        return "superres2" if options.factor < 3 else "superres4"

    @property
    def conditions(self) -> Mapping[str, float]:
        """Pixels kept on a grid use the inpainting settings for half of the pixels missing."""
        return {"scatter": 0.5} if self._kernel == NEAREST else {}

    @property
    def severity(self) -> tuple[str, float]:
        kind = self.name if self._kernel == BICUBIC else f"{self.name}-{self._kernel}"
        return kind if self.codec is None else f"{kind}-jpeg", float(self.factor)

    @classmethod
    def from_options(cls, options: Self, image: Image, simulation: Streams | None) -> Self:
        if simulation is not None:
            return options
        from invsolve.noise.estimate import noise_of
        from invsolve.noise.white import QUANTISATION

        pixels, told, codec = without_hidden_colours(image), options, JPEG.of_image(image)
        noise = noise_of(pixels, image.seen, QUANTISATION, image.jpeg)
        noisy = noise.low >= NOISY if codec is None else codec.was_noisy(pixels, noise)
        if not noisy:
            seen = read_sampling(pixels, options.factor, compressed=codec is not None)
            told = replace(options, sampling=seen)
        if told.downsampling == AUTO:
            kind = AREA if told.sampling is None else told.sampling.safest
            told = replace(told, downsampling=kind, automatic=True)
        if codec is None or noisy:
            return told  # in a noisy file, the noise estimate includes the compression error
        return replace(told, codec=codec.by_frequency(pixels))

    def operator(self, channels: int, size: Size) -> LinearOperator:
        self._fits(size)
        return self.compressed(self._smaller(channels, size))

    def _smaller(self, channels: int, size: Size) -> LinearOperator:
        from invsolve.operators import SuperResolution
        from invsolve.tasks.decimation import Decimation

        shape = (channels, self.factor * size[0], self.factor * size[1])
        if self._kernel == NEAREST:
            return Decimation(shape, self.factor)
        return SuperResolution(shape, self.factor, "average" if self._kernel == AREA else self._kernel)

    @property
    def _kernel(self) -> str:
        if self.downsampling == NEAREST and self.automatic:
            return "point"
        return BICUBIC if self.downsampling == AUTO else self.downsampling

    @property
    def interpolates(self) -> bool:
        return self._kernel == "point" and self.factor > DENSE

    def interpolated(self, y: Tensor) -> Tensor:
        return enlarged(y, self.restored_size((y.shape[1], y.shape[2])))

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
        return {
            "factor": self.factor,
            "downsampling": self.downsampling,
            **self._found(),
            **self.compression(prior),
        }

    def _found(self) -> dict[str, Any]:
        """The detected downsampling and its consequence, for the record."""
        if not self.automatic:
            return {} if self.sampling is None else {"probabilities": dict(self.sampling.probabilities)}
        if self.sampling is None:
            return {
                "found": "how it was made smaller cannot be detected, because it is noisy or too small: the mean of "
                "blocks is assumed"
            }
        return {"probabilities": dict(self.sampling.probabilities), "found": self.sampling.description}

    def _fits(self, size: Size) -> None:
        if self.factor > min(size):
            raise InputError(f"a factor of {self.factor} is larger than the image of {size[1]} x {size[0]} pixels")
