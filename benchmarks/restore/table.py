"""Restorations of held-out photographs by every solver: the table of the README.

    python benchmarks/restore/table.py [--solvers pnp-hqs ndtm] [--tasks superres4] [--images chelsea] [--images DIR]

Images: 256x256 crops of photographs that ship with scikit-image and scikit-learn and were not used to train the prior
or tune a setting. Measurements are simulated from --seed, the same for every solver; settings are those of
`invsolve restore`. PSNR (dB) and SSIM (piq, 11-pixel Gaussian window, no downsampling) are those of the point
estimate, or of one sample for samplers. Results are written as JSON and Markdown next to this file.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import invsolve as iv
from invsolve.restoration import restore

HERE = Path(__file__).parent
TASKS: dict[str, dict[str, Any]] = {
    "denoise 0.1": {"task": "denoise", "noise": 0.1},
    "superres x2": {"task": "superres", "factor": 2, "noise": 0.01},
    "superres x4": {"task": "superres", "factor": 4, "noise": 0.01},
    "inpaint 50%": {"task": "inpaint", "noise": 0.01},
    "deblur std 2": {"task": "deblur", "blur_sigma": 2.0, "noise": 0.01},
}
SOLVERS = ("pnp-hqs", "red-diff", "ndtm", "dps")


def held_out(side: int = 256) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and test images [3, side, side] in [0, 1], the middle of each photograph."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    arrays = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    arrays |= {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    for name, array in arrays.items():
        top, left = (array.shape[0] - side) // 2, (array.shape[1] - side) // 2
        crop = np.ascontiguousarray(array[top : top + side, left : left + side, :3])
        yield name, torch.from_numpy(crop).permute(2, 0, 1).float() / 255


def measure(
    images: dict[str, torch.Tensor], tasks: list[str], solvers: list[str], seed: int, prior: iv.Prior
) -> list[dict[str, Any]]:
    """A row for each image, task and solver."""
    rows = []
    for task in tasks:
        for solver in solvers:
            for name, image in images.items():
                options = {**TASKS[task], "solver": solver, "prior": prior, "seed": seed, "simulate": True}
                done = restore(image, **options)
                restored, (label, baseline) = done.record["scores"]["restored"], list(done.record["scores"].items())[1]
                row = {"task": task, "solver": solver, "image": name, **restored, **done.record["stats"]}
                row["baseline"] = {"name": label, **baseline}
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def mean(rows: list[dict[str, Any]], *keys: str) -> float:
    """The mean of a nested value over rows."""
    values = []
    for row in rows:
        value: Any = row
        for key in keys:
            value = value[key]
        values.append(float(value))
    return statistics.fmean(values)


def markdown(rows: list[dict[str, Any]]) -> str:
    """Mean PSNR and SSIM, solvers as rows and tasks as columns, the baseline first."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    solvers = list(dict.fromkeys(row["solver"] for row in rows))
    lines = ["| |" + "|".join(f" {task} " for task in tasks) + "|", "|---|" + "---|" * len(tasks)]
    first = [[r for r in rows if r["task"] == task and r["solver"] == solvers[0]] for task in tasks]
    cells = [
        f" {mean(r, 'baseline', 'psnr'):.2f} / {mean(r, 'baseline', 'ssim'):.3f} ({r[0]['baseline']['name']}) "
        for r in first
    ]
    lines.append("| baseline |" + "|".join(cells) + "|")
    for solver in solvers:
        cells = []
        for task in tasks:
            part = [r for r in rows if r["task"] == task and r["solver"] == solver]
            cells.append(f" {mean(part, 'psnr'):.2f} / {mean(part, 'ssim'):.3f} " if part else " ")
        lines.append(f"| `{solver}` |" + "|".join(cells) + "|")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solvers", nargs="+", default=list(SOLVERS))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--images", nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="run the network in bfloat16")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    images = {name: x for name, x in held_out() if args.images is None or name in args.images}
    prior = iv.priors.load("natural", **({"dtype": torch.bfloat16} if args.bf16 else {}))
    rows = measure(images, args.tasks, args.solvers, args.seed, prior)
    args.out.mkdir(parents=True, exist_ok=True)
    content = {"seed": args.seed, "bf16": args.bf16, "rows": rows}
    (args.out / "table.json").write_text(json.dumps(content, indent=1) + "\n")
    (args.out / "table.md").write_text(markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main()
