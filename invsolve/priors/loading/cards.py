"""Cards of priors: source, licence, and how the network is to be used."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from invsolve.core.checks import InputError, nearest
from invsolve.core.traits import Traits

__all__ = ["Card", "card", "cards"]


@dataclass(frozen=True)
class Card:
    """The card of a prior.

    Args:
        name: name in `priors.load`.
        summary: one line of description.
        file: file name in the cache; empty if the weights are included in the package.
        url: address of the published file.
        sha256: checksum of the file; empty if the authors give none: then later downloads are compared with the first
            one.
        bytes: size of the file, 0 if unknown.
        source, licence, citation: origin, licence and reference of the weights.
        architecture, value_range, schedule, parametrisation, sizes: description of the network.
        options: options of `priors.load` for this file.
        traits: what the prior is suited for.
    """

    name: str
    summary: str
    source: str
    licence: str
    citation: str
    architecture: str
    value_range: str
    schedule: str
    parametrisation: str
    sizes: str
    traits: Traits
    file: str = ""
    url: str = ""
    sha256: str = ""
    bytes: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        rows = [
            (key, value)
            for key, value in vars(self).items()
            if value and key not in ("name", "summary", "options", "traits")
        ]
        width = max(len(key) for key, _ in rows)
        return "\n".join([f"{self.name}: {self.summary}", *(f"  {key:<{width}}  {value}" for key, value in rows)])


@cache
def cards() -> Mapping[str, Card]:
    """All cards by name."""
    text = (files("invsolve.priors") / "cards.toml").read_text(encoding="utf-8")
    return {name: Card(name=name, **_read(fields)) for name, fields in tomllib.loads(text).items()}


def _read(fields: dict[str, Any]) -> dict[str, Any]:
    traits = dict(fields["traits"])
    if "size" in traits:
        traits["size"] = tuple(traits["size"])
    return {**fields, "traits": Traits(**traits)}


def card(name: str) -> Card:
    """The card with this name.

    Raises:
        InputError: there is no such card.
    """
    if name not in cards():
        raise InputError(f"no card for {name!r}; {nearest(name, cards())}")
    return cards()[name]
