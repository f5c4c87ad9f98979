"""The search spaces of `invsolve tune`: for each solver, its fixed settings and the ranges of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SPACES", "Choice", "Range", "inside"]


@dataclass(frozen=True)
class Range:
    """Numbers between two limits, searched on a logarithmic scale and rounded to three digits."""

    low: float
    high: float

    def suggest(self, trial: Any, name: str) -> float:
        """Return a value chosen by an Optuna trial."""
        return float(f"{trial.suggest_float(name, self.low, self.high, log=True):.3g}")

    def has(self, value: Any) -> bool:
        """Whether a value lies between the limits."""
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        """Return a value chosen by an Optuna trial."""
        return trial.suggest_categorical(name, self.values)

    def has(self, value: Any) -> bool:
        """Whether a value is one of the choices."""
        return value in self.values


Space = Mapping[str, "Range | Choice"]

# fmt: off
SPACES: dict[str, tuple[dict[str, Any], Space]] = {
    "pnp-hqs": ({"turns": True}, {
        "n_steps": Choice((4, 8, 12, 16, 24)), "lam": Range(0.03, 3.0), "sigma_start": Range(0.1, 8.0),
    }),
    "ndtm": ({"start": "guided"}, {
        "n_steps": Choice((10, 20, 30)), "n_inner": Choice((1, 2, 4)), "t_start": Range(0.03, 0.8),
        "weight": Range(0.1, 300.0), "lr": Range(0.003, 0.3), "eta": Choice((0.2, 0.5, 0.8, 1.0)),
        "weights": Choice(("zero", "ddim")),
    }),
    "dps": ({"form": "ddim"}, {
        "n_steps": Choice((30, 60)), "t_start": Range(0.03, 0.8), "zeta": Range(0.03, 3.0),
        "eta": Choice((0.2, 0.5, 0.8, 1.0)),
    }),
    "red-diff": ({}, {
        "n_steps": Choice((30, 60)), "t_start": Range(0.03, 0.8), "lam": Range(0.01, 10.0), "lr": Range(0.003, 0.5),
        "weighting": Choice(("linear", "sqrt", "constant")),
    }),
    "diffpir": ({}, {
        "n_steps": Choice((12, 24, 48)), "t_start": Range(0.03, 1.0), "lam": Range(0.1, 10.0),
        "zeta": Choice((0.0, 0.1, 0.3, 0.6, 1.0)),
    }),
    "pigdm": ({}, {"n_steps": Choice((20, 40)), "t_start": Range(0.03, 1.0), "prior_std": Range(0.1, 2.0)}),
    "ddrm": ({}, {
        "n_steps": Choice((12, 24, 48)), "t_start": Range(0.03, 1.0), "eta": Choice((0.3, 0.6, 0.85, 1.0)),
        "eta_b": Choice((0.5, 0.8, 1.0)),
    }),
    "ddnm": ({}, {"n_steps": Choice((24, 48)), "t_start": Range(0.03, 1.0), "eta": Choice((0.3, 0.6, 0.85, 1.0))}),
}
# fmt: on
"""For each solver: its fixed settings, and the ranges of the others."""


def inside(solver: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the searched settings among these, or None if one of them is missing or outside the space."""
    _, space = SPACES[solver]
    chosen = {name: settings[name] for name in space if name in settings}
    whole = len(chosen) == len(space) and all(part.has(chosen[name]) for name, part in space.items())
    return chosen if whole else None
