"""JPEG compression: the real codec with a surrogate gradient, or a smooth approximation of it."""

from __future__ import annotations

import io
from typing import Literal, get_args

import torch
from torch import Tensor

from invsolve.core.checks import InputError, ShapeError, as_whole
from invsolve.core.operator import EMPTY, Operator, Params, Shape
from invsolve.operators.shapes import image_shape

__all__ = ["JPEG"]

BLOCK = 16
"""Image sides are multiples of this: blocks are 8 x 8, with colour at half resolution."""

Rounding = Literal["true", "smooth"]


class JPEG(Operator):
    """y = the content of a JPEG file of x (4:2:0 colour, the standard tables scaled to `quality`).

    "true" encodes and decodes with Pillow, including the rounding to 8 bits; its gradient is that of the smooth codec
    (straight through). "smooth" is kornia's differentiable codec (Reich et al. 2024, WACV, "Differentiable JPEG: the
    devil is in the details"), which rounds polynomially and has its own gradient. At quality 50 the two differ by about
    a third of the error of the compression.

    Args:
        in_shape: (3, H, W), multiples of 16.
        quality: 1 to 100.
        rounding: "true" or "smooth".
    """

    def __init__(self, in_shape: Shape, quality: int = 50, rounding: Rounding = "true") -> None:
        self.in_shape = self.out_shape = c, h, w = image_shape(in_shape)
        if c != 3 or h % BLOCK or w % BLOCK:
            raise ShapeError(f"JPEG takes (3, H, W) with H and W multiples of {BLOCK}, got {list(in_shape)}")
        if rounding not in get_args(Rounding):
            raise InputError(f"rounding must be one of {get_args(Rounding)}, got {rounding!r}")
        self.quality, self.rounding = as_whole(quality, "quality", 1, 100), rounding
        self.surrogate_gradient = rounding == "true"

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        if self.rounding == "smooth":
            return self._smooth(x)
        with torch.no_grad():
            true = torch.stack([self._codec(row) for row in x.detach().cpu()]).to(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return true
        smooth = self._smooth(x)
        return true + smooth - smooth.detach()

    def _smooth(self, x: Tensor) -> Tensor:
        from kornia.enhance import jpeg_codec_differentiable

        quality = torch.full((len(x),), float(self.quality), dtype=x.dtype, device=x.device)
        return jpeg_codec_differentiable(x.clamp(0, 1), quality)

    def _codec(self, image: Tensor) -> Tensor:
        import numpy
        from PIL import Image

        values = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        file = io.BytesIO()
        Image.fromarray(values).save(file, "JPEG", quality=self.quality, subsampling="4:2:0")
        return torch.from_numpy(numpy.array(Image.open(file))).permute(2, 0, 1) / 255

    def __repr__(self) -> str:
        return f"JPEG({list(self.in_shape)}, quality={self.quality}, rounding={self.rounding!r})"
