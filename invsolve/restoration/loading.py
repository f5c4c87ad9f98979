"""The prior that the options name, bound to what is known about the image."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch

from invsolve.core.checks import InputError, usable_device
from invsolve.core.prior import Prior
from invsolve.core.traits import Traits
from invsolve.restoration.options import Options
from invsolve.restoration.pace import precision_of

__all__ = ["device_of", "kept_prior", "load_prior", "traits_for"]


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


@dataclass(frozen=True)
class _PriorKey:
    """What decides which prior is loaded; the options themselves do not count."""

    key: str
    options: Options = field(compare=False)


def kept_prior(options: Options) -> Prior:
    """The prior of the options, loaded once and kept for the next image."""
    if isinstance(options.prior, Prior):
        return load_prior(options)
    names = ("prior", "device", "precision", "prior_options", "label", "prompt", "negative_prompt")
    return _kept(_PriorKey(repr([getattr(options, name) for name in names]), options))


@lru_cache(maxsize=1)
def _kept(key: _PriorKey) -> Prior:
    return load_prior(key.options)


def traits_for(options: Options) -> Traits:
    """What the options' prior is good at: from its card, or from itself."""
    from invsolve.priors.traits import traits_named, traits_of

    if isinstance(options.prior, Prior):
        return traits_of(options.prior)
    return traits_named(options.prior) or traits_of(load_prior(options))
