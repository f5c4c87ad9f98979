"""A tiny suite with an exact prior: what the tests of the leaderboard share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from invsolve.bench.reading import load_suite
from invsolve.bench.store import Store
from invsolve.bench.suite import Suite

TOML = """
title = "toy"
[data]
kind = "draws"
items = 3
[prior]
name = "invsolve.testing.toy:textures"
options = { side = 8 }
[run]
samples = 4
metrics = ["psnr", "misfit", "crps"]
[[tasks]]
name = "superres2"
kind = "superres"
factor = 2
noise = 0.05
[[tasks]]
name = "inpaint"
kind = "inpaint"
missing = 0.5
noise = 0.05
[[solvers]]
name = "baseline"
baseline = true
[[solvers]]
name = "ddnm"
preset = "default"
settings = { n_steps = 5 }
"""


def write_suite(folder: Path, text: str = TOML, **replaced: str) -> Path:
    """The toy suite as a file, with some words replaced."""
    for old, new in replaced.items():
        text = text.replace(old, new)
    path = folder / "toy.toml"
    path.write_text(text)
    return path


def toy(folder: Path, text: str = TOML) -> Suite:
    """The toy suite."""
    return load_suite(write_suite(folder, text))


def final_table(folder: Path) -> list[Any]:
    """All that must not depend on how a suite was run: outcomes and scores, without times, workers and memory."""
    with Store.reading(folder) as store:
        units = [tuple(unit)[:9] for unit in store.units()]
        scores = store.db.execute("SELECT unit, metric, value, of_mean, each FROM scores ORDER BY unit, metric")
        return [units, [tuple(row) for row in scores]]
