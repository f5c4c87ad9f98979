"""Names for parts: a table of "module:attribute" entries, imported when asked for, and what plugins add to it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from invsolve.core.checks import InputError, nearest

__all__ = ["Registry", "load_attribute"]


def load_attribute(reference: str) -> Any:
    """The object behind "package.module:attribute"; modules of the working folder are found, too.

    Raises:
        InputError: the module or the attribute does not exist, or the module fails as it is imported.
    """
    module, _, attribute = reference.partition(":")
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except Exception as error:
        raise InputError(f"{reference!r} cannot be loaded: {error}") from error
    return found


class Registry(Mapping[str, Any]):
    """Parts of one kind by name.

    A "module:attribute" is accepted wherever a name is. An installed package adds names by entry points of the group
    "invsolve.<kind>s", for example in its pyproject.toml

        [project.entry-points."invsolve.operators"]
        interlace = "my_package:Interlace"

    Built-in names cannot be replaced.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._builtin = dict(entries)

    @property
    def group(self) -> str:
        """The entry points' group."""
        return f"invsolve.{self.kind}s"

    @cached_property
    def _entries(self) -> dict[str, str]:
        return {**{point.name: point.value for point in entry_points(group=self.group)}, **self._builtin}

    def __getitem__(self, name: str) -> Any:
        if name in self._builtin:
            return load_attribute(self._builtin[name])
        if ":" in name:
            return load_attribute(name)
        if name in self._entries:
            return load_attribute(self._entries[name])
        raise InputError(f"unknown {self.kind} {name!r}; {nearest(name, self._entries)}, or module:attribute")

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)
