"""Stores of made-up outcomes and scores: what a big result costs to read."""

from __future__ import annotations

import json
from pathlib import Path

from invsolve.bench.store import Store

__all__ = ["simulated"]


def simulated(folder: Path, items: int, solvers: int, tasks: int) -> None:
    """A store of items x tasks x solvers made-up outcomes with two scores each, without any image."""
    names = [f"solver{i}" for i in range(solvers)]
    about = {
        "title": "simulated", "note": "", "published": "", "metrics": ["psnr", "ssim"], "prior": "none", "items": items,
        "seeds": [0],
        "tasks": [{"name": f"task{i}", "kind": "denoise", "noise": 0.1, "options": {}} for i in range(tasks)],
        "solvers": [{"name": n, "method": "solver", "solver": n, "preset": "", "samples": 1} for n in names],
    }  # fmt: skip
    with Store.writing(folder) as store:
        store.define("simulated", "", [], {"description": about})
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
