"""The transforms of JPEG: luma and chroma, and the DCT of 8 x 8 blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["DCT", "YCC", "blocks_of", "cosines", "image_of", "inverse_cosines"]

YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], dtype=torch.float64
)
"""Conversion from red, green and blue to Y, Cb and Cr, without the shift of 128 for Cb and Cr."""

_ROWS, _COLUMNS = torch.meshgrid(*[torch.arange(8, dtype=torch.float64)] * 2, indexing="ij")

DCT = 0.5 ** (1 + 0.5 * (_ROWS == 0).double()) * torch.cos((2 * _COLUMNS + 1) * _ROWS * math.pi / 16)
"""The orthonormal DCT matrix [8, 8] for a line of 8 pixels."""


def blocks_of(x: Tensor) -> Tensor:
    """Split an image into blocks: [..., H, W] -> [..., H / 8, W / 8, 8, 8]."""
    return x.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-2, -3)


def image_of(blocks: Tensor) -> Tensor:
    """Join blocks to an image: [..., H / 8, W / 8, 8, 8] -> [..., H, W]."""
    return blocks.transpose(-2, -3).flatten(-4, -3).flatten(-2, -1)


def cosines(x: Tensor) -> Tensor:
    """Return the block DCT coefficients [..., H / 8, W / 8, 8, 8] of [..., H, W]."""
    dct = DCT.to(x)
    return dct @ blocks_of(x) @ dct.T


def inverse_cosines(coefficients: Tensor) -> Tensor:
    """Return the image [..., H, W] for block DCT coefficients; the inverse of `cosines`."""
    dct = DCT.to(coefficients)
    return image_of(dct.T @ coefficients @ dct)
