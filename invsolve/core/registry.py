"""Names for components: a table of "module:attribute" entries, imported on demand, and the names of plug-ins."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from invsolve.core.checks import InputError, nearest

__all__ = ["Registry", "load_attribute"]

logger = logging.getLogger(__name__)


def load_attribute(reference: str) -> Any:
    """Import the object "package.module:attribute"; modules in the working folder are found, too.

    Raises:
        InputError: the module or the attribute does not exist, or the import fails.
    """
    module, _, attribute = reference.partition(":")
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (Exception, SystemExit) as error:
        reason = str(error) or type(error).__name__
        ended = "it ends the program when it is imported: " if isinstance(error, SystemExit) else ""
        raise InputError(f"{reference!r} cannot be loaded: {ended}{reason}") from error
    return found


def entry_points(group: str) -> Iterable[Any]:
    """The entry points of a group that installed packages declare."""
    if not _plugged(tuple(sys.path)):
        return ()
    from importlib.metadata import entry_points as declared

    return declared(group=group)


@cache
def _plugged(places: tuple[str, ...]) -> bool:
    """Whether an installed package declares entry points for this one, from the files that `importlib.metadata` reads.

    Importing that module would take a third of the response time of a command.
    """
    for place in places:
        folder = Path(place or ".")
        if folder.is_file():  # an archive, which is not searched
            return True
        for file in folder.glob("*.[de][ig][sg]*-info/entry_points.txt"):
            if b"[invsolve." in file.read_bytes().replace(b" ", b""):
                return True
    return False


class Registry(Mapping[str, Any]):
    """Components of one kind, by name.

    A "module:attribute" is accepted wherever a name is. An installed package can add names with entry points of the
    group "invsolve.<kind>s", for example in its pyproject.toml

        [project.entry-points."invsolve.operators"]
        interlace = "my_package:Interlace"

    Built-in names cannot be replaced. A plug-in is imported when its name is looked up. `items` and `values` import all
    plug-ins; one that fails is named in a warning and left out.

    Args:
        kind: what the components are called.
        entries: "module:attribute" by name.
        base: the base class of all components, as "module:attribute", if they are classes of one kind.
    """

    def __init__(self, kind: str, entries: Mapping[str, str], base: str | None = None) -> None:
        self.kind, self.base = kind, base
        self.builtin: Mapping[str, str] = MappingProxyType(dict(entries))

    @property
    def group(self) -> str:
        """The entry point group."""
        return f"invsolve.{self.kind}s"

    @cached_property
    def _entries(self) -> dict[str, str]:
        return {**{point.name: point.value for point in entry_points(group=self.group)}, **self.builtin}

    def __getitem__(self, name: str) -> Any:
        if name in self.builtin:
            return load_attribute(self.builtin[name])
        self.check(name)
        found = load_attribute(self._entries.get(name, name))
        if self.base is not None:
            base = load_attribute(self.base)
            if not (isinstance(found, type) and issubclass(found, base)):
                raise InputError(f"{name} is not a class of {self.kind}s: it must derive from {base.__name__}")
        return found

    def check(self, name: str) -> None:
        """Raise `InputError` if the name is unknown; nothing is imported."""
        if not self.accepts(name):
            raise InputError(f"unknown {self.kind} {name!r}; {nearest(name, self._entries)}, or module:attribute")

    def items(self) -> ItemsView[str, Any]:
        found: dict[str, Any] = {}
        for name in self:
            try:
                found[name] = self[name]
            except InputError as error:
                if name in self.builtin:
                    raise
                logger.warning("the plug-in %s is left out: %s", name, error)
        return found.items()

    def values(self) -> ValuesView[Any]:
        return dict(self.items()).values()

    def accepts(self, name: str) -> bool:
        """Whether the name can be looked up: a known name, or a "module:attribute"."""
        return name in self or ":" in name

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or name in self._entries  # installed packages are searched only if necessary

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)
