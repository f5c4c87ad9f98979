"""Load the prior named by the options, with its label and prompt applied."""

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
    """Return the device of the options' Prior object, or the device named by the options.

    Raises:
        InputError: unknown or unavailable device.
    """
    if isinstance(options.prior, Prior):
        return options.prior.device
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return usable_device(options.device)


def load_prior(options: Options) -> Prior:
    """Load the prior named by the options on their device, with their label and prompt.

    Raises:
        InputError: unknown prior or device, or a class-conditional prior without a label.
        CapabilityError: a label or prompt for a prior that accepts none.
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
    """Cache key of a loaded prior; only `key` is compared, not the options."""

    key: str
    options: Options = field(compare=False)


def kept_prior(options: Options) -> Prior:
    """Return the prior of the options; it is loaded once and kept for the next image."""
    if isinstance(options.prior, Prior):
        return load_prior(options)
    names = ("prior", "device", "precision", "prior_options", "label", "prompt", "negative_prompt")
    return _kept(_PriorKey(repr([getattr(options, name) for name in names]), options))


@lru_cache(maxsize=1)
def _kept(key: _PriorKey) -> Prior:
    return load_prior(key.options)


def traits_for(options: Options) -> Traits:
    """Return the traits of the options' prior, from its card or from the prior itself."""
    from invsolve.priors.traits import traits_named, traits_of

    if isinstance(options.prior, Prior):
        return traits_of(options.prior)
    return traits_named(options.prior) or traits_of(load_prior(options))
