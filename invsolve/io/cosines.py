"""What JPEG does to pixels: brightness and colours, and cosine coefficients of blocks of 8 x 8."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["DCT", "YCC", "blocks_of", "cosines", "image_of", "inverse_cosines"]

YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], dtype=torch.float64
)
"""From red, green and blue to the brightness Y and the colours Cb and Cr, without the colours' shift of 128."""

_ROWS, _COLUMNS = torch.meshgrid(*[torch.arange(8, dtype=torch.float64)] * 2, indexing="ij")

DCT = 0.5 ** (1 + 0.5 * (_ROWS == 0).double()) * torch.cos((2 * _COLUMNS + 1) * _ROWS * math.pi / 16)
"""The orthonormal cosine transform [8, 8] of a line of 8 pixels."""


def blocks_of(x: Tensor) -> Tensor:
    """[..., H, W] -> [..., H / 8, W / 8, 8, 8]."""
    return x.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-2, -3)


def image_of(blocks: Tensor) -> Tensor:
    """[..., H / 8, W / 8, 8, 8] -> [..., H, W]."""
    return blocks.transpose(-2, -3).flatten(-4, -3).flatten(-2, -1)


def cosines(x: Tensor) -> Tensor:
    """The block cosine coefficients [..., H / 8, W / 8, 8, 8] of [..., H, W]."""
    dct = DCT.to(x)
    return dct @ blocks_of(x) @ dct.T


def inverse_cosines(coefficients: Tensor) -> Tensor:
    """The image [..., H, W] of `cosines`."""
    dct = DCT.to(coefficients)
    return image_of(dct.T @ coefficients @ dct)
