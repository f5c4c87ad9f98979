"""Published settings of the solvers, by name: the table invsolve/presets/published.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["Preset", "published"]


class Preset(NamedTuple):
    """Settings as keyword arguments of the solver, and where they were published."""

    settings: Mapping[str, Any]
    source: str


@cache
def published(solver: str) -> Mapping[str, Preset]:
    """The presets of the solver with this registry name, by "data set and size/task"; empty if it has none."""
    text = (files("invsolve") / "presets" / "published.toml").read_text(encoding="utf-8")
    presets = {}
    for name, row in tomllib.loads(text).get(solver, {}).items():
        presets[name] = Preset(MappingProxyType({k: v for k, v in row.items() if k != "source"}), row["source"])
    return MappingProxyType(presets)
