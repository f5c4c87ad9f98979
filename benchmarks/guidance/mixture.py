"""(a) The 2-D mixture under fixed, clipped, thresholded, soft and adaptive guidance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import invsolve as iv
from benchmarks.common import SharedNoise, markdown
from benchmarks.guidance.common import RESULTS, save, spread
from invsolve import costs, priors, solvers
from invsolve.diagnostics.control import (
    ControlEnergy,
    EntropyDeficit,
    collapse_figure,
    collapse_label,
    critical_scale,
    deficit_figure,
    entropy_deficit,
    mode_entropy,
    pairwise_distance,
)
from invsolve.diagnostics.lines import Panel, line_figure
from invsolve.solvers.steps.scales import (
    AdaptiveScale,
    At,
    ClippedScale,
    FixedScale,
    ScaleRule,
    SoftScale,
    ThresholdScale,
)

SEEDS, SAMPLES, STEPS = 5, 2000, 500
TIMES = tuple(1.0 + (1e-3 - 1.0) * i / STEPS for i in range(STEPS + 1))
ROWS = {
    "fixed": {f"fixed {v}": float(v) for v in (1, 5, 10, 20, 30, 50)},
    "adaptive, constant": {f"adaptive {v} constant": float(v) for v in (1, 3, 5, 50)},
    "adaptive, bell": {f"adaptive {v} sin2": float(v) for v in (20, 30, 50)},
}
"""The scales of the rows of the table that differ in nothing else."""
CENTRE = torch.tensor([0.35, 0.0], dtype=torch.float64)
PUBLISHED = {
    "fixed 1": ("0.72", "0.89", "No"),
    "fixed 5": ("0.88", "0.63", "No"),
    "fixed 20": ("0.92", "0.21", "Partial"),
    "fixed 50": ("0.93", "0.05", "Yes"),
    "adaptive 50 sin2": ("0.90", "0.71", "No"),
}


@dataclass(frozen=True)
class BatchMean(ScaleRule):
    """Adaptive scaling by the batch's mean norm, an interpretation of the paper that the library does not offer."""

    lam: float = 50.0

    def start(self, n: int, like: Tensor) -> dict[str, Tensor]:
        return AdaptiveScale(self.lam).start(n, like)

    def __call__(self, norm: Tensor, at: At, memory: Any) -> tuple[Tensor, dict[str, Tensor]]:
        groups = norm.view(SEEDS, -1).mean(1, keepdim=True).expand(SEEDS, len(norm) // SEEDS).reshape(-1)
        return AdaptiveScale(self.lam)(groups, at, memory)


def ring() -> priors.MixturePrior:
    """Six modes on a ring of radius 0.6, standard deviation 0.17."""
    angle = 2 * math.pi * torch.arange(6, dtype=torch.float64) / 6
    means = 0.6 * torch.stack([angle.cos(), angle.sin()], 1)
    return priors.MixturePrior(means, torch.full((6,), 0.17**2), None, iv.VPSchedule())


def log_reward(x: Tensor) -> Tensor:
    """-|x - c|^2."""
    return -(x - CENTRE).square().sum(1)


def run(rule: ScaleRule, *, seeds: int = SEEDS, samples: int = SAMPLES, seed: int = 0) -> dict[str, list[float]]:
    """Reward, diversity and control energy of each seed."""
    prior = ring()
    problem = iv.Problem(prior, costs.RewardCost(log_reward))
    solver = solvers.Guidance(rule, at="xt", sampler="em", times=TIMES)
    energy = ControlEnergy(solver.path(problem), prior.schedule)
    out = iv.solve(problem, solver, samples=seeds * samples, rng=SharedNoise(seed), callbacks=[energy])
    groups = out.samples[0].view(seeds, samples, 2)
    reference = prior.sample(8000, SharedNoise(10_000))
    return {
        "reward": [float(log_reward(x).exp().mean()) for x in groups],
        "diversity": [mode_entropy(x, prior.means) for x in groups],
        "distance": [pairwise_distance(x) / pairwise_distance(reference) for x in groups],
        "variance": [float(x.var(0).sum() / reference.var(0).sum()) for x in groups],
        "energy": [float(e.mean()) for e in energy.paper.view(seeds, samples)],
        "girsanov": [float(e.mean()) for e in energy.girsanov.view(seeds, samples)],
    }


def rules() -> dict[str, ScaleRule]:
    """The rows of the table."""
    table: dict[str, ScaleRule] = {"unguided": FixedScale(0.0)}
    table |= {name: FixedScale(lam) for name, lam in ROWS["fixed"].items()}
    table |= {f"clip gradient {lam}": ClippedScale(float(lam)) for lam in (30, 50)}
    table |= {"clip total 50": ClippedScale(50.0, on="total")}
    table |= {f"soft {lam}": SoftScale(float(lam)) for lam in (30, 50)}
    table |= {"threshold 50": ThresholdScale(50.0)}
    table |= {f"adaptive 50 {shape}": AdaptiveScale(50.0, shape) for shape in ("constant", "sin2", "gauss", "sin")}
    table |= {f"adaptive {lam} constant": AdaptiveScale(float(lam), "constant") for lam in (1, 3, 5)}
    table |= {"adaptive 30 sin2": AdaptiveScale(30.0), "adaptive 20 sin2": AdaptiveScale(20.0)}
    table |= {"adaptive 50 sin2, batch mean": BatchMean(), "fixed 50 sin2": FixedScale(50.0, "sin2")}
    table |= {f"adaptive 50 sin2, a {a:g}": AdaptiveScale(50.0, ema_decay=a) for a in (0.0, 0.5, 0.99)}
    table |= {f"adaptive 50 sin2, eps {e:g}": AdaptiveScale(50.0, eps=e) for e in (1e-2, 1e-1)}
    return table


def published(kind: str) -> tuple[list[float], list[float], list[float]]:
    """Scales, rewards and diversities of the rows of a kind that the paper has."""
    known = [(scale, *PUBLISHED[name][:2]) for name, scale in ROWS[kind].items() if name in PUBLISHED]
    scales, rewards, diversities = ([float(row[i]) for row in known] for i in range(3))
    return scales, rewards, diversities


def matched(results: dict[str, dict[str, list[float]]], names: Iterable[str], reward: float) -> str:
    """Diversity at a given reward, interpolated linearly between a method's settings."""

    def mean(name: str, key: str) -> float:
        return sum(results[name][key]) / len(results[name][key])

    points = sorted((mean(n, "reward"), mean(n, "diversity")) for n in ["unguided", *names])
    for (a, high), (b, low) in zip(points, points[1:], strict=False):
        if a <= reward <= b:
            return f"{high + (reward - a) / (b - a) * (low - high):.3f}"
    return "-"


def deficits() -> tuple[list[list[str]], dict[float, EntropyDeficit]]:
    """The entropy deficit for each lambda."""
    rows, found = [], dict[float, EntropyDeficit]()
    for lam in (0.0, 1.0, 5.0, 10.0, 20.0, 22.5, 30.0, 50.0):
        literal = entropy_deficit(ring().log_prob, log_reward, lam, 10.05, variant="literal")
        value = found[lam] = entropy_deficit(ring().log_prob, log_reward, lam, 10.05)
        numbers = (value.entropy, literal.deficit, value.deficit, value.bridge, value.threshold, value.reward)
        rows.append([f"{lam:g}", *(f"{v:.2f}" for v in numbers)])
    return rows, found


def figures(results: dict[str, dict[str, list[float]]]) -> None:
    """Draw diversity against reward, and the strength of guidance over time."""

    def points(names: Iterable[str]) -> tuple[list[float], list[float]]:
        mean = {key: [sum(results[n][key]) / SEEDS for n in names] for key in ("reward", "diversity")}
        return mean["reward"], mean["diversity"]

    scales, *theirs = published("fixed")
    lines = {kind: points(names) for kind, names in ROWS.items()} | {
        "clip gradient": points(["clip gradient 30", "clip gradient 50"]),
        "soft": points(["soft 30", "soft 50"]),
        "published fixed": (theirs[0], theirs[1]),
        "published adaptive": published("adaptive, bell")[1:],
    }
    swept = {kind: (list(rows.values()), lines[kind][1]) for kind, rows in ROWS.items()}
    collapse_figure(swept | {"published fixed": (scales, theirs[1])}, RESULTS / "mixture-collapse.png")
    energy = {"fixed": (swept["fixed"][0], [sum(results[name]["energy"]) / SEEDS for name in ROWS["fixed"]])}
    line_figure(
        [
            Panel("diversity left at each reward", "mean reward", "mode entropy D", lines),
            Panel("control energy", "lambda", "E", energy, "y"),
        ],
        RESULTS / "mixture.png",
    )


def main() -> None:
    """Write mixture.md, mixture.json, mixture.png, mixture-collapse.png and mixture-deficit.png."""
    results = {name: run(rule, seed=100 + i) for i, (name, rule) in enumerate(rules().items())}
    rows = []
    for name, r in results.items():
        d = sum(r["diversity"]) / SEEDS
        energies = f"{sum(r['energy']) / SEEDS:.3g}", f"{sum(r['girsanov']) / SEEDS:.3g}"
        cells = [name, *(spread(r[k]) for k in ("reward", "diversity")), collapse_label(d)]
        cells += [spread(r["distance"]), spread(r["variance"]), *energies, *PUBLISHED.get(name, ("", "", ""))]
        rows.append(cells)
    head = ["method", "reward", "D", "collapse", "distance ratio", "variance ratio", "E", "E Girsanov"]
    head += ["published reward", "published D", "published collapse"]
    ours = critical_scale(list(ROWS["fixed"].values()), [sum(results[n]["diversity"]) / SEEDS for n in ROWS["fixed"]])
    scales, _, diversities = published("fixed")
    theirs = critical_scale(scales, diversities)
    levels = (0.80, 0.85, 0.88)
    equal = [[kind, *(matched(results, names, level) for level in levels)] for kind, names in ROWS.items()]
    tilted, curve = deficits()
    text = "\n".join(
        [
            f"{SEEDS} seeds of {SAMPLES} samples, {STEPS} Euler-Maruyama steps, float64; mean ± standard deviation.\n",
            markdown(head, rows),
            f"Scale at which D falls below 0.2: {ours:.1f} here, {theirs:.1f} by the published table.\n",
            "D at equal reward:\n",
            markdown(["method", *(f"reward {v}" for v in levels)], equal),
            "Entropy deficit of the exactly tilted law (published criterion: deficit > C integral of beta):\n",
            markdown(["lambda", "H", "deficit, as published", "deficit", "C", "C integral", "E[r]"], tilted),
        ]
    )
    save("mixture", text, {"results": results, "critical_scale": ours})
    figures(results)
    deficit_figure(curve, RESULTS / "mixture-deficit.png")


if __name__ == "__main__":
    main()
