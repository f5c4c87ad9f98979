"""Convert EDM and EDM2 networks from pickles, without running anything in them.

Only the tensors of the network and its constructor arguments are kept; they are written to a safetensors file. See
`invsolve.priors.loading.pickles`.
"""

from __future__ import annotations

import json
import mmap
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from invsolve.core.boundary import foreign, open_file
from invsolve.core.checks import InputError
from invsolve.priors.loading.edm import FORMAT, PRECONDITIONERS
from invsolve.priors.loading.pickles import Record, array_of, read_pickle, table_of, tensor_of
from invsolve.priors.loading.weights import save_weights
from invsolve.priors.networks.edm2 import normalised

__all__ = ["convert"]

MAX_BYTES = 16 << 30
"""Largest size of a pickle; the largest published one has 3 GiB."""

_WEIGHTS = ("ema", "net", "model")
_MAX_MODULES, _MAX_DEPTH = 100_000, 64
_MAX_LIST, _MAX_WORD = 1000, 1000


def convert(source: Path, target: Path) -> dict[str, Any]:
    """Write the network in an EDM pickle to a safetensors file for `priors.load`.

    Args:
        source: the published .pkl file.
        target: the .safetensors file to write; it exists only when it is complete.

    Returns:
        The class of the network and its constructor arguments.

    Raises:
        InputError: missing file, another kind of pickle, or an existing target.
    """
    if target.suffix != ".safetensors" or target.exists():
        raise InputError(f"the target must be a new .safetensors file, got {target}")
    content = _read(source)
    with foreign(source):
        tensors, config = _parts(content, source)
    save_weights(target, tensors, {"format": FORMAT, "config": json.dumps(config)})
    return config


def _parts(content: Any, source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the configuration of the network in a pickle."""
    outer = _network(content, source)
    name, state = _class_name(outer), _state(outer)
    second = name == "Precond"
    model = table_of(state.get("_modules")).get("unet" if second else "model")
    if not isinstance(model, Record):
        raise InputError(f"{source} holds a {name:.100}, not a preconditioned EDM network")
    if name not in PRECONDITIONERS:
        raise InputError(f"{source} holds a {name:.100}; supported are {', '.join(PRECONDITIONERS)} (the last is EDM2)")
    tensors = _tensors(outer if second else model, source.stat().st_size)
    odd = next((f"{n} of {v.dtype}" for n, v in tensors.items() if not v.is_floating_point()), None)
    if odd is not None:
        raise InputError(f"{source} has weights that are not floating point numbers: {odd:.200}")
    if second:
        tensors = {name: normalised(v) if name.endswith(".weight") else v.float() for name, v in tensors.items()}
    arguments = [table_of(_state(part).get("_init_kwargs")) for part in (outer, model)]
    config = {
        "class": _class_name(model),
        "outer_class": name,
        "outer": _plain(state),
        "inner": {**_plain(arguments[0]), **_plain(arguments[1])},
        "encoder": _encoder(table_of(content).get("encoder"), source),
    }
    return tensors, config


def _state(module: Any) -> Mapping[Any, Any]:
    """The attributes of a module: its own, or those in the arguments of the function that rebuilds it."""
    if not isinstance(module, Record):
        return {}
    if table_of(module):
        return table_of(module)
    args = module.args if isinstance(module.args, tuple) else ()
    return table_of(next((table_of(arg)["state"] for arg in args if table_of(arg).get("state") is not None), None))


def _class_name(module: Record) -> str:
    """The class name in the arguments of the rebuilding function, or that of the record itself."""
    args = module.args if isinstance(module.args, tuple) else ()
    names = (table_of(arg).get("class_name") for arg in args)
    return next((name for name in names if name and isinstance(name, str)), module.name.rpartition(".")[2])


def _encoder(record: Any, source: Path) -> dict[str, Any] | None:
    """The encoder between images and the network: None, or the autoencoder with scale and bias of its latents."""
    name = _class_name(record) if isinstance(record, Record) else ""
    if record is None or name == "StandardRGBEncoder":
        return None
    if name != "StabilityVAEEncoder":
        raise InputError(f"{source} has an encoder of an unknown kind: {name or type(record).__name__:.100}")
    state = _plain(_state(record))
    if not all(isinstance(state.get(name), list) for name in ("scale", "bias")):
        raise InputError(f"{source} has an encoder without the scale and bias of its latents")
    return {name: state.get(name, "an unnamed autoencoder") for name in ("vae_name", "scale", "bias")}


def _read(source: Path) -> Any:
    with open_file(source, "pickle", MAX_BYTES) as file:
        with foreign(source):
            packed = zipfile.is_zipfile(file)
        if packed:
            raise InputError(
                f"{source} is a torch file, not a plain pickle: priors.load reads it if it can be read safely"
            )
        file.seek(0)
        if not file.read(1):
            raise InputError(f"{source} is empty (0 bytes)")
        with (
            foreign(f"{source}, which is not a readable pickle,"),
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m,
        ):
            return read_pickle(m)


def _network(content: Any, source: Path) -> Record:
    found = content
    if not isinstance(content, Record) or not _state(content).get("_modules"):
        table = table_of(content)
        found = next((table[name] for name in _WEIGHTS if isinstance(table.get(name), Record)), None)
    if not isinstance(found, Record):
        raise InputError(f"{source} contains no network under the names {', '.join(_WEIGHTS)}")
    return found


def _tensors(module: Record, limit: int) -> dict[str, Tensor]:
    """The parameters and buffers in a module by their dotted names, at most `limit` bytes in total."""
    found: dict[str, Tensor] = {}
    waiting, seen, total = [("", module, 0)], 0, 0
    while waiting:
        prefix, here, depth = waiting.pop()
        seen += 1
        if seen > _MAX_MODULES or depth > _MAX_DEPTH:
            raise InputError(f"a network cannot have more than {_MAX_MODULES} modules, or {_MAX_DEPTH} nested levels")
        for name, tensor in _own(here):
            total += tensor.nbytes
            if total > limit:
                raise InputError(f"the tensors would be larger than the file they are in, {limit} bytes")
            found[prefix + name] = tensor.contiguous().clone()
        children = table_of(_state(here).get("_modules"))
        waiting += [(f"{prefix}{n}.", m, depth + 1) for n, m in children.items() if isinstance(m, Record)]
    return found


def _own(module: Record) -> Iterator[tuple[str, Tensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, value in table_of(_state(module).get(kind)).items():
            tensor = tensor_of(value)
            if tensor is not None:
                yield str(name), tensor


def _plain(table: Mapping[Any, Any]) -> dict[str, Any]:
    """The entries that are None, finite numbers, words, or short lists of numbers and words."""
    if len(table) > _MAX_LIST:
        raise InputError(f"a module with {len(table)} attributes is not part of an EDM network")
    kept = {}
    for name, value in table.items():
        array = array_of(value)
        value = value if array is None or array.size > _MAX_LIST else array.tolist()
        if value is None or _single(value):
            kept[str(name)] = value
        elif isinstance(value, list | tuple) and len(value) <= _MAX_LIST and all(map(_single, value)):
            kept[str(name)] = list(value)
    return kept


def _single(value: Any) -> bool:
    """Whether the value is one finite number or one word."""
    if isinstance(value, str):
        return len(value) <= _MAX_WORD
    return isinstance(value, int | float) and abs(value) < float("inf")
