"""How many denoisings PnP-HQS needs, found on tuning images: where `fast` and `best` of `invsolve restore` come from.

For every number of steps the weight and the first level are searched on a grid about the present table's. `fast` is the
fewest steps that come within TOLERANCE of 50 steps, the budget that papers publish; where none below the table's own
number does, the most below it. `best` has the highest PSNR among numbers of steps above the table's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import invsolve as iv
from benchmarks.common import markdown
from benchmarks.speed.pairs import save
from benchmarks.speed.quality import TASKS, measured, task_of
from invsolve import priors
from invsolve.restoration.settings import build
from invsolve.solvers import PnPHQS
from invsolve.tune.images import crops

__all__ = ["run"]

STEPS = (2, 3, 4, 6, 8, 12, 16, 24, 36, 50)
WEIGHTS, LEVELS = (0.4, 1.0, 2.5), (0.3, 1.0, 3.0)
TOLERANCE = {"psnr": 0.1, "ssim": 0.005}


def run(folder: Path, tasks: list[str], count: int, size: int) -> None:
    """Search on `count` crops of `size` pixels of the images in a folder; kept after every task."""
    images = crops(folder, count, size)
    prior = priors.load("natural", dtype=torch.bfloat16)
    rows: list[dict[str, Any]] = []
    for name in tasks:
        rows += _curve(name, images, prior)
        table = markdown(["task", "steps", "lam", "sigma_start", "PSNR", "SSIM", ""], [_cells(row) for row in rows])
        save("settings", rows, table, crops=count, size=size, tolerance=TOLERANCE)


def _curve(name: str, images: Tensor, prior: iv.Prior) -> list[dict[str, Any]]:
    """The best settings for each number of steps, and which of them are `fast` and `best`."""
    section, level = TASKS[name]
    table = build("pnp-hqs", "natural", section, {})
    assert isinstance(table, PnPHQS)
    rows = []
    for n in STEPS:
        found = []
        for weight in WEIGHTS:
            for first in LEVELS:
                settings: dict[str, Any] = {
                    "lam": float(f"{weight * table.lam:.3g}"),
                    "sigma_start": first * table.sigma_start,
                }
                settings["sigma_start"] = float(f"{max(settings['sigma_start'], 2 * level):.3g}")
                solver = PnPHQS(n_steps=n, turns=True, **settings)
                scores = measured(task_of(section, images.shape[-1]), level, images, solver, prior)
                found.append({"task": name, "n_steps": n, **settings, "psnr": scores["psnr"], "ssim": scores["ssim"]})
        rows.append(max(found, key=lambda row: row["psnr"]))
        print(rows[-1], flush=True)
    return _marked(rows, table.n_steps)


def _marked(rows: list[dict[str, Any]], own: int) -> list[dict[str, Any]]:
    """The rows of a task with "quality" where it is `fast` or `best`; `own` is the table's number of steps."""
    fewer, more = ([row for row in rows if sign * row["n_steps"] > sign * own] for sign in (-1, 1))
    enough = [row for row in fewer if all(row[key] >= rows[-1][key] - slack for key, slack in TOLERANCE.items())]
    enough = enough or fewer[-1:]
    enough[0]["quality"] = "fast"
    max(more, key=lambda row: row["psnr"])["quality"] = "best"
    return rows


def _cells(row: dict[str, Any]) -> list[object]:
    own = [row[key] for key in ("task", "n_steps", "lam", "sigma_start")]
    return [*own, f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", row.get("quality", "")]
