"""Settings as a command line gives them."""

from __future__ import annotations

import tomllib
from typing import Any

from invsolve.core.checks import InputError

__all__ = ["read_setting"]


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
