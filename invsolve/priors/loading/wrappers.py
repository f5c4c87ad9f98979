"""Find named weights in checkpoints of training scripts: dictionaries, averages (EMA) and names with prefixes.

A checkpoint can contain the network, its moving average and an optimiser. The average is preferred, because it is used
for sampling. Averages are stored as dictionaries, as names next to the network's own, or as lists without names, in the
order of the network's parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from invsolve.core.checks import InputError

__all__ = ["bare", "named_weights"]

_AVERAGES = ("ema", "model_ema", "ema_model", "params_ema", "ema_state_dict", "net_ema", "unet_ema", "averaged_model")
_NETWORKS = (
    "state_dict", "model", "model_state_dict", "params", "net", "network", "unet", "denoiser", "module", "weights",
)  # fmt: skip
"""Names under which training scripts store the weights, preferred names first."""

_OTHERS = ("optim", "sched", "scaler", "discriminator", "classifier", "vae", "first_stage", "text_encoder")
"""Beginnings of names of entries that are not the network."""

_PREFIXES = (
    "module.", "_orig_mod.", "_forward_module.", "model.", "ema_model.", "ema.", "net.", "network.", "unet.",
    "denoiser.", "diffusion_model.", "denoise_fn.", "score_model.",
)  # fmt: skip
"""Prefixes that wrappers put before every name, in any order and number."""

_COUNTERS = ("n_averaged", "initted", "step", "num_updates", "decay")
"""Scalars that wrappers for averages store next to the weights."""

_FIRST = "time_embed.0.weight"
"""A weight that every guided-diffusion network has."""


def named_weights(content: Any, path: Path) -> dict[str, Tensor]:
    """The weights by name, from the contents of a torch file.

    Raises:
        InputError: no weights, several possible ones, or a list of averages that does not match the names.
    """
    return bare(_found(content, path), path)


def bare(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights with the names of the network itself, without prefixes of wrappers.

    Raises:
        InputError: a whole latent diffusion model.
    """
    kept = {k: v for k, v in tensors.items() if k not in _COUNTERS}
    for average, own in (("ema_model.", "online_model."), ("model_ema.", "model.")):
        if any(k.startswith(average) for k in kept) and any(k.startswith(own) for k in kept):
            kept = _averaged(kept, average, own)
    while prefix := next((p for p in _PREFIXES if kept and all(name.startswith(p) for name in kept)), ""):
        kept = {name.removeprefix(prefix): v for name, v in kept.items()}
    if any(name.startswith("first_stage_model.") for name in kept):
        raise InputError(
            f"{path} is a latent diffusion model with its autoencoder: convert it to a diffusers folder "
            "(its script convert_original_stable_diffusion_to_diffusers), which priors.load takes"
        )
    found = [name.removesuffix(_FIRST) for name in kept if name.endswith(f".{_FIRST}")]
    if len(found) == 1 and _FIRST not in kept:
        return {name.removeprefix(found[0]): v for name, v in kept.items() if name.startswith(found[0])}
    return kept


def _averaged(tensors: Mapping[str, Tensor], average: str, own: str) -> dict[str, Tensor]:
    """The average with the network's names, if both are in one dictionary; some wrappers drop the dots."""
    values = {name.removeprefix(average): v for name, v in tensors.items() if name.startswith(average)}
    undotted = {name.replace(".", ""): v for name, v in values.items()}
    kept = {}
    for name, value in tensors.items():
        if name.startswith(own):
            inner = name.removeprefix(own)
            kept[inner] = values.get(inner, undotted.get(inner.replace(".", ""), value))
        elif not name.startswith(average):
            kept[name] = value
    return kept


def _found(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors in nested dictionaries."""
    if not isinstance(content, Mapping):
        raise InputError(f"{path} contains a {type(content).__name__}, not named weights (a state dict)")
    choices = [
        str(k) for k, v in content.items() if not str(k).lower().startswith(("opt", *_OTHERS)) and _holds_weights(v)
    ]
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor) and str(k) not in _COUNTERS}
    averages = [name for name in _AVERAGES if name in choices]
    if not averages:
        size = max(map(_count, [tensors, *(content[name] for name in choices)]))
        averages = [name for name in choices if _is_average(name) and 2 * _count(content[name]) > size]
        if len(averages) > 1:
            raise InputError(f"{path} has several averages ({', '.join(averages)}): save the one to use")
    known = averages + [name for name in _NETWORKS if name in choices]
    if not known and any(v.ndim for v in tensors.values()):
        return tensors
    if not known and len(choices) == 1:
        known = choices
    if not known:
        names = ", ".join(map(str, content)) or "nothing"
        raise InputError(
            f"{path} has several entries that could be the network ({', '.join(choices)}): save the one to use"
            if choices
            else f"{path} contains no named weights (a state dict); its entries are {names}"
        )
    chosen = content[known[0]]
    values = _list(chosen)
    if values is None and isinstance(chosen, list | tuple):
        if len(chosen) > 1:
            raise InputError(f"{path} has {len(chosen)} averages under {known[0]!r}: save the one to use")
        chosen = next(iter(chosen))
        values = _list(chosen)
    if values is None:
        return _found(chosen, path)
    siblings = [name for name in known if _list(content[name]) is None]
    if not siblings:
        raise InputError(f"{path} holds averaged weights as a list without names: save them as a state dict")
    return _paired(values, bare(_found(content[siblings[0]], path), path), path)


def _is_average(name: str) -> bool:
    """Whether an entry is named as an average of the weights: "EMA", "ema_unet", "modelEMA", "net_averaged"."""
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    return bool(re.search(r"(^|[^a-z])(ema|swa|avg)([^a-z]|$)|averag", words)) and not any(o in words for o in _OTHERS)


def _count(value: Any) -> int:
    """The number of tensors with dimensions in an entry."""
    if isinstance(value, Tensor):
        return int(value.ndim > 0)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return sum(map(_count, parts))


def _holds_weights(value: Any) -> bool:
    if _list(value) is not None:
        return True
    if isinstance(value, list | tuple):
        return bool(value) and all(_holds_weights(v) for v in value)
    return isinstance(value, Mapping) and any(
        (isinstance(v, Tensor) and v.ndim > 0) or _holds_weights(v) for v in value.values()
    )


def _list(value: Any) -> Sequence[Tensor] | None:
    """The tensors of an average that is stored as a list, directly or under `shadow_params`."""
    if isinstance(value, Mapping):
        value = value.get("shadow_params")
    if isinstance(value, list | tuple) and value and all(isinstance(v, Tensor) for v in value):
        return value
    return None


def _paired(values: Sequence[Tensor], named: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Averages in the order of the network's parameters, with its names; buffers are those of the network."""
    names = list(named)
    if len(names) != len(values):
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        names = [name for name in names if not name.endswith(buffers) and named[name].is_floating_point()]
    if [tuple(v.shape) for v in values] != [tuple(named[name].shape) for name in names]:
        raise InputError(
            f"{path} holds {len(values)} averaged weights that do not fit the network's {len(names)} in number and "
            "shape: save the average as a state dict"
        )
    return {**named, **dict(zip(names, values, strict=True))}
