"""Quality against network calls on held-out pictures: published budgets, accelerated variants, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import invsolve as iv
from benchmarks.common import markdown
from benchmarks.restore.table import held_out
from benchmarks.speed.pairs import RESULTS, save
from invsolve import costs, priors, solvers
from invsolve.core.solver import Solver
from invsolve.restoration.presets import QUALITIES, build, choose
from invsolve.restoration.scores import score
from invsolve.restoration.tasks import Deblur, Denoise, Inpaint, Superres, Task

__all__ = ["TASKS", "run"]

TASKS: dict[str, tuple[str, float]] = {
    "denoise 0.1": ("denoise", 0.1),
    "superres x2": ("superres2", 0.01),
    "superres x4": ("superres4", 0.01),
    "inpaint 50%": ("inpaint", 0.01),
    "deblur std 2": ("deblur", 0.01),
}


def _task(section: str, side: int) -> Task:
    if section == "inpaint":
        return Inpaint(iv.Rng(0, [("mask", 0)]).uniform(torch.empty(1, side, side))[0] >= 0.5)
    return {"denoise": Denoise(), "superres2": Superres(2), "superres4": Superres(4), "deblur": Deblur.gaussian(2.0)}[
        section
    ]


def methods(section: str) -> dict[str, Solver]:
    """What is compared on a task, by name."""
    kind = "inpaint" if section == "inpaint" else "superres4"
    published = solvers.NDTM.preset(f"ffhq256/{kind}")
    found: dict[str, Solver] = {
        "NDTM, published 50 steps": published,
        "NDTM, 25 steps": solvers.NDTM.preset(f"ffhq256/{kind}", n_steps=25),
        "NDTM, 25 steps, 2 inner, warm start": solvers.NDTM.preset(
            f"ffhq256/{kind}", n_steps=25, n_inner=2, control_start="causal"
        ),
        "NDTM, 25 steps, stop at the noise": solvers.NDTM.preset(f"ffhq256/{kind}", n_steps=25, stop=1.0),
        "NDTM, 10 steps, L-BFGS": solvers.NDTM.preset(f"ffhq256/{kind}", n_steps=10, optimizer="lbfgs"),
        "NDTM, 10 steps, estimate control": solvers.NDTM.preset(f"ffhq256/{kind}", n_steps=10, control="estimate"),
        "RED-diff, published 50 steps": solvers.REDdiff.preset(f"ffhq256/{kind}"),
        "DiffPIR, 10 steps": solvers.DiffPIR(n_steps=10, t_start=0.4, zeta=0.1),
    }
    name = choose("natural", section, sampling=False)
    return {q: build(name, "natural", section, {}, q) for q in QUALITIES} | found


def run(side: int, tasks: list[str], count: int, names: list[str] | None) -> None:
    """The methods (all, or those named) on `count` pictures of every task, as one batch; kept after every row."""
    pictures = torch.stack([picture for _, picture in held_out(side)][:count])
    prior = priors.load("natural", dtype=torch.bfloat16)
    rows: list[dict[str, Any]] = []
    for name in tasks:
        section, level = TASKS[name]
        for method, solver in methods(section).items():
            if names is None or method in names:
                found = _measured(_task(section, side), level, pictures, solver, prior)
                rows.append({"task": name, "method": method, **found})
                save("quality", rows, _table(rows, tasks), side=side, pictures=len(pictures), seed=0)
    _plot(rows, tasks)


def _measured(task: Task, level: float, clean: Tensor, solver: Solver, prior: iv.Prior) -> dict[str, float]:
    pairs = [task.degrade(picture) for picture in clean]
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


def _table(rows: list[dict[str, Any]], tasks: list[str]) -> str:
    def cell(row: Mapping[str, Any]) -> str:
        calls = f"{row['forwards']:.0f}" + (f" + {row['backwards']:.0f}" if row["backwards"] else "")
        return f"{row['psnr']:.2f} / {row['ssim']:.3f} ({calls})"

    found = {(row["task"], row["method"]): cell(row) for row in rows}
    names = list(dict.fromkeys(row["method"] for row in rows))
    return markdown(["PSNR / SSIM (calls)", *tasks], [[m, *(found.get((t, m), "") for t in tasks)] for m in names])


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
