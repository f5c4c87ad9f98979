"""Inspection of objects, functions and packages, for `invsolve.core.identity` and for functions of the user."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import sysconfig
import types
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "OF_NO_RESULT",
    "condensed",
    "globals_read",
    "installed",
    "installed_file",
    "state_of",
    "takes_theta",
    "version_of",
]

_CHUNK = 4096
OF_NO_RESULT = frozenset({
    "__init__", "__post_init__", "__new__", "__repr__", "__str__", "__eq__", "__hash__", "__doc__", "__module__",
    "__qualname__", "__dict__", "__weakref__", "__slots__", "__annotations__", "__annotate__", "__annotate_func__",
    "__annotations_cache__", "__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__", "__match_args__",
    "__firstlineno__", "__static_attributes__", "__dataclass_fields__", "__dataclass_params__", "__type_params__",
    "__init_subclass__", "__protocol_attrs__", "_is_protocol", "_is_runtime_protocol", "__non_callable_proto_members__",
    "__classdictcell__", "__replace__",
})  # fmt: skip
"""Entries of a class that do not affect results once its object exists."""


def state_of(value: Any) -> Any:
    """An object's state: its own `__getstate__`, else its attributes except cached ones; None if it has none."""
    kind = type(value)
    if kind.__getstate__ is not object.__getstate__:
        return value.__getstate__()
    cached = {n for one in kind.__mro__ for n, e in vars(one).items() if isinstance(e, functools.cached_property)}
    slots = [n for one in kind.__mro__ for n in _slots(one)]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    if hasattr(value, "__dict__"):
        return {**found, **{name: entry for name, entry in vars(value).items() if name not in cached}}
    return found if slots else None


def _slots(kind: type) -> Sequence[str]:
    slots = vars(kind).get("__slots__", ())
    named = (slots,) if isinstance(slots, str) else tuple(slots)
    return [f"_{kind.__name__.lstrip('_')}{n}" if n.startswith("__") and not n.endswith("__") else n for n in named]


def globals_read(code: types.CodeType, scope: Mapping[str, Any]) -> dict[str, Any]:
    """The global values that a code object reads, by name; for a module, the attributes that it reads."""
    found: dict[str, Any] = {}
    steps = list(dis.get_instructions(code))
    for i, step in enumerate(steps):
        if step.opname not in ("LOAD_GLOBAL", "LOAD_NAME") or step.argval not in scope:
            continue
        name, value = step.argval, scope[step.argval]
        for later in steps[i + 1 :]:
            attribute = str(later.argval)
            if not isinstance(value, types.ModuleType) or later.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                break
            if not hasattr(value, attribute):
                break
            name, value = f"{name}.{attribute}", getattr(value, attribute)
        found[name] = value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= globals_read(constant, scope)
    return found


def takes_theta(function: Callable[..., Any]) -> bool:
    """Whether a function or module of x has a second argument for unknown parameters: a required one, or `theta`."""
    try:
        parameters = inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters
    except ValueError:  # built-in functions have no signature
        return False
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    return len(required) > 1 or (len(positional) > 1 and positional[1].name == "theta")


@functools.cache
def installed(top: str) -> bool:
    """Whether a top-level package is Python's, an installed one, or this one; its version then stands for its code."""
    if top in sys.stdlib_module_names and top != "__main__":
        return True
    if top in ("invsolve", "builtins"):
        return True
    spec = getattr(sys.modules.get(top), "__spec__", None)
    places = [getattr(spec, "origin", None), *(getattr(spec, "submodule_search_locations", None) or ())]
    return any(installed_file(str(place)) for place in places if place)


def installed_file(name: str) -> bool:
    """Whether a code file belongs to Python, an installed package, or this one."""
    path = Path(name)
    if {"site-packages", "dist-packages"} & set(path.parts) or name.startswith("<frozen"):
        return True
    own = Path(__file__).resolve().parents[1]
    return any(path.is_relative_to(root) for root in (own, sysconfig.get_path("stdlib")))


def version_of(top: str) -> str:
    """The version of a top-level package; "" if it has none."""
    try:
        return version(top)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(top), "__version__", ""))


def condensed(flat: Tensor) -> Tensor:
    """Condense bytes on a GPU to two sums for every 4096 words, with random odd factors modulo 2^64, on the CPU.

    Two different contents have equal sums with a probability of 2^-60 (multilinear hashing, Carter and Wegman 1979).
    The bits are read where they are, at the memory's speed.
    """
    size = flat.numel()
    padded = torch.cat([flat, flat.new_zeros(-size % (4 * _CHUNK))]).view(torch.int32).view(-1, _CHUNK)
    generator = torch.Generator().manual_seed(20260101)
    bound = 1 << 62
    factors = torch.randint(-bound, bound, (2, _CHUNK), generator=generator, dtype=torch.int64) | 1
    words = padded.long()
    sums = torch.stack([(words * row).sum(1) for row in factors.to(flat.device)])
    return sums.cpu().contiguous().view(-1).view(torch.uint8)
