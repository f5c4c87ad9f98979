"""Priors: exact priors for proofs, networks for images, and `load` to get a prior by name or path."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.core.boundary import is_there
from invsolve.core.checks import InputError, nearest, usable_device
from invsolve.core.lazy import names_of, torch
from invsolve.core.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from invsolve.core.prior import Prediction, Prior
    from invsolve.priors.exact import GaussianPrior, MixturePosterior, MixturePrior
    from invsolve.priors.loading.azula import AzulaPrior
    from invsolve.priors.network import NetworkPrior
    from invsolve.priors.networks.execution import Speed

__all__ = [
    "PRIORS",
    "AzulaPrior",
    "GaussianPrior",
    "MixturePosterior",
    "MixturePrior",
    "NetworkPrior",
    "Prediction",
    "Prior",
    "Speed",
    "from_pipeline",
    "load",
    "load_classifier",
]

PRIORS = Registry(
    "prior",
    {
        "natural": "invsolve.priors.loading.packaged:natural",
        "natural-deep": "invsolve.priors.loading.packaged:natural_deep",
        "digits": "invsolve.priors.loading.digits:digits",
        "ffhq256": "invsolve.priors.loading.published:ffhq256",
        "imagenet64": "invsolve.priors.loading.published:imagenet64",
        "imagenet128": "invsolve.priors.loading.published:imagenet128",
        "imagenet256": "invsolve.priors.loading.published:imagenet256",
        "imagenet256-cond": "invsolve.priors.loading.published:imagenet256_cond",
        "imagenet512": "invsolve.priors.loading.published:imagenet512",
    },
)

__getattr__ = names_of(
    __name__,
    {
        "AzulaPrior": "invsolve.priors.loading.azula",
        "GaussianPrior": "invsolve.priors.exact",
        "MixturePosterior": "invsolve.priors.exact",
        "MixturePrior": "invsolve.priors.exact",
        "NetworkPrior": "invsolve.priors.network",
        "Prediction": "invsolve.core.prior",
        "Prior": "invsolve.core.prior",
        "Speed": "invsolve.priors.networks.execution",
    },
)


def load(name: str | Path, **options: Any) -> Prior:
    """Load a prior by name, from a file, a folder or the Hugging Face hub.

    Args:
        name: a name in `PRIORS`; a weight file (guided-diffusion, `invsolve train`, or an EDM network converted by
            `invsolve priors convert`); a folder in the format of diffusers; "hf:organisation/name" on the Hugging Face
            hub; "deepinv:DRUNet", a denoiser of deepinv (weights=FILE); or "package.module:attribute", which is a
            Prior, or a class or function that makes one.
        options: device ("cpu"); schedule (a Schedule, or "linear", "cosine", ...: the one that the network was trained
            with); the fields of `Speed`; and further options of each kind of prior, see docs/priors.md.

    Raises:
        InputError: unknown prior, or a file that cannot be used. Code in a file is never executed.
    """
    from invsolve.core.context import own_context

    with own_context():
        return _load(name, options)


def check_known(name: str | Path) -> None:
    """Raise `InputError` if `load` would find nothing under this name. No file is read."""
    text = str(name)
    path = Path(text).expanduser()
    if text in PRIORS or text.startswith(("hf:", "deepinv:")) or is_there(path):
        return
    if isinstance(name, Path) or ((path.suffix or len(path.parts) > 1) and ":" not in text):
        raise InputError(f"there is no prior, file or folder {text}; {nearest(text, PRIORS)}")
    PRIORS.check(text)


def _load(name: str | Path, options: dict[str, Any]) -> Prior:
    text = str(name)
    check_known(name)
    if "device" in options:
        options["device"] = str(usable_device(options["device"]))
    if text in PRIORS:
        return _made(text, options)
    from invsolve.priors.loading import files as loading

    if text.startswith("hf:"):
        return loading.load_repository(text.removeprefix("hf:"), **options)
    if text.startswith("deepinv:"):
        return loading.load_denoiser_of_deepinv(text.removeprefix("deepinv:"), **options)
    path = Path(text).expanduser()
    if is_there(path):
        return loading.load_path(path, **options)
    return _made(text, options)


def _made(name: str, options: dict[str, Any]) -> Prior:
    """Make the prior of a registered name or "module:attribute", with the options that it takes."""
    from invsolve.core.prior import Prior

    found = PRIORS[name]
    if not isinstance(found, Prior) and not callable(found):
        raise InputError(
            f"{name} is a {type(found).__name__}: a Prior, or a class or function that makes one, is needed"
        )
    make = (lambda: found) if isinstance(found, Prior) else found
    signature = inspect.signature(make)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        known = signature.parameters
        refused = [key for key in options if key not in known and (key, options[key]) != ("device", "cpu")]
        if refused:
            raise InputError(f"{name} does not take {', '.join(refused)}; it takes {', '.join(known) or 'no options'}")
        options = {key: value for key, value in options.items() if key in known}
    try:
        signature.bind(**options)
    except TypeError as error:
        raise InputError(f"{name} cannot make a prior: {error}") from error
    prior = make(**options)
    if not isinstance(prior, Prior):
        raise InputError(f"{name} returned a {type(prior).__name__}, but a Prior is needed")
    return prior


def load_classifier(path: str | Path, *, device: torch.device | str = "cpu", **known: Any) -> nn.Module:
    """Load a noisy classifier of guided-diffusion: module(x_t, index) -> logits, x_t in [-1, 1] units of a DDPM table.

    Args:
        path: the weight file.
        device: device of the classifier.
        known: fields of its `ADMConfig` that do not follow from the weights, for example head_channels=64.

    Raises:
        InputError: the file is not a noisy classifier.
    """
    from invsolve.priors.loading import files as loading

    return loading.load_classifier(Path(path), str(usable_device(device)), **known)


def from_pipeline(pipe: Any, **options: Any) -> Prior:
    """Make a prior from a diffusers pipeline in memory, see `invsolve.priors.loading.pipelines.from_pipeline`.

    If the pipeline has text encoders, `prior.given(prompt=..., negative_prompt=..., guidance_scale=...)` uses them.
    """
    from invsolve.priors.loading import pipelines

    return pipelines.from_pipeline(pipe, **options)
