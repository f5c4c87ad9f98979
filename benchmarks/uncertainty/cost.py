"""Cost of six samples and of the point estimate, in processor seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.common import markdown
from benchmarks.photographs import photograph
from invsolve.bench.suite import TaskSpec
from invsolve.bench.tasks import measure
from invsolve.core.driver import solve
from invsolve.core.problem import Problem
from invsolve.core.solver import Solver
from invsolve.restoration.loading import load_prior
from invsolve.restoration.options import Options
from invsolve.tune.calibrate import Setup
from invsolve.tune.images import crop_of_rank

__all__ = ["costs"]

TASKS = (
    TaskSpec("denoise 0.05", "denoise", 0.05),
    TaskSpec("superres x4", "superres", 0.01, {"factor": 4}),
    TaskSpec("Gaussian blur 2", "deblur", 0.01, {"std": 2.0}),
    TaskSpec("80 % missing", "inpaint", 0.01, {"missing": 0.8}),
    TaskSpec("hole of 32", "inpaint", 0.01, {"box": 32}),
)


def costs(side: int, names: Sequence[str]) -> str:
    """Processor seconds of the point estimate and of six samples of a crop, as Markdown."""
    setup = Setup(load_prior(Options()), "natural")
    image = crop_of_rank(photograph("astronaut"), side, 0.5).contiguous()
    rows = []
    for spec in TASKS:
        if names and spec.name not in names:
            continue
        measured = measure(spec, image, "cost", 0)
        sampler, point = setup.solvers(spec, measured)
        assert point is not None
        problem = measured.problem(setup.prior)
        _seconds(problem, point, 1)  # untimed: the operator's plans and spectra are made once
        one, six = _seconds(problem, point, 1), _seconds(problem, sampler, setup.samples)
        rows.append([spec.name, f"{one:.1f}", f"{six:.1f}", f"{six / one:.1f}"])
    return markdown([f"{side}x{side}", "point estimate, s", "six samples, s", "ratio"], rows) + "\n"


def _seconds(problem: Problem, solver: Solver, samples: int) -> float:
    began = time.process_time()
    solve(problem, solver, samples=samples, antithetic=samples > 1)
    return time.process_time() - began
