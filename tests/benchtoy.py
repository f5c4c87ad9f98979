"""A tiny suite with an exact prior, and stores of simulated rows: what the tests of the leaderboard share."""

from __future__ import annotations

import json
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
name = "invsolve.bench.toy:textures"
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


def simulated(folder: Path, items: int, solvers: int, tasks: int) -> None:
    """A store of made-up outcomes and scores, without any picture."""
    names = [f"solver{i}" for i in range(solvers)]
    about = {
        "title": "simulated", "note": "", "published": "", "metrics": ["psnr", "ssim"], "prior": "none", "items": items,
        "seeds": [0],
        "tasks": [{"name": f"task{i}", "kind": "denoise", "noise": 0.1, "options": {}} for i in range(tasks)],
        "solvers": [{"name": n, "method": "solver", "solver": n, "preset": "", "samples": 1} for n in names],
    }  # fmt: skip
    with Store.writing(folder) as store:
        store.define("simulated", "", [], {"description": about, "environment": "e"})
        units, outcomes, scores = [], [], []
        for i in range(items):
            for t in range(tasks):
                for s, name in enumerate(names):
                    place = len(units)
                    key = f"{place:032x}"
                    units.append((key, place, 1, f"m{i}-{t}", f"item{i}", f"task{t}", name, 0, "{}"))
                    outcomes.append((key, "ok", None, None, 10.0 * (s + 1), 0.0, 1.0 + s, 1, 0.0, 1.0, "w", "e"))
                    for metric, value in (("psnr", 30 + (i * 7919 % 101) / 50 - s), ("ssim", 0.9 - s / 100)):
                        scores.append((key, metric, "simulated", value, None, json.dumps([value])))
        store.db.execute("BEGIN")
        store.db.executemany(f"INSERT INTO units VALUES ({', '.join('?' * 9)})", units)
        store.db.executemany(f"INSERT INTO outcomes VALUES ({', '.join('?' * 12)})", outcomes)
        store.db.executemany(f"INSERT INTO scores VALUES ({', '.join('?' * 6)})", scores)
        store.db.execute("COMMIT")
