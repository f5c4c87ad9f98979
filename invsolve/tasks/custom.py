"""A custom degradation: an operator given by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from invsolve.core.checks import InputError, ShapeError
from invsolve.core.lazy import torch
from invsolve.core.options import option
from invsolve.tasks.base import Size, Streams, Task
from invsolve.tasks.resizing import resized

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import Operator
    from invsolve.io import Image

__all__ = ["Custom"]


@dataclass(frozen=True)
class Custom(Task):
    """y = A(x) + noise with a custom operator whose measurements are images.

    Args:
        operator_name: "module:Class", called with the image's shape (C, H, W), or "module:function" of images
            [N, C, H, W]; or a name from `invsolve.operators.OPERATORS` that only needs the shape.
        image_size: (height, width) of the restored image; None if measurements have the size of images.
    """

    operator_name: str = option("", "your own operator, module:Class", metavar="NAME", flag="--operator")
    image_size: tuple[int, ...] | None = option(
        None, "height,width of the restored image, if the measurement has another size", metavar="H,W"
    )

    name = "custom"

    @classmethod
    def from_options(cls, options: Any, image: Image, simulation: Streams | None) -> Self:
        if not options.operator_name:
            raise InputError("the task custom needs an operator: give --operator module:Class")
        if options.image_size is not None and len(options.image_size) != 2:
            raise InputError(f"image-size must be height,width, got {options.image_size}")
        return options if simulation is None else replace(options, image_size=image.size)

    def operator(self, channels: int, size: Size) -> Operator:
        made = self._made((channels, *self.restored_size(size)))
        if tuple(made.out_shape[1:]) != tuple(size):
            raise ShapeError(
                f"{self.operator_name} makes measurements of {list(made.out_shape)} from images of "
                f"{list(made.in_shape)}, the image given is {size[1]} x {size[0]}: give --image-size H,W of the "
                "restored image"
            )
        return made

    def _made(self, in_shape: tuple[int, ...]) -> Operator:
        from invsolve.core.operator import Operator
        from invsolve.operators import OPERATORS, as_operator

        found: Any = OPERATORS[self.operator_name]
        if isinstance(found, Operator):
            return found
        if isinstance(found, type):
            return found(in_shape)
        return as_operator(found, in_shape=in_shape)

    def restored_size(self, size: Size) -> Size:
        return size if self.image_size is None else (self.image_size[0], self.image_size[1])

    def measured_size(self, size: Size) -> Size:
        _, height, width = self._made((3, *size)).out_shape
        return height, width

    def degrade(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        made = self._made(tuple(clean.shape))
        return made(clean[None])[0], clean

    def shown(self, y: Tensor) -> Tensor:
        size = self.restored_size((y.shape[1], y.shape[2]))
        return y if tuple(y.shape[1:]) == size else resized(y, size)

    def opacity(self, alpha: Tensor) -> Tensor | None:
        size = self.restored_size((alpha.shape[1], alpha.shape[2]))
        return alpha if tuple(alpha.shape[1:]) == size else torch.ones(1, *size)

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "measured", self.shown(y)

    def record(self, prior: Any) -> dict[str, Any]:
        return {"operator": self.operator_name}
