"""The traits of priors: from cards, and from what a loaded prior shows."""

from __future__ import annotations

from pathlib import Path

from invsolve.core.prior import Prior
from invsolve.core.schedule import FlowSchedule
from invsolve.core.traits import Traits
from invsolve.priors.loading.cards import cards

__all__ = ["network_traits", "traits_named", "traits_of"]


def traits_of(prior: Prior) -> Traits:
    """What a prior is good at: what its loader knew, or what its shape and its conditions show."""
    return prior.traits or network_traits(prior)


def traits_named(name: str | Path) -> Traits | None:
    """The traits on the card of a name, so that nothing has to be loaded; None where there is no card."""
    known = cards().get(str(name))
    return None if known is None else known.traits


def network_traits(prior: Prior, *, family: str = "", few_steps: bool = False) -> Traits:
    """Traits that are read off a prior.

    A prior of one size, or of latents, knows whole images; one of any size is taken for a denoiser. Of the published
    settings those for ImageNet are the nearest for networks that are given a class or a text, because they know many
    kinds of images; for others those for FFHQ.

    Args:
        prior: the prior.
        family: where it is known better.
        few_steps: whether it was distilled to a few steps.
    """
    whole = prior.shape is not None or prior.latent
    inner = prior
    while not hasattr(inner, "n_classes") and isinstance(getattr(inner, "prior", None), Prior):
        inner = inner.prior  # pyright: ignore[reportAttributeAccessIssue]
    labelled = getattr(inner, "n_classes", 0) > 0
    told = labelled or bool(getattr(getattr(inner, "module", None), "needed", ()))
    nearest = ("imagenet256" if told else "ffhq256") if whole else "natural"
    images = prior.shape is not None and len(prior.shape) == 3 and not prior.latent
    return Traits(
        "global" if whole else "local",
        family or nearest,
        size=(prior.shape[1], prior.shape[2]) if images and prior.shape is not None else None,
        channels=prior.image_channels,
        labelled=labelled,
        latent=prior.latent,
        flow=isinstance(prior.schedule, FlowSchedule),
        few_steps=few_steps,
    )
