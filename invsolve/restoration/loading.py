"""Load the prior named by the options, with its label and prompt applied."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import torch

from invsolve.core.checks import InputError, usable_device
from invsolve.core.context import own_context
from invsolve.core.prior import Prior
from invsolve.core.traits import Traits
from invsolve.restoration.options import Options
from invsolve.restoration.pace import precision_of

__all__ = ["device_of", "kept_prior", "known_traits", "load_prior", "release_prior", "traits_for"]


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


@own_context()
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


_kept: dict[str, Prior] = {}
"""The prior that was used last, by the options that determine it."""

_loading = Lock()


def kept_prior(options: Options) -> Prior:
    """Return the prior of the options. It is kept for the next image, until other options or files are used."""
    if isinstance(options.prior, Prior):
        return load_prior(options)
    names = ("prior", "device", "precision", "prior_options", "label", "prompt", "negative_prompt")
    key = repr([*(getattr(options, name) for name in names), _stamps(options)])
    with _loading:
        if key not in _kept:
            _kept.clear()  # before loading: memory may not hold two priors
            _kept[key] = load_prior(options)
        return _kept[key]


def _stamps(options: Options) -> list[tuple[str, int, int]]:
    """Name, time and size of the files that a prior is loaded from; empty for a registered name."""
    from invsolve.priors import PRIORS

    named = [str(value) for value in (options.prior, *options.prior_options.values()) if isinstance(value, str | Path)]
    paths = [Path(name).expanduser() for name in named if name and name not in PRIORS]
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]


def release_prior() -> None:
    """Forget the prior of `kept_prior` and free its memory."""
    with _loading:
        _kept.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def known_traits(options: Options) -> Traits | None:
    """Return the traits of a Prior object or of a prior with a card; None if the prior must be loaded to know them."""
    from invsolve.priors.traits import traits_named, traits_of

    return traits_of(options.prior) if isinstance(options.prior, Prior) else traits_named(options.prior)


def traits_for(options: Options) -> Traits:
    """Return the traits of the options' prior, from its card or from the prior itself, which is then kept."""
    from invsolve.priors.traits import traits_of

    return known_traits(options) or traits_of(kept_prior(options))
