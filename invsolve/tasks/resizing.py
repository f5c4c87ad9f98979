"""Interpolation of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invsolve.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["enlarged", "resized"]


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [C, H, W] to (height, width): bicubic (Keys, a = -0.5), antialiased when downsampling."""
    resize = torch.nn.functional.interpolate
    return resize(image[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]


def enlarged(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge [C, H, W] to (height, width): bicubic (Keys, a = -0.75), sharper than `resized`."""
    return torch.nn.functional.interpolate(image[None], size=size, mode="bicubic", align_corners=False)[0]
