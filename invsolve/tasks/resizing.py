"""Interpolation of images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["resized"]


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """[C, H, W] interpolated to (height, width): bicubic (Keys, a = -0.5), antialiased where smaller."""
    return F.interpolate(image[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]
