"""A task of somebody else's: outpainting. tests/test_tasks.py installs it as a plug-in."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from invsolve import LinearOperator
from invsolve.core.operator import EMPTY
from invsolve.core.options import option
from invsolve.core.settings import Count, check_settings
from invsolve.tasks import Task


class Crop(LinearOperator):
    """The middle of an image, without a margin on each side."""

    def __init__(self, in_shape: tuple[int, int, int], margin: int) -> None:
        self.in_shape, self.margin = in_shape, margin
        self.out_shape = (in_shape[0], in_shape[1] - 2 * margin, in_shape[2] - 2 * margin)

    def forward(self, x: Tensor, theta=EMPTY) -> Tensor:
        return x[..., self.margin : -self.margin, self.margin : -self.margin]


@dataclass(frozen=True)
class Extend(Task):
    """The image continues beyond its border."""

    margin: Count = option(16, "pixels added on each side", metavar="PIXELS")

    name = "extend"
    tuning = {"inpaint": ((0.01, {"margin": 2}),)}

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def section(cls, options):
        return "inpaint"

    def operator(self, channels, size):
        return Crop((channels, *self.restored_size(size)), self.margin)

    def restored_size(self, size):
        return size[0] + 2 * self.margin, size[1] + 2 * self.margin

    def measured_size(self, size):
        return size[0] - 2 * self.margin, size[1] - 2 * self.margin

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "replicated", F.pad(y[None], (self.margin,) * 4, mode="replicate")[0]

    def shown(self, y: Tensor) -> Tensor:
        return F.pad(y, (self.margin,) * 4, value=0.5)

    def opacity(self, alpha: Tensor) -> Tensor:
        return F.pad(alpha, (self.margin,) * 4, value=1.0)

    def record(self, prior):
        return {"margin": self.margin}
