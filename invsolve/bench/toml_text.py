"""Write suites and settings as TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["toml_text", "toml_value"]


def toml_text(table: Mapping[str, Any]) -> str:
    """Format the table of a suite as TOML."""
    lines = [f"{key} = {toml_value(value)}" for key, value in table.items() if isinstance(value, str)]
    for key in ("data", "prior", "run"):
        if table.get(key):
            lines += ["", f"[{key}]", *(f"{name} = {toml_value(value)}" for name, value in table[key].items())]
    for key in ("tasks", "solvers"):
        for row in table[key]:
            lines += ["", f"[[{key}]]", *(f"{name} = {toml_value(value)}" for name, value in row.items())]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """Format a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_value(k)} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)
