"""NDTM beside the published loop on the full-size FFHQ architecture, and what bfloat16 does to the networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import invsolve as iv
from benchmarks.common import markdown
from benchmarks.speed.contenders import Setting, contenders
from benchmarks.speed.pairs import alternate, save
from benchmarks.speed.published import published_ndtm
from invsolve import costs, operators, priors, solvers
from invsolve.core.problem import LinearData

__all__ = ["bf16", "ffhq", "ndtm", "whole"]


def ffhq() -> nn.Module:
    """The published FFHQ 256x256 network (93.6 M parameters) with random weights, none of them zero."""
    from invsolve.priors.adm import ADMUNet
    from invsolve.priors.adm_config import ADMConfig

    config = ADMConfig(128, (1, 1, 2, 2, 4, 4), 1, (False, False, False, False, True, False))
    generator = torch.Generator().manual_seed(0)
    module = ADMUNet(config)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.7 / weight[0].numel() ** 0.5, generator=generator)
    return module.eval()


def _task(side: int) -> tuple[operators.SuperResolution, Tensor]:
    generator = torch.Generator().manual_seed(1)
    operator = operators.SuperResolution((3, side, side), factor=4)
    return operator, operator(torch.rand(1, 3, side, side, generator=generator))


def ndtm(side: int, n_steps: int, rounds: int, inner: tuple[int, ...] = (2, 5)) -> None:
    """Whole runs of `n_steps` steps with N = 2 and 5: seconds, ratio, and the largest difference of the results."""
    module = ffhq()
    prior = priors.NetworkPrior(module, "eps")
    operator, y = _task(side)
    problem = iv.Problem(prior, costs.GaussianLikelihood(operator, y, 0.005))
    data: LinearData = problem.linear_data
    rows: list[dict[str, Any]] = []
    for n in inner:
        solver = solvers.NDTM(n_steps=n_steps, n_inner=n, t_start=0.4, weight=50.0, weights="ddim")
        results: dict[str, Tensor] = {}

        def own(solver: iv.Solver = solver, results: dict[str, Tensor] = results) -> None:
            results["own"] = problem.from_image(iv.solve(problem, solver).samples[:, 0])

        def theirs(solver: solvers.NDTM = solver, results: dict[str, Tensor] = results) -> None:
            rng = iv.Rng(0)
            results["theirs"] = published_ndtm(module, data.operator, data.y, solver, rng, n_steps)

        timings = alternate({"invsolve": own, "as published": theirs}, rounds, warm=False)
        worst = (results["own"] - results["theirs"]).abs().max().item()
        ratio = timings["as published"].median / timings["invsolve"].median
        rows.append({"n_inner": n, "timings": timings, "ratio": ratio, "largest_difference": worst})
        print(n, ratio, worst, timings, flush=True)
    cells = []
    for row in rows:
        seconds = [f"{row['timings'][name].median:.2f}" for name in ("as published", "invsolve")]
        cells.append([row["n_inner"], *seconds, f"{row['ratio']:.2f}", f"{row['largest_difference']:.1e}"])
    head = ["N", "as published, s", "invsolve, s", "times faster", "largest difference in [-1, 1]"]
    save("ndtm", rows, markdown(head, cells), side=side, n_steps=n_steps)


def bf16(sides: list[int], rounds: int) -> None:
    """One call of `natural`, and one with its input-gradient, in float32 and in bfloat16."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for side in sides:
        x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        calls: dict[str, Callable[[], object]] = {}
        for name, options in (("float32", {}), ("bfloat16", {"dtype": torch.bfloat16})):
            prior = priors.load("natural", **options)
            calls[f"forward {name}"] = lambda prior=prior, x=x: _forward(prior, x)
            calls[f"gradient {name}"] = lambda prior=prior, x=x: _gradient(prior, x)
        timings = alternate(calls, rounds)
        rows.append({"side": side, "timings": timings})
    cells = []
    for row in rows:
        t = {name: timing.median for name, timing in row["timings"].items()}
        cells.append([row["side"], *(f"{1e3 * value:.1f}" for value in t.values())])
        cells[-1] += [f"{t[f'{kind} float32'] / t[f'{kind} bfloat16']:.2f}" for kind in ("forward", "gradient")]
    head = ["side", "forward float32, ms", "gradient float32", "forward bfloat16", "gradient bfloat16"]
    save("bf16", rows, markdown([*head, "forward ratio", "gradient ratio"], cells))


@torch.no_grad()
def _forward(prior: iv.Prior, x: Tensor) -> Tensor:
    return prior.denoise(x, 0.3)


def _gradient(prior: iv.Prior, x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(prior.denoise(leaf, 0.3).sum(), leaf)[0]


def whole(side: int, steps: int, rounds: int) -> None:
    """Whole restorations on `natural` in float32, beside a bare loop, azula and deepinv."""
    prior = priors.load("natural")
    module: Any = prior.module  # pyright: ignore[reportAttributeAccessIssue]

    def network(x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        return module(x_t / alpha, torch.full((len(x_t),), sigma / alpha))

    setting = Setting(network, (3, side, side), 1, steps, prior)
    rows = []
    for name in ("dps", "pigdm", "ddrm", "diffpir"):
        rows.append({"solver": name, "timings": alternate(contenders(name, setting), rounds)})
    who = ("bare", "invsolve", "azula", "deepinv")
    cells = [[r["solver"], *(f"{r['timings'][w].median:.2f}" if w in r["timings"] else "" for w in who)] for r in rows]
    save("whole", rows, markdown(["solver", *(f"{w}, s" for w in who)], cells), side=side, steps=steps)
