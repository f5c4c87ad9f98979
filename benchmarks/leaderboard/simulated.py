"""Stores of simulated outcomes and scores, to measure the cost of reading a large store."""

from __future__ import annotations

import json
from pathlib import Path

from invsolve.bench.store import Store
from invsolve.bench.unit import Unit

__all__ = ["simulated"]


def simulated(folder: Path, items: int, solvers: int, tasks: int) -> None:
    """Write a store of items x tasks x solvers simulated outcomes with two scores each, without images."""
    names = [f"solver{i}" for i in range(solvers)]
    about = {
        "title": "simulated", "note": "", "published": "", "metrics": ["psnr", "ssim"], "prior": "none", "items": items,
        "seeds": [0],
        "tasks": [{"name": f"task{i}", "kind": "denoise", "noise": 0.1, "options": {}} for i in range(tasks)],
        "solvers": [{"name": n, "method": "solver", "solver": n, "preset": "", "samples": 1} for n in names],
    }  # fmt: skip
    with Store.writing(folder) as store:
        units, outcomes, scores = [], [], []
        for i in range(items):
            for t in range(tasks):
                for s, name in enumerate(names):
                    place = len(units)
                    key = f"{place:032x}"
                    units.append(Unit(key, f"m{i}-{t}", f"item{i}", f"task{t}", name, 0, "{}"))
                    known = (key, "ok", None, None, 10.0 * (s + 1), 0.0, 1.0 + s, 1, 0.0, 1.0, "w", "e", "0" * 64, "")
                    outcomes.append(known)
                    for metric, value in (("psnr", 30 + (i * 7919 % 101) / 50 - s), ("ssim", 0.9 - s / 100)):
                        scores.append((key, metric, "simulated", value, None, json.dumps([value])))
        store.define("simulated", "", units, {"description": about})
        store.note("outcomes", *outcomes)
        store.note("scores", *scores)
