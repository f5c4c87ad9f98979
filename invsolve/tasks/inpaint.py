"""Inpainting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from invsolve.core.checks import InputError
from invsolve.core.lazy import torch
from invsolve.core.options import option
from invsolve.core.settings import Count, Range, check_settings
from invsolve.io.image import eight_bits
from invsolve.io.inputs import Source
from invsolve.tasks.base import Size, Streams, Task
from invsolve.tasks.inputs import read_mask

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import LinearOperator
    from invsolve.io import Image

__all__ = ["Inpaint", "InpaintDraw", "InpaintOptions"]

PartOf: TypeAlias = Annotated[float, Range(0, 1, above=True, below=True)]

SCATTERED = 1.2
"""Missing pixels count as holes if their mean depth exceeds that of random missing pixels by this factor."""

KEEP = 0.5
"""Share of the pixels that a simulation's random mask keeps."""


@dataclass(frozen=True)
class InpaintOptions:
    """The user options: the missing region."""

    mask: Source | None = option(
        None, "mask, white where pixels are missing (default: transparent or NaN pixels)", metavar="FILE"
    )


@dataclass(frozen=True)
class InpaintDraw:
    """The suite options: give exactly one."""

    missing: PartOf | None = option(None, "share of random missing pixels")
    box: Count | None = option(None, "side of a missing square in the middle, in pixels")

    def __post_init__(self) -> None:
        check_settings(self)
        if (self.box is None) == (self.missing is None):
            raise InputError("give missing (a share of the pixels) or box (a side in pixels)")


def _partly(missing: Tensor) -> Tensor:
    """Return the mask; raise an error if it leaves no pixel."""
    if bool(missing.all()):
        raise InputError("every pixel of the image is missing or NaN, so no pixel is known")
    return missing


@dataclass(frozen=True, eq=False)
class Inpaint(Task):
    """y = x at known pixels, + noise.

    Args:
        missing: bool [H, W], true for missing pixels.
        source: source of the mask. If it is the image's own transparency, the restored image is opaque.
    """

    missing: Tensor
    source: Literal["mask", "random", "transparency"] = "mask"

    name = "inpaint"
    fills_holes = True
    options, suite_options = InpaintOptions, InpaintDraw
    tuning = {"inpaint": ((0.01, {"missing": 0.5}),)}

    @classmethod
    def from_options(cls, options: InpaintOptions, image: Image, simulation: Streams | None) -> Self:
        holes = torch.isnan(image.pixels).any(0)
        if options.mask is not None:
            return cls(_partly(read_mask(options.mask, image.size) | holes))
        if simulation is not None:
            return cls(simulation("mask").uniform(torch.empty(1, *image.size))[0] >= KEEP, "random")
        missing = torch.zeros(image.size, dtype=torch.bool) if image.alpha is None else image.alpha[0] < 1
        if bool(holes.any()) and not bool(missing.any()):
            return cls(_partly(holes))
        missing = missing | holes
        if not bool(missing.any()):
            raise InputError(
                "inpainting needs to know which pixels are missing: give --mask FILE (white is missing), or make "
                "them transparent"
            )
        if bool(missing.all()):
            raise InputError("no pixel of the image is fully opaque, so no pixel is known: give --mask FILE")
        return cls(missing, "transparency")

    @classmethod
    def draw(cls, options: InpaintDraw, size: Size, streams: Streams) -> dict[str, Tensor]:
        if options.missing is not None:
            return {"mask": streams("mask").uniform(torch.empty(1, *size))[0] < options.missing}
        side = int(options.box or 0)
        if side >= min(size):
            raise InputError(f"a missing square of {side} pixels is too large for a {size[0]} x {size[1]} image")
        mask = torch.zeros(size, dtype=torch.bool)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        mask[top : top + side, left : left + side] = True
        return {"mask": mask}

    @classmethod
    def from_draw(cls, options: InpaintDraw, drawn: Mapping[str, Tensor]) -> Self:
        return cls(drawn["mask"])

    @property
    def severity(self) -> tuple[str, float]:
        """("inpaint-random", share of missing pixels), or ("inpaint-hole", side in pixels of equally wide squares).

        The kind depends on the mean distance of missing pixels from the nearest known pixel. It is about (b + 3) / 6 in
        a square of side b, and about 1 / (2 sqrt(1 - p)) if a share p of the pixels is missing at random.
        """
        from scipy.ndimage import distance_transform_edt

        share = float(self.missing.float().mean())
        if not 0 < share < 1:
            return "inpaint-random", min(max(share, 1e-3), 1.0)
        distance = torch.as_tensor(distance_transform_edt(self.missing.numpy()))
        depth = float(distance[self.missing].mean())
        if depth > SCATTERED * max(1.0, 0.5 / (1 - share) ** 0.5):
            return "inpaint-hole", max(1.0, 6 * depth - 3)
        return "inpaint-random", share

    def operator(self, channels: int, size: Size) -> LinearOperator:
        from invsolve.operators import Inpainting

        return Inpainting((channels, *size), ~self.missing)

    @property
    def conditions(self) -> Mapping[str, float]:
        """`scatter`: share of missing pixels among the four neighbours of known pixels that touch a missing pixel.

        About 0.3 around holes and letters of any size, 0.5 if half of the pixels are missing at random, and 0.9 if nine
        tenths are missing.
        """
        known, touching = ~self.missing, torch.zeros(self.missing.shape)
        for dim in (0, 1):
            for step in (-1, 1):
                neighbour = self.missing.roll(step, dim)
                neighbour.select(dim, 0 if step == 1 else -1).fill_(False)
                touching += neighbour
        edge = touching[known & (touching > 0)]
        return {"scatter": float(edge.mean() / 4) if len(edge) else 0.25}

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        """Telea 2004, "An image inpainting technique based on the fast marching method", from OpenCV, radius 3."""
        import cv2
        import numpy

        values = eight_bits(y)
        filled = cv2.inpaint(values, self.missing.byte().numpy(), 3, cv2.INPAINT_TELEA)
        planes = torch.from_numpy(numpy.asarray(filled)).float() / 255
        planes = planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1)
        return "Telea", torch.where(self.missing, planes, y)

    def shown(self, y: Tensor) -> Tensor:
        return torch.where(self.missing, 0.5, y)

    def known(self, y: Tensor) -> Tensor:
        return ~self.missing

    def opacity(self, alpha: Tensor) -> Tensor | None:
        return None if self.source == "transparency" else alpha

    def record(self, prior: Any) -> dict[str, Any]:
        return {"missing": self.source}
