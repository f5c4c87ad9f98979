"""Properties of a prior that decide which solver and which settings suit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Traits"]


@dataclass(frozen=True)
class Traits:
    """Properties of a prior, as given by its card or its file.

    Args:
        scope: "local" (a denoiser that models texture and edges, for images of any size) or "global" (a network that
            models whole images of one size, like pretrained diffusion models).
        family: the prior whose settings suit this one: "natural", or a data set of the published settings ("ffhq256",
            "imagenet256").
        own: whether those settings were found for exactly this prior.
        size: (height, width) of its images in pixels; None if it supports any size or the size is unknown.
        channels: number of image channels, 1 for grey, 3 for colour; None if unknown.
        labelled: whether it can be conditioned on a class.
        latent: whether it works in the latent space of an autoencoder.
        flow: whether it was trained on straight paths (flow matching).
        few_steps: whether it was distilled to a few steps.
    """

    scope: Literal["local", "global"]
    family: str
    own: bool = False
    size: tuple[int, int] | None = None
    channels: int | None = None
    labelled: bool = False
    latent: bool = False
    flow: bool = False
    few_steps: bool = False
