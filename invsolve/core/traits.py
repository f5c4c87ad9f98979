"""What a prior is good at: what decides which solver and which settings suit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Traits"]


@dataclass(frozen=True)
class Traits:
    """What a prior is good at, as its card or its file tells.

    Args:
        scope: "local" (a denoiser that knows texture and edges, for images of any size) or "global" (a network that
            knows whole images of one size, as pretrained diffusion models do).
        family: the prior whose settings suit it: "natural", or a data set of the published settings ("ffhq256",
            "imagenet256").
        own: whether those settings were found for this very prior.
        size: (height, width) of its images in pixels, None where any is served or none is known.
        channels: of its images, 1 for grey, 3 for colour; None where unknown.
        labelled: whether it can be given a class.
        latent: whether it works in the latents of an autoencoder.
        flow: whether it was taught straight paths (flow matching).
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
