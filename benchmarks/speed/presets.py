"""Settings of PnP-HQS against noise and missing pixels: the source of its rows in the preset table.

Every case is restored at several noise levels with the table's own settings at the three qualities, and by `balanced`
with each weight and first level of a grid. The best of the grid is shown next to the table's row: if it is better by
more than a few hundredths of a dB, the table should be changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import invsolve as iv
from benchmarks.common import markdown
from benchmarks.speed.pairs import save
from benchmarks.speed.quality import measured
from invsolve.operators.kernels import camera_shake_kernel
from invsolve.restoration.loading import load_prior
from invsolve.restoration.options import Options
from invsolve.restoration.settings import QUALITIES, build
from invsolve.solvers import PnPHQS
from invsolve.tasks import Task
from invsolve.tasks.deblur import Deblur
from invsolve.tasks.denoise import Denoise
from invsolve.tasks.inpaint import Inpaint
from invsolve.tasks.superres import Superres
from invsolve.tune.images import crops as crops_of

__all__ = ["CASES", "run"]

CASES = (
    "denoise",
    "superres2",
    "superres4",
    "inpaint 50%",
    "inpaint 90%",
    "small hole",
    "large hole",
    "deblur",
    "shake",
)
LEVELS = (0.01, 0.1, 0.3)
WEIGHTS, FIRST = (0.01, 0.1, 0.2, 0.4), (0.3, 0.8, 1.6, 3.0)


def case(name: str, side: int) -> tuple[str, Task]:
    """The section of the preset table, and the task, for images with the given side."""
    random = iv.Rng(0, [("mask", 0)]).uniform(torch.empty(1, side, side))[0]
    hole = torch.zeros(side, side, dtype=torch.bool)
    width = side // 7 if name == "small hole" else side * 4 // 9
    first = (side - width) // 2
    hole[first : first + width, first : first + width] = True
    tasks: dict[str, Task] = {
        "denoise": Denoise(),
        "superres2": Superres(2),
        "superres4": Superres(4),
        "inpaint 50%": Inpaint(random < 0.5),
        "inpaint 90%": Inpaint(random < 0.9),
        "small hole": Inpaint(hole),
        "large hole": Inpaint(hole),
        "deblur": Deblur.gaussian(2.0),
        "shake": Deblur(camera_shake_kernel(13.0, 0.5, iv.Rng(3)).float()),
    }
    section = {"shake": "deblur"}.get(name, "inpaint" if isinstance(tasks[name], Inpaint) else name)
    return section, tasks[name]


def run(images: Path, cases: Sequence[str], levels: Sequence[float], crops: int, size: int) -> None:
    """Search on `crops` crops of `size` pixels of the images in a folder; results are saved after every row."""
    clean = crops_of(images, crops, size)
    prior = load_prior(Options())
    rows: list[dict[str, Any]] = []
    for name in cases:
        section, task = case(name, size)
        for level in levels:
            conditions = {"noise": level, **task.conditions}
            own = {q: build("pnp-hqs", "natural", section, {}, q, conditions) for q in QUALITIES}
            psnr = {q: measured(task, level, clean, solver, prior)["psnr"] for q, solver in own.items()}
            balanced, found = own["balanced"], {}
            assert isinstance(balanced, PnPHQS)
            for lam in WEIGHTS:
                for first in FIRST if section != "denoise" else ():
                    solver = replace(balanced, lam=lam, sigma_start=first)
                    found[lam, first] = measured(task, level, clean, solver, prior)["psnr"]
            best = max(found, key=found.__getitem__) if found else (balanced.lam, balanced.sigma_start)
            row = {"case": name, "noise": level, **psnr, "lam": balanced.lam, "sigma_start": balanced.sigma_start}
            row |= {"best_lam": best[0], "best_sigma_start": best[1], "best_psnr": found.get(best, psnr["balanced"])}
            rows.append(row)
            print(row, flush=True)
            save("presets", rows, _table(rows), crops=crops, size=size)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    def cells(row: dict[str, Any]) -> list[object]:
        qualities = [f"{row[q]:.2f}" for q in QUALITIES]
        grid = f"{row['best_psnr']:.2f} ({row['best_lam']:g}, {row['best_sigma_start']:g})"
        return [row["case"], row["noise"], *qualities, f"{row['lam']:g}, {row['sigma_start']:g}", grid]

    heads = ["case", "noise", *QUALITIES, "weight, first level", "best of the grid (weight, first level)"]
    return markdown(heads, [cells(row) for row in rows])
