"""The prior that the options name, bound to what is known about the image."""

from __future__ import annotations

import torch

from invsolve.core.checks import InputError, usable_device
from invsolve.core.prior import Prior
from invsolve.core.traits import Traits
from invsolve.restoration.options import Options
from invsolve.restoration.pace import precision_of

__all__ = ["device_of", "load_prior", "traits_for"]


def device_of(options: Options) -> torch.device:
    """The device of the options' prior, or the one they name.

    Raises:
        InputError: there is no such device.
    """
    if isinstance(options.prior, Prior):
        return options.prior.device
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return usable_device(options.device)


def load_prior(options: Options) -> Prior:
    """The prior that the options name, on their device, given their label and prompt.

    Raises:
        InputError: an unknown prior or device, or a prior that needs a class and is given none.
        CapabilityError: a label or a prompt for a prior that takes none.
    """
    from invsolve import priors

    prior = options.prior
    if not isinstance(prior, Prior):
        device = device_of(options)
        dtype = precision_of(options.precision, prior, device)
        settings = {"device": device, **({} if dtype is None else {"dtype": dtype}), **options.prior_options}
        prior = priors.load(prior, **settings)
    words = {name: getattr(options, name) for name in ("label", "prompt", "negative_prompt")}
    told = {name: value for name, value in words.items() if value is not None}
    bound = prior.given(**told) if told else prior
    if (needed := bound.unbound) is not None:
        raise InputError(f"this prior {needed}")
    return bound


def traits_for(options: Options) -> Traits:
    """What the options' prior is good at: from its card, or from itself."""
    from invsolve.priors.traits import traits_named, traits_of

    if isinstance(options.prior, Prior):
        return traits_of(options.prior)
    return traits_named(options.prior) or traits_of(load_prior(options))
