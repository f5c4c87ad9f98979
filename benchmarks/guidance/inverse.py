"""(f) Scale rules on inverse problems: DPS and NDTM guided with adaptive lengths, restoring digits.

Every rule has one parameter. It is tuned by the mean PSNR on 10 digits of the split "judge", on a grid of factors of
two, once for all tasks together and once for each. Results are reported on 50 digits of the split "test". Neither split
was used to train the prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import invsolve as iv
from benchmarks.common import markdown
from benchmarks.guidance.common import RESULTS, save
from benchmarks.guidance.digits import load_digits
from invsolve import costs, operators, priors, solvers
from invsolve.diagnostics.lines import Panel, line_figure
from invsolve.solvers.steps.scales import AdaptiveScale, FixedScale

SIGMA, TUNING, REPORTED, SHAPE = 0.05, 10, 50, (1, 16, 16)
FACTORS = tuple(2.0**k for k in range(-3, 4))
"""The grid around each rule's middle."""

Make = Callable[[float], iv.Solver]


def tasks() -> dict[str, iv.LinearOperator]:
    """Three degradations; all images share one mask."""
    kept = torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) < 0.3
    return {
        "inpainting, 30 % kept": operators.Inpainting(SHAPE, kept),
        "super-resolution x 2": operators.SuperResolution(SHAPE, 2),
        "Gaussian blur": operators.GaussianBlur(SHAPE, 2.0),
    }


def rules() -> dict[str, tuple[Make, float]]:
    """Solvers with one parameter, and the middle of its grid."""
    dps = solvers.DPS(n_steps=100)
    ndtm = solvers.NDTM(n_steps=25, n_inner=3, optimizer="gradient", start="random")

    def of_dps(**how: Any) -> Make:
        return lambda v: replace(dps, zeta=v, **how)

    def of_ndtm(**how: Any) -> Make:
        return lambda v: replace(ndtm, lr=v, **how)

    bell, flat = AdaptiveScale(1.0), AdaptiveScale(1.0, "constant")
    return {
        "DPS, divided by the residual": (of_dps(), 2.0),
        "DPS, fixed": (of_dps(scale=FixedScale()), 1.6),
        "DPS, fixed with a bell": (of_dps(scale=FixedScale(1.0, "sin2")), 12.8),
        "DPS, adaptive constant": (of_dps(scale=flat), 0.4),
        "DPS, adaptive with a bell": (of_dps(scale=bell), 0.4),
        "NDTM, Adam": (of_ndtm(optimizer="adam"), 0.1),
        "NDTM, gradient": (of_ndtm(), 12.8),
        "NDTM, gradient with a bell": (of_ndtm(scale=FixedScale(1.0, "sin2")), 25.6),
        "NDTM, adaptive constant": (of_ndtm(scale=flat), 0.8),
        "NDTM, adaptive with a bell": (of_ndtm(scale=bell), 1.6),
    }


def restored(solver: iv.Solver, operator: iv.LinearOperator, images: Tensor, seed: int) -> tuple[Tensor, float]:
    """PSNR in dB of one restoration of each image [B], and the mean of |y - A x| / (sqrt(m) sigma)."""
    cost = costs.GaussianLikelihood(operator, None, SIGMA)
    y = cost.simulate(images, iv.Rng(seed, [(i, 0) for i in range(len(images))]))
    cost = costs.GaussianLikelihood(operator, y, SIGMA)
    out = iv.solve(iv.Problem(priors.load("digits"), cost), solver, seed=seed + 1).samples[:, 0]
    error = (out.clamp(0, 1) - images).square().flatten(1).mean(1)
    residual = (y - operator(out)).flatten(1)
    return -10 * error.log10(), float(residual.square().mean(1).sqrt().mean() / SIGMA)


def tuned(make: Make, middle: float) -> dict[str, list[float]]:
    """PSNR on the tuning images over the grid, by task."""
    images = load_digits("judge").images[:: 500 // TUNING]
    return {
        name: [float(restored(make(middle * f), operator, images, 10)[0].mean()) for f in FACTORS]
        for name, operator in tasks().items()
    }


def best(values: list[float]) -> int:
    """The index of the best value; values that are not finite never win."""
    return max(range(len(values)), key=lambda i: values[i] if math.isfinite(values[i]) else -math.inf)


def reported(make: Make, middle: float, curves: dict[str, list[float]]) -> tuple[list[str], dict[str, Any], Tensor]:
    """A rule's cells: parameter, PSNR and residual by task, PSNR at each task's best parameter; and all PSNRs [B]."""
    images = load_digits("test").images[:: 500 // REPORTED]
    together = best([sum(c[i] for c in curves.values()) for i in range(len(FACTORS))])
    ends = ("", " (edge of the grid)")
    number = middle * FACTORS[together]
    cells, own, every = [f"{number:g}{ends[together in (0, len(FACTORS) - 1)]}"], [], []
    found: dict[str, Any] = {"number": number, "tuning": curves}
    for name, operator in tasks().items():
        psnr, residual = restored(make(number), operator, images, 20)
        alone = middle * FACTORS[best(curves[name])]
        separate = psnr if alone == number else restored(make(alone), operator, images, 20)[0]
        cells.append(f"{psnr.mean():.2f} ({residual:.2f})")
        own.append(float(separate.mean()))
        every.append(psnr)
        found[name] = {"psnr": psnr.tolist(), "residual": residual, "own number": alone, "own psnr": own[-1]}
    mean = torch.stack(every).mean(0)
    return [*cells, f"{mean.mean():.2f}", f"{sum(own) / len(own):.2f}"], found, mean


def main() -> None:
    """Write inverse.md, inverse.json and inverse.png."""
    rows, data, first = [], {}, dict[str, Tensor]()
    for name, (make, middle) in rules().items():
        solver = name.split(", ")[0]
        curves = tuned(make, middle)
        cells, data[name], psnr = reported(make, middle, curves)
        gain = psnr - first.setdefault(solver, psnr)
        error = float(gain.std() / math.sqrt(len(gain)))
        rows.append([name, *cells, f"{gain.mean():+.2f} ± {error:.2f}" if error else ""])
    head = ["rule", "number", *tasks(), "mean", "mean, a number a task", "gain on the solver's first row"]
    text = "\n".join(
        [
            f"{REPORTED} digits, noise {SIGMA:g}: PSNR in dB (|y - A x| / (sqrt(m) sigma), 1 is the noise) at one "
            "number for all tasks, the mean over tasks, the same at a number tuned for each task, and the mean gain "
            "with its standard error over digits. DPS: 100 forwards; NDTM: 25 steps of 4.\n",
            markdown(head, rows),
        ]
    )
    save("inverse", text, data)
    figure(data)


def figure(data: dict[str, dict[str, Any]]) -> None:
    """Plot how sensitive each rule is to its parameter."""
    lines: dict[str, dict[str, Any]] = {}
    for name, found in data.items():
        solver, rule = name.split(", ")
        mean = [sum(psnrs) / len(psnrs) for psnrs in zip(*found["tuning"].values(), strict=True)]
        best_at, octaves = best(mean), [math.log2(f) for f in FACTORS]
        lines.setdefault(solver, {})[rule] = (
            [x - octaves[best_at] for x in octaves],
            [m - mean[best_at] for m in mean],
        )
    title, x, y = "PSNR on tuning digits, all tasks", "octaves from the best number", "dB below the best"
    line_figure([Panel(f"{name}: {title}", x, y, part) for name, part in lines.items()], RESULTS / "inverse.png")


if __name__ == "__main__":
    main()
