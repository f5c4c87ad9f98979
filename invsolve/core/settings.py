"""Settings: as a command line gives them, and what a dataclass of them may hold."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from functools import cache
from numbers import Integral
from typing import Any, Literal, get_args, get_origin, get_type_hints

from invsolve.core.checks import InputError

__all__ = ["check_settings", "read_setting"]


@cache
def _types(kind: type) -> Mapping[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:  # a class of somebody else's whose annotations exist for type checkers alone
        return {}


def check_settings(settings: Any) -> None:
    """Check the fields of a dataclass by their types; to be called when it is made.

    A `Literal` holds one of its words, an `int` a whole number; a list, as TOML writes them, becomes the tuple that it
    stands for.

    Raises:
        InputError: a field holds something else.
    """
    types = _types(type(settings))
    for field in dataclasses.fields(settings):
        value, kind = getattr(settings, field.name), types.get(field.name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise InputError(f"{field.name} is one of {get_args(kind)}, got {value!r}")
        if kind is int and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise InputError(f"{field.name} is a whole number, got {value!r}")
        if isinstance(value, list):
            object.__setattr__(settings, field.name, tuple(value))


def read_setting(text: str, example: str, form: str = "NAME=VALUE") -> tuple[str, Any]:
    """The two sides of "NAME=VALUE", the value as TOML would read it; bare words are text.

    Raises:
        InputError: nothing before or no "="; the message shows `form` and `example`.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--set takes {form}, for example {example}, got {text!r}")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value
