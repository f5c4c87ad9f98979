"""EDM and EDM2 networks out of their pickles, without running anything in them.

A pickle is a program. The reader here knows the few functions that rebuild tensors and takes every other name in the
file for an inert record that keeps its arguments: nothing is imported and nothing called for the file's sake. What is
left is the network's tensors and the arguments it was built with, which go to a safetensors file.
"""

from __future__ import annotations

import collections
import io
import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._utils as rebuild
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.priors.loading.edm import FORMAT, PRECONDITIONERS
from invsolve.priors.loading.weights import save_weights
from invsolve.priors.networks.edm2 import normalised

__all__ = ["convert"]

_WEIGHTS = ("ema", "net", "model")


class _Record:
    """Whatever a pickle names and this reader does not know: its name, its arguments and its state."""

    origin = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Record:
        record = object.__new__(cls)
        record.args, record.kwargs, record.content = args, kwargs, {}
        return record

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args: tuple[Any, ...]
        self.kwargs: dict[str, Any]
        self.content: dict[Any, Any]

    def __setstate__(self, state: Any) -> None:
        self.content = state if isinstance(state, dict) else {"state": state}

    def __setitem__(self, key: Any, value: Any) -> None:
        self.content[key] = value

    def append(self, value: Any) -> None:
        """Take an element of a list that the pickle fills."""
        self.content[len(self.content)] = value

    def extend(self, values: Any) -> None:
        """Take elements of a list that the pickle fills."""
        for value in values:
            self.append(value)

    @property
    def state(self) -> Mapping[str, Any]:
        """The attributes of a module: its own, or those in the argument of the function that rebuilds it."""
        if self.content:
            return self.content
        meta = next((_dictionary(arg) for arg in self.args if _dictionary(arg).get("state") is not None), {})
        return _dictionary(meta.get("state"))

    @property
    def class_name(self) -> str:
        """The class that a rebuilding function was told, or the record's own."""
        names = (_dictionary(arg).get("class_name") for arg in self.args)
        return next((str(name) for name in names if name), self.origin.rpartition(".")[2])


def _dictionary(value: Any) -> Mapping[str, Any]:
    if isinstance(value, _Record):
        return value.content
    return value if isinstance(value, Mapping) else {}


