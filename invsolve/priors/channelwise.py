"""A prior of grey images for colour images, applied to one channel at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError
from invsolve.core.counting import Calls
from invsolve.core.prior import Prediction, Prior, WrappedPrior

__all__ = ["ChannelwisePrior"]


class ChannelwisePrior(WrappedPrior):
    """Apply a prior to each channel of an image separately: p(x) = product over c of p_grey(x_c).

    It does not model the dependence between channels, so a prior of colour images restores colour better.

    Args:
        prior: a prior of grey images.
        channels: number of channels of the images.

    Raises:
        CapabilityError: a latent prior, or a prior of images with several channels.
    """

    def __init__(self, prior: Prior, channels: int = 3) -> None:
        if prior.latent or prior.image_channels not in (None, 1):
            raise CapabilityError(f"a prior of grey images is needed, this one has {prior.image_channels} channels")
        super().__init__(prior)
        self.channels = channels
        self.shape = None if prior.shape is None else (channels, *prior.shape[1:])

    @property
    def image_channels(self) -> int | None:
        return self.channels

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        n, channels = x_t.shape[:2]
        prior = self.prior
        if prior.items is not None:
            prior = prior.select(torch.arange(n).repeat_interleave(channels))
        out = prior.predict(x_t.reshape(n * channels, 1, *x_t.shape[2:]), t)
        variance = None if out.variance is None else out.variance.reshape(x_t.shape)
        return Prediction(out.x0.reshape(x_t.shape), lambda: out.eps.reshape(x_t.shape), variance)

    def counted(self, calls: Calls) -> Prior:
        return self.around(self.prior.counted(calls))

    def __repr__(self) -> str:
        return f"ChannelwisePrior({self.prior!r})"
