"""(c) Schedules of classifier-free weights: a 2-D toy with a model error, and quality against diversity on digits."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

import invsolve as iv
from benchmarks.common import SharedNoise, markdown
from benchmarks.guidance.common import RESULTS, save, spread
from benchmarks.guidance.images import CLASSES, PER_CLASS, judge
from invsolve import priors, solvers
from invsolve.diagnostics.discrepancy import (
    Trajectory,
    discrepancy_bound,
    discrepancy_figure,
    log_ratio_figure,
    noised,
    score_discrepancy,
)
from invsolve.diagnostics.lines import Panel, line_figure
from invsolve.priors.guidance.clocks import FrequencyWeights
from invsolve.priors.guidance.combinations import Combination, GuidedPrior, classifier_free
from invsolve.priors.guidance.pairs import PriorPair
from invsolve.priors.guidance.weights import (
    C2FG,
    RAAG,
    BetaWeight,
    Constant,
    Cosine,
    Interval,
    Linear,
    Sine,
    Tent,
    Weight,
    mean_weight,
)

SEEDS, SAMPLES, STEPS = 3, 3000, 250
DIGITS_STEPS, MEANS = 20, (1.5, 2.5, 5.0)
TIMES = tuple(1.0 + (1e-3 - 1.0) * i / STEPS for i in range(STEPS + 1))
TABLE_4 = [
    ["constant 1.5", "11.88", "192.13", "0.7176", "0.6651"],
    ["beta-CFG 1.5, a = b = 2", "8.42", "254.42", "0.8038", "0.6026"],
    ["RAAG 18, 12", "21.57", "444.57", "0.8360", "0.2636"],
    ["C2FG (1, 1)", "7.70", "294.03", "0.7994", "0.6357"],
]


def toy(error: bool) -> tuple[priors.MixturePrior, priors.MixturePrior, priors.MixturePrior]:
    """The true class, the conditional model and the unconditional model."""
    q = torch.linspace(0, 1, 12, dtype=torch.float64)
    own = torch.stack([0.3 + 1.5 * q, 1.2 * torch.sin(3 * q) - 0.3], 1)
    variance = [0.08**2, 0.08**2 + error * 0.10**2, 0.08**2 + error * 0.25**2]
    schedule = iv.VPSchedule()
    true, conditional = (priors.MixturePrior(own, torch.full((12,), v), None, schedule) for v in variance[:2])
    both = torch.cat([own, -own])
    return true, conditional, priors.MixturePrior(both, torch.full((24,), variance[2]), None, schedule)


def mmd(a: Tensor, b: Tensor, h: float = 0.3) -> float:
    """Squared maximum mean discrepancy with a Gaussian kernel."""
    kernel = [(-torch.cdist(x, y).square() / (2 * h * h)).exp().mean() for x, y in ((a, a), (b, b), (a, b))]
    return float(kernel[0] + kernel[1] - 2 * kernel[2])


def toy_scores(weight: Weight, error: bool, renoise: str = "guided") -> dict[str, list[float]]:
    """Outliers, discrepancy and variance ratio for each seed."""
    true, conditional, unconditional = toy(error)
    prior = GuidedPrior(PriorPair(conditional, unconditional), Combination(weight, renoise=renoise))  # pyright: ignore
    solver = solvers.DDIM(n_steps=STEPS, times=TIMES)
    out = iv.solve(iv.Problem(prior), solver, samples=SEEDS * SAMPLES, rng=SharedNoise(3)).samples[0]
    reference = true.sample(20_000, SharedNoise(4))
    floor = true.log_prob(reference).quantile(0.01)
    groups = out.view(SEEDS, SAMPLES, 2)
    return {
        "outliers": [float((true.log_prob(x) < floor).double().mean()) for x in groups],
        "mmd": [mmd(x[:1500], reference[:1500]) for x in groups],
        "variance": [float(x.var(0).sum() / reference.var(0).sum()) for x in groups],
    }


def toy_table() -> tuple[list[list[str]], dict[str, object]]:
    """Every schedule with exact and with imperfect scores."""
    schedules: dict[str, Weight] = {f"constant {v:g}": Constant(v) for v in (1.0, 1.2, 1.37, 1.5, 3.0)}
    schedules |= {"C2FG (1, .6)": C2FG(1.0, 0.6), "C2FG (1, 1)": C2FG(1.0, 1.0)}
    schedules |= {"linear growing 2(1 - u)": Linear(1.0, True, True), "linear falling 2u": Linear(1.0, False, True)}
    schedules |= {"beta-CFG 1": BetaWeight(1.0), "sine 1.5": Sine(1.5), "interval 2 on [0, .5]": Interval(2.0, 0, 0.5)}
    schedules |= {
        "interval 2 on [.1, .5]": Interval(2.0, 0.1, 0.5),
        "RAAG 18, 12": RAAG(18, 12),
        "RAAG 3, 12": RAAG(3, 12),
    }
    rows, data = [], {}
    for name, weight in [*schedules.items(), ("CFG++ .6", Constant(0.6))]:
        cells = [name]
        for error in (False, True):
            found = toy_scores(weight, error, "second" if name.startswith("CFG++") else "guided")
            data[f"{name}, {'imperfect' if error else 'exact'}"] = found
            cells += [spread(found[key]) for key in ("outliers", "mmd", "variance")]
        rows.append(cells)
    return rows, data


def schedules_at(mean: float) -> dict[str, tuple[Weight, dict[str, object]]]:
    """Every schedule, with the same mean weight if it has one."""
    c2fg = mean * 0.6 / math.expm1(0.6)
    inside = (math.exp(0.6 * 0.9) - math.exp(0.6 * 0.4)) / 0.6  # of exp(.6 (1 - u)) over [.1, .6]
    table: dict[str, tuple[Weight, dict[str, object]]] = {
        "constant": (Constant(mean), {}),
        "C2FG, lambda .6": (C2FG(c2fg, 0.6), {}),
        "C2FG, lambda 1.5": (C2FG(mean * 1.5 / math.expm1(1.5), 1.5), {}),
        "linear growing": (Linear(mean, True, True), {}),
        "linear falling": (Linear(mean, False, True), {}),
        "sine": (Sine(mean * math.pi / 2), {}),
        "cosine": (Cosine(mean), {}),
        "tent": (Tent(mean), {}),
        "beta-CFG": (BetaWeight(mean), {}),
        "interval [.1, .6]": (Interval((mean - 0.5) / 0.5, 0.1, 0.6), {}),
        "C2FG on [.1, .6]": (Interval(C2FG((mean - 0.5) / inside, 0.6), 0.1, 0.6), {}),
        "RAAG, 12": (RAAG(mean, 12), {}),
        "frequency-decoupled 4 : 2": (Constant(mean), {"frequencies": FrequencyWeights((4 * mean / 3, 2 * mean / 3))}),
        "CFG++": (Constant(min(1.0, mean / plus_gain())), {"renoise": "second"}),
    }
    return table


@cache
def plus_gain() -> float:
    """The weight equivalent to CFG++ with 1: mean of 1 / (1 - kappa_s / kappa_t) over all steps but first and last."""
    steps = solvers.DDIM(n_steps=DIGITS_STEPS).path(iv.Problem(priors.load("digits")))[1:-1]  # alpha may start at 0
    gains = [1 / (1 - s.sigma_s * s.alpha_t / (s.alpha_s * s.sigma_t)) for s in steps]
    return sum(gains) / len(gains)


def digits_curves() -> tuple[list[list[str]], dict[str, dict[str, list[float]]]]:
    """Accuracy, Frechet distance and diversity against the mean weight; all curves start at the conditional model."""
    start = digits_scores(Constant(1.0), {})
    keys = ("accuracy", "frechet", "diversity")
    rows = [["conditional", "1", "1.00", *(f"{start[k]:.2f}" for k in keys)]]
    curves: dict[str, dict[str, list[float]]] = {}
    for mean in MEANS:
        for name, (weight, how) in schedules_at(mean).items():
            found = digits_scores(weight, how)
            shown = "-" if weight.feedback or how else f"{mean_weight(weight):.2f}"
            rows.append([name, f"{mean:g}", shown, *(f"{found[k]:.2f}" for k in keys)])
            for key in keys:
                curves.setdefault(name, {}).setdefault(key, [start[key]]).append(found[key])
    return rows, curves


def digits_scores(weight: Weight, how: dict[str, object]) -> dict[str, float]:
    """The judge's scores of digits of every class under one weight."""
    labels, null = torch.arange(CLASSES), torch.full((CLASSES,), 10)
    base = priors.load("digits")
    prior = classifier_free(base, weight, condition={"label": labels}, null={"label": null}, **how)
    out = iv.solve(iv.Problem(prior), solvers.DDIM(n_steps=DIGITS_STEPS), samples=PER_CLASS, rng=SharedNoise(1))
    return judge().scores(out.samples.flatten(0, 1), labels.repeat_interleave(PER_CLASS))


