"""NDTM and other solvers on a small prior of whole images: python -m benchmarks.global_prior [--task NAME].

The prior is the packaged `digits` (16 x 16 pixels), without labels. The images are digits that it was not trained on.
NDTM has the settings published for ImageNet 256, or, for blind deblurring, the fast preset for FFHQ. DPS gets four
times NDTM's network calls (at most the 1000 steps of the noise table), and DMPlug as many as DPS (published: 5000
iterations of three). The others have the settings published for the same comparison. The only setting tuned for digits
is the step size of one row of NDTM, see `LR`. In blind deblurring NDTM makes 16 of its 200 steps, so that DPS can have
four times its calls. The script computes the missing entries of results/table.json, and writes results/table.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import invsolve as iv
from benchmarks.common import markdown
from benchmarks.guidance.digits import load_digits
from invsolve import costs, operators, priors, solvers
from invsolve.core.unknowns import Unknown, Unknowns

SHAPE, NOISE, SIDE, RESULTS = (1, 16, 16), 0.005, 7, Path(__file__).parent / "results"
TABLE = 1000
"""Steps of the noise table, the maximum for DPS."""

HEAD = ("task", "solver", "PSNR in dB", "gain over DPS", "deviation over seeds", "residual", "forwards + backwards")
LR = 0.1
"""The best of 0.01 (published), 0.03 and 0.1 on 16 digits of the split "judge", super-resolution and Gaussian blur."""
QUARTER = 16
"""Steps of NDTM in blind deblurring (15 updates each); they make a quarter of the calls of DPS."""


@dataclass(frozen=True, eq=False)
class Task:
    """A degradation: its operator, its published preset, and the true values of its unknown parameters."""

    operator: iv.Operator
    preset: str
    theta: Mapping[str, Tensor] | None = None

    @property
    def unknowns(self) -> Unknowns | None:
        """The kernel, as softmax of logits from N(0, 1), as published."""
        return None if self.theta is None else Unknowns({"kernel": Unknown((SIDE, SIDE), "softmax", lr=0.01)})


def tasks() -> dict[str, Task]:
    """Six degradations; all images share mask and motion blur. Gaussian blur has the settings of super-resolution."""
    known = torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) < 0.3
    along = torch.zeros(1, 5, 5)
    along[0, 2] = 0.2
    unknown = operators.gaussian_kernel(1.2, SIDE // 2).float()[None]
    return {
        "super-resolution x 4": Task(operators.SuperResolution(SHAPE, 4), "superres4"),
        "inpainting, 30 % known": Task(operators.Inpainting(SHAPE, known), "inpaint"),
        "Gaussian blur, 1.5 pixels": Task(operators.GaussianBlur(SHAPE, 1.5), "superres4"),
        "motion blur of a camera": Task(operators.CameraBlur(SHAPE, along, exposure=1.5), "deblur-nonlinear"),
        "contrast x 4, clipped": Task(operators.HighDynamicRange(SHAPE, 4.0), "deblur-nonlinear"),
        "unknown Gaussian blur": Task(
            operators.BlindBlur(SHAPE, (SIDE, SIDE)), "blind-deblur-fast", {"kernel": unknown}
        ),
    }


def ndtm(task: Task) -> solvers.NDTM:
    """As published."""
    return solvers.NDTM.preset(f"{'ffhq256' if task.theta else 'imagenet256'}/{task.preset}")


def contender(name: str, task: Task, calls: int) -> iv.Solver | None:
    """A solver with published settings; None if it cannot be used.

    Args:
        name: name of the solver.
        task: the degradation.
        calls: network calls of DPS and DMPlug.
    """
    kind = solvers.SOLVERS[name]
    linear = isinstance(task.operator, iv.LinearOperator) and task.theta is None
    if (kind.needs.linear and not linear) or (task.theta and not kind.needs.blind):
        return None
    row = "superres4" if task.theta else task.preset
    if name == "dps":
        times = tuple(round(TABLE * i / calls) / TABLE for i in range(calls, -1, -1))
        return solvers.DPS.preset(f"imagenet256/{row}", times=times)
    if name == "red-diff":
        return solvers.REDdiff.preset(f"imagenet256/{row}")
    if name == "ddrm":
        return solvers.DDRM.preset(f"imagenet256/{row}")
    if name == "c-pigdm":
        return solvers.CPiGDM.preset("imagenet256/superres4")
    return solvers.DMPlug.preset("ffhq256/superres4", n_iterations=calls // 3)


def psnr(restored: Tensor, truth: Tensor, *, anywhere: bool) -> Tensor:
    """PSNR in dB of each image [B]; the best over shifts of up to two pixels if `anywhere`."""
    shifts = [(i, j) for i in range(-2, 3) for j in range(-2, 3)] if anywhere else [(0, 0)]
    errors = [(restored.clamp(0, 1).roll(s, (2, 3)) - truth).square().flatten(1).mean(1) for s in shifts]
    return -10 * torch.stack(errors).min(0).values.log10()


def restored(task: Task, solver: iv.Solver, truth: Tensor, seed: int) -> dict[str, Any]:
    """One restoration of each image: PSNR [B], residual in units of the noise [B], and calls of the network."""
    rng = iv.Rng(seed, [(f"noise {i}", 0) for i in range(len(truth))])
    theta = None if task.theta is None else {k: v.expand(len(truth), *v.shape[1:]) for k, v in task.theta.items()}
    clean = task.operator(truth) if theta is None else task.operator(truth, theta)
    y = clean + NOISE * rng.normal(clean)
    problem = iv.Problem(
        priors.load("digits", schedule="linear"), costs.GaussianLikelihood(task.operator, y, NOISE), task.unknowns
    )
    done = iv.solve(problem, solver, seed=seed)
    image = done.samples[:, 0]
    found = {k: v[:, 0] for k, v in done.theta.items()}
    again = task.operator(image, found) if found else task.operator(image)
    return {
        "psnr": psnr(image, truth, anywhere=theta is not None).tolist(),
        "residual": (((again - y) / NOISE).square().flatten(1).mean(1).sqrt()).tolist(),
        "forwards": done.stats.network_forwards,
        "backwards": done.stats.network_backwards,
        "seconds": done.stats.seconds,
    }


def cell(values: Tensor, sign: str = "") -> str:
    """The mean over images and seeds, with its standard error over images."""
    each = values.mean(0)
    return f"{each.mean():{sign}.2f} ± {each.std() / math.sqrt(len(each)):.2f}"


def rows(name: str, results: Mapping[str, Any]) -> list[list[str]]:
    """The table rows of a task: PSNR, gain over DPS on the same images, spread over seeds, residual, calls."""
    table = []
    base = torch.tensor([run["psnr"] for run in results["dps"]["runs"]])
    for solver, found in results.items():
        runs = found["runs"]
        values = torch.tensor([run["psnr"] for run in runs])
        spread = f"{values.mean(1).std():.2f}" if len(runs) > 1 else ""
        gain = "" if solver == "dps" else cell(values - base[: len(runs)], "+")
        residual = torch.tensor([run["residual"] for run in runs]).median()
        calls = f"{runs[0]['forwards']:.0f} + {runs[0]['backwards']:.0f}"
        table.append([name, solver, cell(values), gain, spread, f"{residual:.1f}", calls])
    return table


def contenders(task: Task) -> dict[str, iv.Solver]:
    """The solvers that can be used on a task, by name."""
    own, faces = ndtm(task), solvers.NDTM.preset(f"ffhq256/{task.preset}")
    calls = own.n_steps * (own.n_inner + 1)
    longer = replace(own, lr=LR)
    found: dict[str, iv.Solver] = {"ndtm": own, "ndtm, as for faces": faces, f"ndtm, lr {LR:g}": longer}
    if 4 * calls > TABLE:
        found = {f"ndtm, {QUARTER} steps": replace(own, n_steps=QUARTER)}
    for name in ("dps", "red-diff", "ddrm", "c-pigdm", "dmplug"):
        solver = contender(name, task, min(4 * calls, TABLE))
        if solver is not None:
            found[name] = solver
    return found


def main() -> None:
    """Compute the missing entries of table.json, then write table.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.global_prior", description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--task", default="", help="part of a task's name: other tasks keep their results")
    args = parser.parse_args()
    every = load_digits("test").images
    truth = every[torch.linspace(0, len(every) - 1, args.images).round().long()]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "table.json"
    data = json.loads(path.read_text()) if path.is_file() else {}
    for seed in range(args.seeds):
        for name, task in tasks().items():
            if args.task not in name:
                continue
            for label, solver in contenders(task).items():
                asked: dict[str, Any] = {"solver": repr(solver), "operator": repr(task.operator), "images": args.images}
                found = data.setdefault(name, {}).get(label)
                if found is None or any(found[key] != value for key, value in asked.items()):
                    found = data[name][label] = {**asked, "runs": []}
                if len(found["runs"]) == seed:
                    found["runs"].append(restored(task, solver, truth, seed))
                    path.write_text(json.dumps(data, indent=1) + "\n")
    table = [row for name in tasks() if name in data for row in rows(name, data[name])]
    (RESULTS / "table.md").write_text(markdown(HEAD, table))
    print(markdown(HEAD, table))


if __name__ == "__main__":
    main()
