"""NDTM and the published loop on the full-size FFHQ architecture, and the effect of bfloat16 on the networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import invsolve as iv
from benchmarks.common import markdown
from benchmarks.networks import FFHQ, forward, gradient, random_network
from benchmarks.photographs import held_out
from benchmarks.speed.contenders import Setting, contenders
from benchmarks.speed.pairs import alternate, save
from benchmarks.speed.published import published_ndtm
from benchmarks.speed.quality import TASKS, measured, task_of
from invsolve import costs, operators, priors, solvers
from invsolve.core.linear_data import LinearData
from invsolve.priors.networks import unet
from invsolve.restoration.pace import OF_PHOTOGRAPHS
from invsolve.restoration.settings import build, choose

__all__ = [
    "bf16",
    "bf16_quality",
    "fused",
    "ndtm",
    "ndtm_runs",
    "whole",
    "whole_setting",
]


def _task(side: int) -> tuple[operators.SuperResolution, Tensor]:
    generator = torch.Generator().manual_seed(1)
    operator = operators.SuperResolution((3, side, side), factor=4)
    return operator, operator(torch.rand(1, 3, side, side, generator=generator))


def ndtm_runs(side: int, n_steps: int, n_inner: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """The same NDTM run by invsolve and as published; they return the restoration in [-1, 1]."""
    module = random_network(FFHQ)
    operator, y = _task(side)
    problem = iv.Problem(priors.NetworkPrior(module, "eps"), costs.GaussianLikelihood(operator, y, 0.005))
    data: LinearData = problem.linear_data
    solver = solvers.NDTM(n_steps=n_steps, n_inner=n_inner, t_start=0.4, weight=50.0, weights="ddim")

    def own() -> Tensor:
        return problem.from_image(iv.solve(problem, solver).samples[:, 0])

    def theirs() -> Tensor:
        return published_ndtm(module, data.operator, data.y, solver, iv.Rng(0), n_steps)

    return own, theirs


def ndtm(side: int, steps: int, rounds: int) -> None:
    """Whole runs of `steps` steps with N = 2 and 5: seconds, ratio, and the largest difference of the results."""
    rows: list[dict[str, Any]] = []
    for n in (2, 5):
        runs = dict(zip(("invsolve", "as published"), ndtm_runs(side, steps, n), strict=True))
        results: dict[str, Tensor] = {}

        def kept(name: str, run: Callable[[], Tensor], results: dict[str, Tensor] = results) -> Callable[[], object]:
            return lambda: results.update({name: run()})

        timings = alternate({name: kept(name, run) for name, run in runs.items()}, rounds, warm=False)
        worst = (results["invsolve"] - results["as published"]).abs().max().item()
        ratio = timings["as published"].median / timings["invsolve"].median
        rows.append({"n_inner": n, "timings": timings, "ratio": ratio, "largest_difference": worst})
        print(n, ratio, worst, timings, flush=True)
    cells = []
    for row in rows:
        seconds = [f"{row['timings'][name].median:.2f}" for name in ("as published", "invsolve")]
        cells.append([row["n_inner"], *seconds, f"{row['ratio']:.2f}", f"{row['largest_difference']:.1e}"])
    head = ["N", "as published, s", "invsolve, s", "times faster", "largest difference in [-1, 1]"]
    save("ndtm", rows, markdown(head, cells), side=side, n_steps=steps)


def bf16(sides: list[int], rounds: int) -> None:
    """Time one call of `natural`, and one with its input-gradient, in float32 and in bfloat16."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for side in sides:
        x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        calls: dict[str, Callable[[], object]] = {}
        for name, options in (("float32", {}), ("bfloat16", {"dtype": torch.bfloat16})):
            prior = priors.load("natural", **options)
            calls[f"forward {name}"] = lambda prior=prior, x=x: forward(prior, x)
            calls[f"gradient {name}"] = lambda prior=prior, x=x: gradient(prior, x)
        timings = alternate(calls, rounds)
        rows.append({"side": side, "timings": timings})
    cells = []
    for row in rows:
        t = {name: timing.median for name, timing in row["timings"].items()}
        cells.append([row["side"], *(f"{1e3 * value:.1f}" for value in t.values())])
        cells[-1] += [f"{t[f'{kind} float32'] / t[f'{kind} bfloat16']:.2f}" for kind in ("forward", "gradient")]
    head = ["side", "forward float32, ms", "gradient float32", "forward bfloat16", "gradient bfloat16"]
    save("bf16", rows, markdown([*head, "forward ratio", "gradient ratio"], cells))


