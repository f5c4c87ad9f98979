"""(f) Scale rules on inverse problems: DPS and NDTM guided by adaptive lengths, in restoring digits.

Every rule has one number, tuned by the mean PSNR on 10 digits of the split "judge" on a grid of factors of two, once
for all tasks together and once for each, and reported on 50 digits of the split "test". Neither trained the prior.
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
from invsolve.solvers.scales import AdaptiveScale, FixedScale

SIGMA, TUNING, REPORTED, SHAPE = 0.05, 10, 50, (1, 16, 16)
FACTORS = tuple(2.0**k for k in range(-3, 4))
"""The grid about each rule's middle."""

Make = Callable[[float], iv.Solver]


def tasks() -> dict[str, iv.LinearOperator]:
    """Three degradations; one mask for all pictures."""
    kept = torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) < 0.3
    return {
        "inpainting, 30 % kept": operators.Inpainting(SHAPE, kept),
        "super-resolution x 2": operators.SuperResolution(SHAPE, 2),
        "Gaussian blur": operators.GaussianBlur(SHAPE, 2.0),
    }


def rules() -> dict[str, tuple[Make, float]]:
    """Solvers of one number, and the middle of its grid."""
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
        "DPS, fixed with a bell": (of_dps(scale=FixedScale(1.0, "sin2")), 1.6),
        "DPS, adaptive constant": (of_dps(scale=flat), 0.4),
        "DPS, adaptive with a bell": (of_dps(scale=bell), 0.4),
        "NDTM, Adam": (of_ndtm(optimizer="adam"), 0.1),
        "NDTM, gradient": (of_ndtm(), 1.6),
        "NDTM, gradient with a bell": (of_ndtm(scale=FixedScale(1.0, "sin2")), 1.6),
        "NDTM, adaptive constant": (of_ndtm(scale=flat), 0.8),
        "NDTM, adaptive with a bell": (of_ndtm(scale=bell), 1.6),
    }


def restored(solver: iv.Solver, operator: iv.LinearOperator, pictures: Tensor, seed: int) -> tuple[float, float]:
    """Mean PSNR in dB and mean |y - A x| / (sqrt(m) sigma) of one restoration of each picture."""
    cost = costs.GaussianLikelihood(operator, None, SIGMA)
    y = cost.simulate(pictures, iv.Rng(seed, [(i, 0) for i in range(len(pictures))]))
    cost = costs.GaussianLikelihood(operator, y, SIGMA)
    out = iv.solve(iv.Problem(priors.load("digits"), cost), solver, seed=seed + 1).samples[:, 0]
    error = (out.clamp(0, 1) - pictures).square().flatten(1).mean(1)
    residual = (y - operator(out)).flatten(1)
    return float(-10 * error.log10().mean()), float(residual.square().mean(1).sqrt().mean() / SIGMA)


def tuned(make: Make, middle: float) -> dict[str, list[float]]:
    """PSNR on the tuning pictures over the grid, by task."""
    pictures = load_digits("judge").pictures[:: 500 // TUNING]
    return {
        name: [restored(make(middle * f), operator, pictures, 10)[0] for f in FACTORS]
        for name, operator in tasks().items()
    }


def best(values: list[float]) -> int:
    """The grid's best index; one that is not finite never wins."""
    return max(range(len(values)), key=lambda i: values[i] if math.isfinite(values[i]) else -math.inf)


def row(make: Make, middle: float, curves: dict[str, list[float]]) -> tuple[list[str], dict[str, Any]]:
    """A rule's cells: its number, PSNR and residual of each task at one number for all, PSNR at each task's own."""
    pictures = load_digits("test").pictures[:: 500 // REPORTED]
    together = best([sum(c[i] for c in curves.values()) for i in range(len(FACTORS))])
    ends = ("", " (edge of the grid)")
    cells = [f"{middle * FACTORS[together]:g}{ends[together in (0, len(FACTORS) - 1)]}"]
    found: dict[str, Any] = {"number": middle * FACTORS[together], "tuning": curves}
    own = []
    for name, operator in tasks().items():
        shared = restored(make(middle * FACTORS[together]), operator, pictures, 20)
        alone = middle * FACTORS[best(curves[name])]
        separate = shared if alone == found["number"] else restored(make(alone), operator, pictures, 20)
        cells.append(f"{shared[0]:.2f} ({shared[1]:.2f})")
        own.append(f"{separate[0]:.2f}")
        found[name] = {"psnr": shared[0], "residual": shared[1], "own number": alone, "own psnr": separate[0]}
    return [*cells, *own], found


def main() -> None:
    """Write inverse.md, inverse.json and inverse.png."""
    rows, data, lines = [], {}, {"DPS": {}, "NDTM": {}}
    for name, (make, middle) in rules().items():
        curves = tuned(make, middle)
        cells, data[name] = row(make, middle, curves)
        rows.append([name, *cells])
        mean = [sum(c[i] for c in curves.values()) / len(curves) for i in range(len(FACTORS))]
        top = max(mean)
        solver, rule = name.split(", ")
        lines[solver][rule] = (FACTORS, [m - top for m in mean])
    panels = [
        Panel(f"{name}: tuning pictures, all tasks", "number / middle of its grid", "dB below its own best", part, "x")
        for name, part in lines.items()
    ]
    head = ["rule", "number", *tasks(), *(f"{name}, own number" for name in tasks())]
    text = "\n".join(
        [
            f"{REPORTED} digits, noise {SIGMA:g}: PSNR in dB (|y - A x| / (sqrt(m) sigma), 1 is the noise) at one "
            "number for all tasks; then PSNR at a number tuned for each. DPS: 100 forwards; NDTM: 25 steps of 4.\n",
            markdown(head, rows),
        ]
    )
    save("inverse", text, data)
    line_figure(panels, RESULTS / "inverse.png")


if __name__ == "__main__":
    main()
