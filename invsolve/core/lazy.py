"""Modules that are imported when they are first used, so that help and errors of the command line need no torch."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

__all__ = ["lazy", "names_of", "torch", "uncollected_imports"]


class _Lazy:
    """Stands for a module until something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _module(self) -> Any:
        return importlib.import_module(self._name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._module, attribute)


def lazy(name: str) -> Any:
    """The module of this name, imported when something of it is first asked for."""
    return _Lazy(name)


def names_of(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`, which imports names from where they are at home: {"solve": "invsolve.core.driver"}."""

    def attribute(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute


@contextmanager
def uncollected_imports() -> Iterator[None]:
    """Imports of a program of its own: the garbage collector is off while they last, and never looks at them again.

    A full collection takes 0.2 seconds with torch's objects, of which none is garbage.
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
