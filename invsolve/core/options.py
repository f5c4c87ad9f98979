"""Options: fields of frozen dataclasses with a help text for the user. Command lines are built from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from invsolve.core.checks import InputError, nearest

__all__ = ["Option", "filled", "option", "options_of"]


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    metavar: str | None = None,
    flag: str | None = None,
    exclusive: str | None = None,
) -> Any:
    """Define a field of a dataclass of options.

    Args:
        default: value if none is given; a field without a default is required.
        help: one line for the user, without the default.
        metavar: placeholder for the value in the help.
        flag: flag on the command line, if it is not the field's name with dashes.
        exclusive: options with the same word here are mutually exclusive.
    """
    told = {"help": help, "metavar": metavar, "flag": flag, "exclusive": exclusive}
    return field(default=default, metadata={"option": told})


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: name of the field.
        kinds: types of its values without None, for example `float` and `Literal["auto"]`.
        default: the default value; `dataclasses.MISSING` if the option is required.
        help, metavar, flag, exclusive: see `option`.
    """

    name: str
    kinds: tuple[Any, ...]
    default: Any
    help: str
    metavar: str | None
    flag: str | None
    exclusive: str | None

    @property
    def is_file(self) -> bool:
        """Whether the value may be a file's path."""
        return Path in self.kinds

    @property
    def words(self) -> tuple[str, ...]:
        """The words that the option accepts, for example "auto"."""
        return tuple(word for kind in self.kinds if get_origin(kind) is Literal for word in get_args(kind))


@cache
def options_of(kind: type) -> Mapping[str, Option]:
    """The options among the fields of a dataclass, by name."""
    found = {}
    hints = _hints(kind) if any("option" in f.metadata for f in dataclasses.fields(kind)) else {}
    for f in dataclasses.fields(kind):
        if "option" in f.metadata:
            hint = hints[f.name]
            kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            given = tuple(part for part in kinds if part is not type(None))
            found[f.name] = Option(f.name, given, f.default, **f.metadata["option"])
    return found


def _hints(kind: type) -> Mapping[str, Any]:
    """The types of the fields; a class that is imported only for type checkers counts as `object`."""
    unseen: dict[str, Any] = {}
    while True:
        try:
            return get_type_hints(kind, localns=unseen)
        except NameError as error:
            unseen[str(error.name)] = object


def filled(kind: type, values: Mapping[str, Any], what: str) -> Any:
    """Create the dataclass of options `kind` with these values.

    Raises:
        InputError: `what` does not have an option, a required option is missing, or a value does not pass the checks of
            the dataclass.
    """
    known = options_of(kind)
    for name in values:
        if name not in known:
            raise InputError(f"{what} has no option {name!r}; {nearest(name, known) if known else 'it has none'}")
    for name, each in known.items():
        if each.default is MISSING and name not in values:
            raise InputError(f"{what} needs the option {name}: {each.help}")
    return kind(**values)
