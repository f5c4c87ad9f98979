"""Weights of classifier-free guidance by name: parsed from text, or published (invsolve/presets/guidance.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal, NamedTuple

from invsolve.core.checks import InputError, nearest
from invsolve.priors.guidance.weights import (
    C2FG,
    RAAG,
    BetaWeight,
    Constant,
    Cosine,
    Interval,
    Linear,
    Sine,
    Tent,
    Weight,
)

__all__ = ["WeightPreset", "parse_weight", "published_weight", "published_weights"]


class WeightPreset(NamedTuple):
    """A published weight.

    Attributes:
        weight: the weight omega(u).
        clock: meaning of u: the time of the schedule or the number of the step, both 1 at noise.
        note: the model, data and sampler for which it was published.
    """

    weight: Weight
    clock: Literal["time", "step"]
    note: str


@cache
def published_weights() -> Mapping[str, WeightPreset]:
    """All published weights by name (Gao et al. 2026, arXiv 2603.08155)."""
    text = (files("invsolve") / "presets" / "guidance.toml").read_text(encoding="utf-8")
    presets = {}
    for name, row in tomllib.loads(text).items():
        weight: Weight = C2FG(row["omega"], row["lam"])
        if "interval" in row:
            weight = Interval(weight, *row["interval"])
        presets[name] = WeightPreset(weight, row.get("clock", "time"), row["note"])
    return MappingProxyType(presets)


def published_weight(name: str) -> WeightPreset:
    """The weight published for a model, for example "dit-xl2-256" or "sd3".

    Raises:
        InputError: unknown name.
    """
    table = published_weights()
    if name not in table:
        raise InputError(f"no published weight {name!r}; {nearest(name, table)}")
    return table[name]


_NAMES: dict[str, type[Weight]] = {
    "beta": BetaWeight, "c2fg": C2FG, "constant": Constant, "cosine": Cosine, "interval": Interval,
    "linear": Linear, "raag": RAAG, "sine": Sine, "tent": Tent,
}  # fmt: skip


def parse_weight(text: str) -> Weight:
    """Parse a weight: "3", "name:number,number" in the order of the class's arguments, or a published one.

    Examples: "c2fg:1.5,0.6", "c2fg:sd3" (see `published_weights`). The caller must set the clock of a published weight.

    Raises:
        InputError: unknown name, or invalid numbers.
    """
    name, _, rest = text.partition(":")
    if name == "c2fg" and rest in published_weights():
        return published_weight(rest).weight
    plain = not rest and name not in _NAMES
    try:
        numbers = [float(part) for part in (text if plain else rest).split(",") if part]
    except ValueError:
        numbers = None
    if numbers is None or not (plain or name in _NAMES):
        raise InputError(f"a weight must be a number or name:numbers, got {text!r}; {nearest(name, _NAMES)}")
    if plain:
        name = "constant"
    try:
        return _NAMES[name](*numbers)
    except TypeError as error:
        raise InputError(f"{text!r} has too many numbers for {name}") from error