def discrepancy() -> dict[str, dict[str, list[float]]]:
    """Score discrepancy of the digits prior on marginal, conditional and visited states; draws two figures."""
    from benchmarks.guidance.digits import load_digits

    base, real = priors.load("digits"), load_digits("test")
    seven = base.given(label=7)
    times = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
    images = 2 * real.images - 1
    solver = solvers.DDIM(n_steps=20)
    visited = Trajectory(solver.path(iv.Problem(seven)))
    prior = classifier_free(base, 2.0, condition={"label": 7}, null={"label": 10})
    iv.solve(iv.Problem(prior), solver, samples=100, rng=SharedNoise(2), callbacks=[visited])
    states = {
        "marginal states": noised(images[::5], base.schedule, times, SharedNoise(0)),
        "conditional states": noised(images[real.labels == 7], base.schedule, times, SharedNoise(1)),
        "visited by a guided sampler": {t: x for t, x in visited.states.items() if t > 0.02},
    }
    RESULTS.mkdir(exist_ok=True)
    rows = {name: score_discrepancy(seven, base, each) for name, each in states.items()}
    train = load_digits("train")
    flat = (2 * train.images - 1).flatten(1)
    diameter = float(torch.cdist(flat[train.labels == 7], flat).max())
    bound = {t: discrepancy_bound(base.schedule, t, diameter) for t in times}
    discrepancy_figure(rows, RESULTS / "discrepancy.png", bound)
    chosen = [row for row in rows["conditional states"] if row.t in (0.1, 0.2, 0.3, 0.5, 0.7)]
    log_ratio_figure(chosen, RESULTS / "discrepancy-maps.png")
    numbers = ("t", "rms", "largest", "rms_eps", "cosine", "log_ratio")
    table = {name: {key: [getattr(r, key) for r in part] for key in numbers} for name, part in rows.items()}
    return {**table, "bound": {"t": list(bound), "largest": list(bound.values())}}


