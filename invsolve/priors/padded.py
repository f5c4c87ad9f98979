"""A prior of a fixed size that also works with smaller images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError
from invsolve.core.prior import Prediction, Prior, WrappedPrior
from invsolve.priors.latent import LatentPrior
from invsolve.priors.tiled import GRID, TiledPrior

__all__ = ["PaddedPrior", "fitted"]

SMALL = 32
"""Below this side, images show whole small objects; their prior does not know crops of larger images."""


class PaddedPrior(WrappedPrior):
    """Apply a prior to states that are padded by reflection to its size; the result is cropped again.

    Image and noise are reflected together, so every pixel keeps its own noise level.

    Args:
        prior: a prior with a fixed size, in pixels.

    Raises:
        CapabilityError: a latent prior, or a prior that works with any size.
    """

    def __init__(self, prior: Prior) -> None:
        if prior.latent or prior.shape is None:
            raise CapabilityError("padding is for priors of one size in pixels; this one needs none")
        super().__init__(prior)
        self.shape, self.size = None, tuple(prior.shape[1:])

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        height, width = x_t.shape[-2:]
        if height > self.size[0] or width > self.size[1]:
            raise InputError(
                f"this prior takes images up to {self.size}, got {(height, width)}: use priors.padded.fitted"
            )
        rows, columns = _reflected(height, self.size[0], x_t), _reflected(width, self.size[1], x_t)
        out = self.prior.predict(x_t[..., rows, :][..., columns], t)
        variance = None if out.variance is None else out.variance[..., :height, :width]
        return Prediction(out.x0[..., :height, :width], out.eps[..., :height, :width], variance)

    def __repr__(self) -> str:
        return f"PaddedPrior({self.prior!r})"


def fitted(prior: Prior, size: tuple[int, int]) -> Prior:
    """A prior for images of `size`: the prior itself, padded for smaller images, or tiled for larger images.

    Tiles share the noise of the one large state and are blended (MultiDiffusion, Bar-Tal et al. 2023, arXiv
    2302.08113).

    Latents are tiled and padded in latent space; images are decoded as a whole.

    Raises:
        InputError: image sides that are not multiples of the latent factor; sizes for which no tiles can be made.
    """
    if prior.latent:
        return _fitted_latents(prior, size)
    if prior.shape is None or tuple(prior.shape[1:]) == size:
        return prior
    own = prior.shape[1:]
    padded = PaddedPrior(prior)
    if size[0] <= own[0] and size[1] <= own[1]:
        return padded
    tile = min(own)
    if max(size) > 2 * tile and tile < SMALL:
        raise InputError(
            f"this prior is for images of {own[1]} x {own[0]} pixels, which are too small as tiles of an image of "
            f"{size[1]} x {size[0]}: make the image smaller, or use a prior for larger images"
        )
    grid = math.gcd(tile, GRID)
    overlap = max(grid, tile // 4 // grid * grid)
    return TiledPrior(padded, tile, overlap, tile * tile, grid, fixed=True)


def _fitted_latents(prior: Prior, size: tuple[int, int]) -> Prior:
    """A latent prior for images of `size`."""
    factor, channels = (prior.factor, prior.channels) if isinstance(prior, LatentPrior) else (None, None)
    if factor is None and prior.shape is not None:
        own = prior.decode(torch.zeros((1, *prior.shape), device=prior.device, dtype=prior.dtype))
        if tuple(own.shape[2:]) == size:
            return prior
    if not isinstance(prior, LatentPrior) or factor is None or channels is None:
        raise InputError(f"this latent prior cannot restore images of {size}: use images of its own size")
    if size[0] % factor or size[1] % factor:
        raise InputError(f"this latent prior takes images whose sides are multiples of {factor}, got {size}: cut it")
    own = (size[0] // factor, size[1] // factor)
    return prior.on(fitted(prior.prior, own), (channels, *own))


def _reflected(length: int, size: int, like: Tensor) -> Tensor:
    """Indices [size] that run back and forth over [0, length)."""
    way = torch.arange(size, device=like.device) % max(2 * length - 2, 1)
    return torch.where(way < length, way, 2 * length - 2 - way)
