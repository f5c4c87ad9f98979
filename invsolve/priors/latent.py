"""Priors in the latent space of an autoencoder: solvers work on latents and see images through the decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from invsolve.core.checks import CapabilityError
from invsolve.core.identity import keyed_state
from invsolve.core.operator import Shape
from invsolve.core.prior import Prediction, Prior, WrappedPrior

__all__ = ["LatentPrior"]

Map = Callable[[Tensor], Tensor]


class LatentPrior(WrappedPrior):
    """A prior p(z) of latents z, with images x = decode(z).

    Args:
        prior: the prior of the latents; its value range is not used, because latents are not clamped.
        decoder: latents [N, *latent shape] -> images in `value_range`, differentiable.
        encoder: images -> latents, for guided starts; None if there is no encoder.
        value_range: values of black and white in the decoded images.
        factor: side of the square of pixels that one latent represents, if known.
        channels: channels of the latents, if `prior` works with any size and its shape is unknown.
        key: a text that identifies decoder and encoder in checkpoints, if they are lambdas or closures.
    """

    def __init__(
        self,
        prior: Prior,
        decoder: Map,
        encoder: Map | None = None,
        value_range: tuple[float, float] = (-1.0, 1.0),
        factor: int | None = None,
        channels: int | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(prior)
        self.decoder, self.encoder, self.key = decoder, encoder, key
        self.factor, self.channels = factor, channels if prior.shape is None else prior.shape[0]
        self.value_range, self.bounded = value_range, False

    @property
    def latent(self) -> bool:
        return True

    @property
    def image_channels(self) -> int | None:
        return None

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        return self.prior.predict(x_t, t)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def encode(self, x: Tensor) -> Tensor:
        if self.encoder is None:
            raise CapabilityError("this latent prior has no encoder: start from noise (start='random')")
        return self.encoder(x)

    def on(self, prior: Prior, shape: Shape | None) -> LatentPrior:
        """The same decoder and encoder with another prior of latents, for a latent shape."""
        other = self.around(prior)
        other.shape = shape
        return other

    def identity_state(self) -> dict[str, Any]:
        """The attributes that determine the images."""
        return keyed_state(self, "decoder", "encoder")

    def __repr__(self) -> str:
        return f"LatentPrior({self.prior!r})"
