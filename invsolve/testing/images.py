"""Photographs that travel in the package, for checking priors."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.prior import Prior

__all__ = ["natural_pictures", "picture_shape"]

NAMES = ("astronaut", "coffee")
SIDE = 64
"""Side of the pictures for a prior that serves any size."""


@cache
def _photographs() -> Tensor:
    """Two photographs [2, 3, 256, 256] in [0, 1]: NASA's portrait of Eileen Collins (public domain) and Rachel
    Michetti's cup of coffee (CC0), made smaller so that their own noise is below that of the checks."""
    import numpy as np
    from PIL import Image

    pictures = []
    for name in NAMES:
        with (files("invsolve.testing") / "photographs" / f"{name}.jpg").open("rb") as file, Image.open(file) as image:
            pictures.append(torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1))
    return torch.stack(pictures).float() / 255


def natural_pictures(prior: Prior) -> Tensor:
    """The photographs in the size and channels of a prior's pictures, [2, C, H, W] in [0, 1]."""
    channels, *size = picture_shape(prior)
    pictures = _photographs()
    if max(size) <= 128:
        pictures = pictures[..., 64:192, 64:192]
    # Made smaller than asked for and then larger again: what noise the photographs have must not show at small levels.
    pictures = F.interpolate(pictures, size=[max(2 * s // 3, 1) for s in size], mode="bilinear", antialias=True)
    pictures = F.interpolate(pictures, size=size, mode="bicubic").clamp(0, 1)
    return pictures.mean(1, keepdim=True) if channels == 1 else pictures


def picture_shape(prior: Prior) -> tuple[int, ...]:
    """[C, H, W] of the pictures that a prior is checked with: decoded ones of a latent prior."""
    if not prior.latent:
        return tuple(prior.shape or (3, SIDE, SIDE))
    shape = prior.shape or (4, SIDE // 8, SIDE // 8)
    with torch.no_grad():
        return tuple(prior.decode(torch.zeros((1, *shape), device=prior.device, dtype=prior.dtype)).shape[1:])