def fused(sides: list[int], rounds: int) -> None:
    """Time a call of `natural` without a gradient: fused convolutions with packed weights, or separate operations."""
    torch.set_num_threads(1)
    packs, rows = unet.packs, []

    def run(prior: iv.Prior, x: Tensor, allowed: Callable[[Tensor, Any], bool]) -> None:
        unet.packs = allowed
        forward(prior, x)

    for dtype in ("float32", "bfloat16"):
        prior = priors.load("natural", dtype=dtype)
        for side in sides:
            x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
            calls = {"separate": partial(run, prior, x, lambda *_: False), "fused": partial(run, prior, x, packs)}
            rows.append({"dtype": dtype, "side": side, "timings": alternate(calls, rounds)})
    unet.packs = packs
    cells = []
    for row in rows:
        separate, joined = (row["timings"][name].median for name in ("separate", "fused"))
        cells.append(
            [row["dtype"], row["side"], f"{1e3 * separate:.1f}", f"{1e3 * joined:.1f}", f"{joined / separate:.2f}"]
        )
    save("fused", rows, markdown(["precision", "side", "separate, ms", "fused, ms", "ratio"], cells))


def bf16_quality(side: int, tasks: list[str]) -> None:
    """Restore the held-out images with the settings of `invsolve restore` and the network in both precisions."""
    images = torch.stack([image for _, image in held_out(side)])
    rows: list[dict[str, Any]] = []
    for name, packaged in itertools.product(tasks, OF_PHOTOGRAPHS):
        section, level = TASKS[name]
        solver = build(choose("natural", section, sampling=False), "natural", section, {})
        row: dict[str, Any] = {"task": name, "prior": packaged}
        for precision, options in (("float32", {}), ("bfloat16", {"dtype": torch.bfloat16})):
            prior = priors.load(packaged, **options)
            row[precision] = measured(task_of(section, side), level, images, solver, prior)
        rows.append(row)
        cells = []
        for found in rows:
            exact, half = found["float32"], found["bfloat16"]
            shown = [f"{part['psnr']:.3f} / {part['ssim']:.4f}" for part in (exact, half)]
            cells.append([found["task"], found["prior"], *shown, f"{exact['psnr'] - half['psnr']:.3f}"])
        save(
            "bf16-quality",
            rows,
            markdown(["PSNR / SSIM", "prior", "float32", "bfloat16", "loss, dB"], cells),
            side=side,
        )


def whole_setting(side: int, steps: int) -> Setting:
    """`natural` in float32 as the network of every library."""
    prior = priors.load("natural")
    module: Any = prior.module  # pyright: ignore[reportAttributeAccessIssue]

    def network(x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        return module(x_t / alpha, torch.full((len(x_t),), sigma / alpha))

    return Setting(network, (3, side, side), 1, steps, prior)


def whole(side: int, steps: int, rounds: int) -> None:
    """Whole restorations on `natural` in float32, by invsolve, a bare loop, azula and deepinv."""
    setting, rows = whole_setting(side, steps), []
    for name in ("dps", "pigdm", "ddrm", "diffpir"):
        rows.append({"solver": name, "timings": alternate(contenders(name, setting), rounds)})
    who = ("bare", "invsolve", "azula", "deepinv")
    cells = [[r["solver"], *(f"{r['timings'][w].median:.2f}" if w in r["timings"] else "" for w in who)] for r in rows]
    save("whole", rows, markdown(["solver", *(f"{w}, s" for w in who)], cells), side=side, steps=steps)
