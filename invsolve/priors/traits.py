"""The traits of priors, from cards or from a loaded prior."""

from __future__ import annotations

from pathlib import Path

from invsolve.core.prior import Prior
from invsolve.core.schedule import FlowSchedule
from invsolve.core.traits import Traits
from invsolve.priors.loading.cards import cards

__all__ = ["network_traits", "traits_named", "traits_of"]


def traits_of(prior: Prior) -> Traits:
    """The traits of a prior: those set by its loader, or those that follow from its shape and its conditions."""
    return prior.traits or network_traits(prior)


def traits_named(name: str | Path) -> Traits | None:
    """The traits on the card of a named prior, without loading it; None if there is no card."""
    known = cards().get(str(name))
    return None if known is None else known.traits


def network_traits(prior: Prior, *, few_steps: bool = False) -> Traits:
    """Derive traits from a prior.

    A prior of one size, or of latents, models whole images; a prior of any size is treated as a denoiser. For networks
    with a class or text condition, which model many kinds of images, the published settings for ImageNet are the
    closest; for other networks those for FFHQ.

    Args:
        prior: the prior.
        few_steps: whether the network was distilled to a few steps.
    """
    whole = prior.shape is not None or prior.latent
    inner = prior
    while not hasattr(inner, "n_classes") and isinstance(getattr(inner, "prior", None), Prior):
        inner = inner.prior  # pyright: ignore[reportAttributeAccessIssue]
    labelled = getattr(inner, "n_classes", 0) > 0
    told = labelled or bool(getattr(getattr(inner, "module", None), "needed", ()))
    family = ("imagenet256" if told else "ffhq256") if whole else "natural"
    images = prior.shape is not None and len(prior.shape) == 3 and not prior.latent
    return Traits(
        "global" if whole else "local",
        family,
        size=(prior.shape[1], prior.shape[2]) if images and prior.shape is not None else None,
        channels=prior.image_channels,
        labelled=labelled,
        latent=prior.latent,
        flow=isinstance(prior.schedule, FlowSchedule),
        few_steps=few_steps,
    )
