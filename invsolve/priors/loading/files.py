"""Priors in files and folders.

The kind of a file follows from its format and the names of its weights. Networks are cached in the process, so loading
one again costs nothing, and their weights stay memory-mapped from the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from invsolve.core.boundary import foreign
from invsolve.core.checks import InputError, check_options
from invsolve.core.prior import Prior
from invsolve.core.schedule import DDPMSchedule, Schedule
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.loading.beta_tables import as_schedule
from invsolve.priors.loading.edm import FORMAT as EDM
from invsolve.priors.loading.edm import load_edm
from invsolve.priors.loading.weights import Weights, blank, file_stamp, fill, read_header, read_weights
from invsolve.priors.network import NetworkPrior
from invsolve.priors.networks.adm import ADMClassifier, ADMUNet
from invsolve.priors.networks.adm_config import ADMConfig, infer, is_adm, is_classifier
from invsolve.priors.networks.execution import Speed
from invsolve.priors.networks.unet import FORMAT as DENOISER
from invsolve.priors.networks.unet import Denoiser, LabelledDenoiser, load_denoiser

__all__ = ["load_adm", "load_classifier", "load_path", "load_repository"]

REPOSITORY_FILE = "invsolve.safetensors"
"""The weight file in a folder or repository made by `invsolve priors push`."""

KEPT = 2
"""Number of networks cached in the process."""


def load_path(path: Path, **options: Any) -> Prior:
    """Load the prior in a file or a folder, see `invsolve.priors.load`."""
    if (path / REPOSITORY_FILE).is_file():
        path = path / REPOSITORY_FILE
    device = str(options.pop("device", "cpu"))
    speed, options = Speed.split(options)
    if path.is_dir():
        from invsolve.priors.loading.diffusers import load_folder

        _check(f"the folder {path}", options, load_folder)
        return load_folder(path, device=device, speed=speed, **options)
    form = read_header(path).get("format")
    if form == DENOISER:
        return _load_trained(path, device, speed, **options)
    if form == EDM:
        _check(f"the EDM network {path}", options, load_edm)
        return load_edm(path, device=device, speed=speed, **options)
    weights = read_weights(path)
    if is_classifier(weights.shapes):
        raise InputError(f"{path} is a noisy classifier, not a prior: load it with priors.load_classifier")
    if is_adm(weights.shapes):
        _check(f"the network {path}", options, load_adm, *(field.name for field in fields(ADMConfig)))
        return load_adm(weights, device=device, speed=speed, **options)
    raise InputError(_unknown(weights))


def _check(what: str, options: Mapping[str, Any], loader: Callable[..., Prior], *more: str) -> None:
    """Raise `InputError` for an option that the loader does not accept."""
    own = {name for name, p in signature(loader).parameters.items() if p.kind is p.KEYWORD_ONLY} - {"speed"}
    check_options(what, options, {*own, *more, *(field.name for field in fields(Speed))})


def load_repository(name: str, **options: Any) -> Prior:
    """Load the prior in a repository on the Hugging Face hub; revision, mirror, offline: see `fetch_repository`."""
    from invsolve.priors.loading.repository import fetch_repository

    hub = {key: options.pop(key) for key in ("revision", "mirror", "offline") if key in options}
    return load_path(fetch_repository(name, **hub), **options)


def load_denoiser_of_deepinv(name: str, **options: Any) -> Prior:
    """Load a denoiser of deepinv by its class name, see `invsolve.priors.loading.deepinv.load_deepinv`."""
    from invsolve.priors.loading.deepinv import load_deepinv

    speed, options = Speed.split(options)
    return load_deepinv(name, speed=speed, **options)


def load_classifier(path: Path, device: str, **known: Any) -> nn.Module:
    """Load the noisy classifier in a file, see `invsolve.priors.load_classifier`."""
    if not is_classifier(read_weights(path).shapes):
        raise InputError(f"{path} is not a noisy classifier: load it with priors.load")
    return _adm_network(str(path.resolve()), file_stamp(path), device, False, False, tuple(sorted(known.items())))


def load_adm(
    weights: Weights,
    *,
    device: str = "cpu",
    speed: Speed | None = None,
    schedule: Schedule | str | None = None,
    size: int | None = None,
    null: int | None = None,
    **known: Any,
) -> NetworkPrior:
    """Make a prior in [-1, 1] units from a guided-diffusion network, with its training table.

    Args:
        weights: see `read_weights`.
        device, speed: where and how the network is run.
        schedule: if None, the linear table, or the cosine table for the published 64 x 64 network.
        size: side of the training images, if it does not follow from the weights.
        null: the label that means no class to the network, usually its last; the published networks have none.
        known: fields of `ADMConfig` that do not follow from the weights: head_channels, heads, new_attention_order.

    Raises:
        InputError: weights that do not match the architecture.
    """
    speed = speed or Speed()
    if size is not None:
        known["size"] = size
    key = (str(weights.path.resolve()), file_stamp(weights.path), device, speed.channels_last, speed.checkpointing)
    module = _adm_network(*key, tuple(sorted(known.items())))
    assert isinstance(module, ADMUNet)
    config = module.config
    if schedule is None and config.size == 64 and config.width == 192:
        schedule = "cosine"
    shape = None if config.size is None else (config.in_channels, config.size, config.size)
    told = as_schedule(schedule)
    if not isinstance(told, DDPMSchedule):
        raise InputError(
            f"{weights.path} holds a guided-diffusion network, which takes an index into a table of noise levels: "
            f'schedule must be "linear", "cosine" or a DDPMSchedule, not {told!r}'
        )
    settings: dict[str, Any] = {"schedule": told, "shape": shape, "speed": speed}
    settings["channels"] = config.in_channels
    if config.n_labels:
        last = config.n_labels - 1
        return ConditionalPrior(module, last if null == last else config.n_labels, null, **settings)
    if null is not None:
        raise InputError(f"{weights.path} holds a network without classes: omit null")
    return NetworkPrior(module, "eps", **settings)


@lru_cache(maxsize=KEPT)
def _adm_network(
    path: str,
    stamp: tuple[int, int],
    device: str,
    channels_last: bool,
    checkpointing: bool,
    known: tuple[tuple[str, Any], ...],
) -> ADMUNet | ADMClassifier:
    """The network of a file, cached in the process; `Speed` settings that modify the network have their own entry."""
    weights = read_weights(path)
    config = infer(weights.shapes, **dict(known))
    with foreign(f"{path}, whose shapes do not fit a network,"), blank():
        module = ADMClassifier(config) if is_classifier(weights.shapes) else ADMUNet(config)
    fill(module, weights.tensors, path, device=device)
    return module


def _load_trained(path: Path, device: str, speed: Speed, schedule: Schedule | str | None = None, **extra: Any) -> Prior:
    """Load a prior written by `invsolve train denoiser`."""
    if extra:
        raise InputError(f"a prior trained by invsolve takes no option {', '.join(extra)}")
    module = _trained_network(str(path.resolve()), file_stamp(path), device, speed.channels_last, speed.checkpointing)
    settings: dict[str, Any] = {"parametrization": "edm", "schedule": as_schedule(schedule), "speed": speed}
    settings["channels"] = module.config.image_channels
    n_classes = module.config.classes
    return ConditionalPrior(module, n_classes, n_classes, **settings) if n_classes else NetworkPrior(module, **settings)


@lru_cache(maxsize=KEPT)
def _trained_network(path: str, stamp: tuple[int, int], device: str, *layout: bool) -> Denoiser:
    return load_denoiser(path, device, lambda config: (LabelledDenoiser if config.classes else Denoiser)(config))


def _unknown(weights: Weights) -> str:
    names = list(weights.tensors)
    if any(name.startswith(("down_blocks.", "transformer_blocks.")) for name in names):
        return f"{weights.path} holds weights of diffusers: give the folder with its config.json instead of the file"
    if any(".enc." in f".{name}" for name in names):
        return f"{weights.path} looks like an EDM network without its configuration: convert the original .pkl file"
    return (
        f"{weights.path} has an unknown architecture (weights {', '.join(names[:3])}, ...): build the module and "
        "give NetworkPrior(module, parametrization, schedule, value_range)"
    )