def main() -> None:
    """Write weights.md, weights.json, weights.png, discrepancy.png and discrepancy-maps.png."""
    toys, toy_data = toy_table()
    rows, curves = digits_curves()
    RESULTS.mkdir(exist_ok=True)
    panels = []
    for key, label in (("accuracy", "accuracy %"), ("frechet", "Frechet distance")):
        lines = {name: (c["diversity"], c[key]) for name, c in curves.items()}
        panels.append(Panel("digits, mean weights 1, " + ", ".join(f"{m:g}" for m in MEANS), "diversity", label, lines))
    line_figure(panels, RESULTS / "weights.png")
    scores = discrepancy()
    head = ["schedule", *(f"{a} {b}" for a in ("exact:", "imperfect:") for b in ("outliers", "MMD^2", "variance"))]
    text = "\n".join(
        [
            f"2-D toy, {STEPS} DDIM steps, {SEEDS} seeds of {SAMPLES} samples:\n",
            markdown(head, toys),
            f"Digits, schedules at equal mean weight, {DIGITS_STEPS} DDIM steps, {PER_CLASS} of each class:\n",
            markdown(["schedule", "target mean", "mean", "accuracy %", "Frechet", "diversity"], rows),
            "Published (DiT-XL/2, ImageNet 256, 25 steps), not reproduced here:\n",
            markdown(["guidance", "FID", "IS", "precision", "recall"], TABLE_4),
        ]
    )
    save("weights", text, {"toy": toy_data, "digits": curves, "discrepancy": scores})


if __name__ == "__main__":
    main()
