"""Super-resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.operator import LinearOperator
from invsolve.core.options import option
from invsolve.core.settings import Range, check_settings
from invsolve.tasks.base import Size, Task
from invsolve.tasks.resizing import resized

__all__ = ["Superres"]


@dataclass(frozen=True)
class Superres(Task):
    """y = x downsampled, + noise.

    Args:
        factor: by which the image was made smaller, 2 or more.
        downsampling: by which filter: "bicubic" and "lanczos" as Pillow does it, "area" (the mean of factor x factor
            pixels), "nearest" (every so many pixels, beginning with the first).
    """

    factor: Annotated[int, Range(2)] = option(4, "how many times larger")

    downsampling: Literal["bicubic", "area", "lanczos", "nearest"] = option(
        "bicubic", "how it was made smaller: bicubic, area, lanczos or nearest"
    )

    name = "superres"
    tuning = {"superres2": ((0.01, {"factor": 2}),), "superres4": ((0.01, {"factor": 4}),)}

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def section(cls, options: Any) -> str:
        return "superres2" if options.factor < 3 else "superres4"

    @property
    def severity(self) -> tuple[str, float]:
        return self.name if self.downsampling == "bicubic" else f"{self.name}-{self.downsampling}", float(self.factor)

    def operator(self, channels: int, size: Size) -> LinearOperator:
        from invsolve.operators import SuperResolution
        from invsolve.tasks.decimation import Decimation

        shape = (channels, *self.restored_size(size))
        if self.downsampling == "nearest":
            return Decimation(shape, self.factor)
        kernel = "average" if self.downsampling == "area" else self.downsampling
        return SuperResolution(shape, self.factor, kernel)

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
        return {"factor": self.factor, "downsampling": self.downsampling}

    def _fits(self, size: Size) -> None:
        if self.factor > min(size):
            raise InputError(f"a factor of {self.factor} is larger than the image of {size[1]} x {size[0]} pixels")
