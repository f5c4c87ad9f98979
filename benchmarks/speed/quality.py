"""Quality against network calls on held-out images: published budgets, accelerated variants, and the presets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import invsolve as iv
from benchmarks.common import markdown
from benchmarks.photographs import held_out
from benchmarks.speed.pairs import RESULTS, save
from invsolve import costs, priors, solvers
from invsolve.core.solver import Solver
from invsolve.restoration.loading import load_prior
from invsolve.restoration.options import Options
from invsolve.restoration.scores import score
from invsolve.restoration.settings import QUALITIES, build
from invsolve.tasks import Task
from invsolve.tasks.deblur import Deblur
from invsolve.tasks.denoise import Denoise
from invsolve.tasks.inpaint import Inpaint
from invsolve.tasks.superres import Superres

__all__ = ["TASKS", "measured", "run", "task_of"]

BUDGET = ("NDTM, 50 steps", "RED-diff, 50 steps", "PnP-HQS, 50 steps")
"""Methods with the published number of steps."""

STEPS = (2, 4, 8, 12, 16, 24, 36, 50)
"""Steps of the curve of quality against calls, with the settings of `balanced`."""

SLACK = (0.1, 0.005)
"""The loss of PSNR and SSIM that is acceptable for `fast`."""

TASKS: dict[str, tuple[str, float]] = {
    "denoise 0.1": ("denoise", 0.1),
    "superres x2": ("superres2", 0.01),
    "superres x4": ("superres4", 0.01),
    "inpaint 50%": ("inpaint", 0.01),
    "deblur std 2": ("deblur", 0.01),
}


def task_of(section: str, side: int) -> Task:
    """The task of a section of the preset table, for images with the given side."""
    if section == "inpaint":
        return Inpaint(iv.Rng(0, [("mask", 0)]).uniform(torch.empty(1, side, side))[0] >= 0.5)
    return {"denoise": Denoise(), "superres2": Superres(2), "superres4": Superres(4), "deblur": Deblur.gaussian(2.0)}[
        section
    ]


def contenders(section: str, level: float) -> dict[str, Solver]:
    """The solvers that are compared on a task, by name; those of `BUDGET` make the 50 steps of the papers."""
    kind = "ffhq256/inpaint" if section == "inpaint" else "ffhq256/superres4"
    ndtm, schedule = partial(solvers.NDTM.preset, kind), priors.load("natural").schedule
    found: dict[str, Solver] = {
        "NDTM, 50 steps": ndtm(),
        "RED-diff, 50 steps": solvers.REDdiff.preset(kind),
        "NDTM, 25 steps, 2 inner, warm start": ndtm(n_steps=25, n_inner=2, control_start="causal"),
        "NDTM, 25 steps, stop at the noise": ndtm(n_steps=25, stop=1.0),
        "NDTM, 25 steps, Jacobian below 0.3": ndtm(n_steps=25, jacobian_below=0.3),
        "NDTM, 10 steps, L-BFGS": ndtm(n_steps=10, optimizer="lbfgs"),
        "NDTM, 10 steps, Gauss-Newton": ndtm(n_steps=10, n_inner=1, optimizer="gauss-newton", n_cg=3, lr=1.0),
        "MMPS, 10 steps of second order": solvers.MMPS(
            n_steps=10, n_inner=2, eta=0.0, order=2, t_start=0.4, start="guided"
        ),
        "DiffPIR, 12 steps to the noise": solvers.DiffPIR(n_steps=12, times=schedule.log_grid(12, 1.0, 2 * level)),
    }
    presets = {q: build("pnp-hqs", "natural", section, {}, q) for q in QUALITIES}
    curve = {f"PnP-HQS, {n} steps": build("pnp-hqs", "natural", section, {"n_steps": n}) for n in STEPS}
    return presets | found | curve


def run(side: int, tasks: list[str], images: int, methods: list[str]) -> None:
    """Run the methods (all, or those named) on the images of every task as one batch; saves results after every row.

    Earlier rows of other tasks and methods on the same images are kept.
    """
    clean = torch.stack([image for _, image in held_out(side)][:images])
    prior = load_prior(Options())
    fixed = {"side": side, "images": len(clean), "seed": 0}
    rows = _before(fixed)
    for name in tasks:
        section, level = TASKS[name]
        for method, solver in contenders(section, level).items():
            if not methods or method in methods:
                found = measured(task_of(section, side), level, clean, solver, prior)
                rows = [row for row in rows if (row["task"], row["method"]) != (name, method)]
                rows.append({"task": name, "method": method, **found})
                print(rows[-1], flush=True)
                save("quality", rows, _table(rows) + "\n" + _verdict(rows), **fixed)
    _plot(rows, list(dict.fromkeys(row["task"] for row in rows)))


def _before(fixed: Mapping[str, Any]) -> list[dict[str, Any]]:
    path = RESULTS / "quality.json"
    if not path.is_file():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["rows"] if all(content.get(key) == value for key, value in fixed.items()) else []


def measured(task: Task, level: float, clean: Tensor, solver: Solver, prior: iv.Prior) -> dict[str, float]:
    """Mean PSNR and SSIM, calls and seconds of restorations of `clean` [n, 3, s, s], degraded with noise of `level`."""
    pairs = [task.degrade(image) for image in clean]
    y, truth = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    y = y + level * iv.Rng(0, [(i, "noise") for i in range(len(y))]).normal(y)  # pyright: ignore[reportArgumentType]
    size = (y.shape[2], y.shape[3])
    problem = iv.Problem(prior, costs.GaussianLikelihood(task.operator(3, size), y, level))
    result = iv.solve(problem, solver)
    seen = task.visible(result.samples[:, 0], size).clamp(0, 1)
    scores = [score(x, t) for x, t in zip(seen, truth, strict=True)]
    forwards, backwards = result.stats.network_forwards, result.stats.network_backwards
    means = {key: sum(float(s[key] or 0.0) for s in scores) / len(scores) for key in ("psnr", "ssim")}
    return {**means, "forwards": forwards, "backwards": backwards, "seconds": result.stats.seconds}


def _table(rows: list[dict[str, Any]]) -> str:
    def cell(row: Mapping[str, Any]) -> str:
        calls = f"{row['forwards']:.0f}" + (f" + {row['backwards']:.0f}" if row["backwards"] else "")
        return f"{row['psnr']:.2f} / {row['ssim']:.3f} ({calls})"

    found = {(row["task"], row["method"]): cell(row) for row in rows}
    names, tasks = (list(dict.fromkeys(row[key] for row in rows)) for key in ("method", "task"))
    return markdown(["PSNR / SSIM (calls)", *tasks], [[m, *(found.get((t, m), "") for t in tasks)] for m in names])


def _verdict(rows: list[dict[str, Any]]) -> str:
    """`fast` compared with each method of the published budget: gains in PSNR and SSIM, and share of network calls."""
    cells = []
    for task in dict.fromkeys(row["task"] for row in rows):
        own = {row["method"]: row for row in rows if row["task"] == task}
        fast = own.get("fast")
        line: list[object] = [task]
        for other in map(own.get, BUDGET):
            if fast is None or other is None:
                line.append("")
                continue
            gained = [fast[key] - other[key] for key in ("psnr", "ssim")]
            share = (fast["forwards"] + fast["backwards"]) / (other["forwards"] + other["backwards"])
            holds = gained[0] >= -SLACK[0] and gained[1] >= -SLACK[1] and share <= 0.5
            line.append(f"{gained[0]:+.2f} / {gained[1]:+.3f}, {share:.2f} of the calls: {'yes' if holds else 'no'}")
        cells.append(line)
    return markdown(["`fast` against", *BUDGET], cells)


def _plot(rows: list[dict[str, Any]], tasks: list[str]) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(tasks), figsize=(3.4 * len(tasks), 3.4), squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        for row in (r for r in rows if r["task"] == task):
            mark = "*" if row["method"] in QUALITIES else "o"
            axis.semilogx(row["forwards"] + row["backwards"], row["psnr"], mark, label=row["method"])
        axis.set_title(task)
        axis.set_xlabel("network calls and gradients")
    axes[0][0].set_ylabel("PSNR, dB")
    axes[0][-1].legend(fontsize=5)
    figure.tight_layout()
    figure.savefig(RESULTS / "quality.png", dpi=120)
    plt.close(figure)
