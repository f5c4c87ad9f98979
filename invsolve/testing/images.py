"""Photographs included in the package, for checking priors."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.prior import Prior

__all__ = ["image_shape", "natural_images"]

NAMES = ("astronaut", "coffee")
SIDE = 64
"""Side of the images for a prior that accepts any size."""


@cache
def _photographs() -> Tensor:
    """Two photographs [2, 3, 256, 256] in [0, 1]: NASA's portrait of Eileen Collins (public domain) and Rachel
    Michetti's cup of coffee (CC0), downscaled so that their own noise is below the noise of the checks."""
    import numpy as np
    from PIL import Image

    images = []
    for name in NAMES:
        with (files("invsolve.testing") / "photographs" / f"{name}.jpg").open("rb") as file, Image.open(file) as image:
            images.append(torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1))
    return torch.stack(images).float() / 255


def natural_images(prior: Prior) -> Tensor:
    """Return the photographs in the size and channels of a prior's images, [2, C, H, W] in [0, 1]."""
    channels, *size = image_shape(prior)
    images = _photographs()
    if max(size) <= 128:
        images = images[..., 64:192, 64:192]
    # Downscaled below the requested size, then upscaled: the photographs' own noise must not matter at low levels.
    images = F.interpolate(images, size=[max(2 * s // 3, 1) for s in size], mode="bilinear", antialias=True)
    images = F.interpolate(images, size=size, mode="bicubic").clamp(0, 1)
    return images.mean(1, keepdim=True) if channels == 1 else images


def image_shape(prior: Prior) -> tuple[int, ...]:
    """Return the shape [C, H, W] of the images that a prior is checked with: decoded images for a latent prior."""
    if not prior.latent:
        return tuple(prior.shape or (3, SIDE, SIDE))
    shape = prior.shape or (4, SIDE // 8, SIDE // 8)
    with torch.no_grad():
        return tuple(prior.decode(torch.zeros((1, *shape), device=prior.device, dtype=prior.dtype)).shape[1:])