def _storage(content: bytes) -> Any:
    """A tensor's storage, from the bytes that torch writes into a pickle."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray[Any, Any]:
    """An empty array, which the pickle then gives its shape, type and bytes."""
    return np.empty(0)


def _dtype(code: str, *rest: Any) -> np.dtype[Any]:
    """The type of an array of plain numbers."""
    kind = np.dtype(code)
    if kind.kind not in "fiub":
        raise pickle.UnpicklingError(f"an array of {kind}")
    return kind


class _Reader(pickle.Unpickler):
    """Rebuilds tensors and plain containers, records everything else."""

    KNOWN = {
        "collections.OrderedDict": collections.OrderedDict,
        "torch._utils._rebuild_tensor_v2": rebuild._rebuild_tensor_v2,
        "torch._utils._rebuild_parameter": rebuild._rebuild_parameter,
        "torch.storage._load_from_bytes": _storage,
        "torch.Size": torch.Size,
        "numpy.dtype": _dtype,
        **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
        **{str(dtype): dtype for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)},
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if name in self.KNOWN:
            return self.KNOWN[name]
        return type(global_name.rpartition(".")[2] or "Record", (_Record,), {"origin": name})

    def persistent_load(self, pid: Any, /) -> Any:
        raise pickle.UnpicklingError("tensors outside the file")


def convert(source: Path, target: Path) -> dict[str, Any]:
    """Write the network in an EDM pickle as a safetensors file that `priors.load` takes.

    Args:
        source: the published .pkl file.
        target: the .safetensors file to write; it appears when it is complete.

    Returns:
        The network's class and the arguments it was built with.

    Raises:
        InputError: no such file, no pickle of this kind, a target that exists.
    """
    if target.suffix != ".safetensors" or target.exists():
        raise InputError(f"the target must be a new .safetensors file, got {target}")
    content = _read(source)
    outer = _network(content, source)
    second = outer.class_name == "Precond"
    model = _dictionary(outer.state.get("_modules")).get("unet" if second else "model")
    if not isinstance(model, _Record):
        raise InputError(f"{source} holds a {outer.class_name}, not a preconditioned EDM network")
    if outer.class_name not in PRECONDITIONERS:
        raise InputError(
            f"{source} holds a {outer.class_name}; supported are {', '.join(PRECONDITIONERS)} (the last is EDM2)"
        )
    found = _tensors(outer if second else model, "")
    tensors = {name: value.detach().contiguous().clone() for name, value in found}
    if second:
        tensors = {name: normalised(v) if name.endswith(".weight") else v.float() for name, v in tensors.items()}
    config = {
        "class": model.class_name,
        "outer_class": outer.class_name,
        "outer": _plain(outer.state),
        "inner": {
            **_plain(_dictionary(outer.state.get("_init_kwargs"))),
            **_plain(_dictionary(model.state.get("_init_kwargs"))),
        },
        "encoder": _encoder(_dictionary(content).get("encoder"), source),
    }
    save_weights(target, tensors, {"format": FORMAT, "config": json.dumps(config)})
    return config


def _encoder(record: Any, source: Path) -> dict[str, Any] | None:
    """What stands between images and the network: None, or the autoencoder with the scale and bias of its latents."""
    if record is None or (isinstance(record, _Record) and record.class_name == "StandardRGBEncoder"):
        return None
    if not isinstance(record, _Record) or record.class_name != "StabilityVAEEncoder":
        raise InputError(f"{source} has an encoder of an unknown kind: {getattr(record, 'class_name', record)}")
    state = _plain(record.state)
    if not all(isinstance(state.get(name), list) for name in ("scale", "bias")):
        raise InputError(f"{source} has an encoder without the scale and bias of its latents")
    return {name: state.get(name, "an unnamed autoencoder") for name in ("vae_name", "scale", "bias")}


def _read(source: Path) -> Any:
    if not source.is_file():
        raise InputError(f"there is no file {source}")
    if zipfile.is_zipfile(source):
        raise InputError(f"{source} is a torch file, not a plain pickle: priors.load reads it if it can be read safely")
    try:
        with source.open("rb") as file:
            return _Reader(file).load()
    except Exception as error:  # a damaged program can fail in any way
        raise InputError(f"{source} is no readable pickle: {type(error).__name__}: {error}") from error


def _network(content: Any, source: Path) -> _Record:
    found = content
    if not isinstance(content, _Record) or not content.state.get("_modules"):
        table = _dictionary(content)
        found = next((table[name] for name in _WEIGHTS if isinstance(table.get(name), _Record)), None)
    if not isinstance(found, _Record):
        raise InputError(f"{source} holds no network under the names {', '.join(_WEIGHTS)}")
    return found


def _tensors(module: _Record, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers below a module, by their dotted names."""
    state = module.state
    for kind in ("_parameters", "_buffers"):
        for name, value in _dictionary(state.get(kind)).items():
            if isinstance(value, Tensor):
                yield prefix + name, value
    for name, child in _dictionary(state.get("_modules")).items():
        if isinstance(child, _Record):
            yield from _tensors(child, f"{prefix}{name}.")


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are None, numbers, words or lists of them."""
    kept = {}
    for name, value in table.items():
        value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        if value is None or isinstance(value, bool | int | float | str):
            kept[name] = value
        elif isinstance(value, list | tuple) and all(isinstance(v, bool | int | float | str) for v in value):
            kept[name] = list(value)
    return {name: value for name, value in kept.items() if value == value and value not in (float("inf"),)}
