"""Modules that are imported on first use, so that the command line can show help and errors without torch."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

__all__ = ["lazy", "names_of", "torch", "uncollected_imports"]


class _Lazy:
    """A placeholder for a module, which is imported on first access to an attribute."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _module(self) -> Any:
        return importlib.import_module(self._name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._module, attribute)


def lazy(name: str) -> Any:
    """The module of this name, imported on first access to an attribute."""
    return _Lazy(name)


def names_of(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`; `homes` maps names to their modules: {"solve": "invsolve.core.driver"}."""

    def attribute(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute


@contextmanager
def uncollected_imports() -> Iterator[None]:
    """Run the imports of a standalone program without the garbage collector, which also ignores their objects later.

    A full collection over torch's objects takes 0.2 seconds, and none of them is garbage.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was:
            gc.enable()


if TYPE_CHECKING:
    import torch as torch
else:
    torch = lazy("torch")
