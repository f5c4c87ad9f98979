"""(b) Class-conditional digits: fixed, clipped and adaptive guidance by a classifier, in the role of CIFAR-10.

Frechet distance and diversity are taken in the first 32 principal components of the real digits' pixels; diversity is
the mean distance of two samples of a class as a share of the same for real digits. Accuracy is that of a support vector
machine (radial basis kernel, scikit-learn's defaults) on the same features of 4500 real digits: it shares neither
architecture nor gradients with the guide.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import invsolve as iv
from benchmarks.common import SharedNoise, markdown
from benchmarks.guidance.common import RESULTS, save, spread
from benchmarks.guidance.digits import load_digits
from invsolve import costs, priors, solvers
from invsolve.diagnostics.control import ControlEnergy
from invsolve.priors.digits import digits_classifier
from invsolve.solvers.scales import AdaptiveScale, ClippedScale, FixedScale, ScaleRule

CLASSES, PER_CLASS, STEPS = 10, 50, 50
PUBLISHED = {
    "unguided": ("10.2", "3.21", "0.68"),
    "fixed 10": ("91.5", "4.89", "0.59"),
    "fixed 30": ("98.3", "18.42", "0.27"),
    "clip 30": ("94.1", "9.87", "0.41"),
    "adaptive 30 sin2": ("96.8", "5.34", "0.55"),
}


class Judge(NamedTuple):
    """What judges samples: a classifier and a feature space with statistics of the real digits."""

    machine: Any
    basis: Tensor
    centre: Tensor
    mean: Tensor
    cov: Tensor
    distance: float

    def features(self, pictures: Tensor) -> Tensor:
        """[M, 32]."""
        return (pictures.double().flatten(1) - self.centre) @ self.basis

    def scores(self, pictures: Tensor, labels: Tensor) -> dict[str, float]:
        """Accuracy, Frechet distance and diversity of pictures [M, 1, 16, 16]."""
        pictures = pictures.clamp(0, 1)
        f = self.features(pictures)
        guess = self.machine.predict(f.numpy())
        distance = float(np.mean([float(torch.pdist(f[labels == y]).mean()) for y in labels.unique()]))
        return {
            "accuracy": float((guess == labels.numpy()).mean()) * 100,
            "frechet": _frechet(self.mean, self.cov, f.mean(0), torch.cov(f.T)),
            "diversity": distance / self.distance,
        }


def _frechet(m1: Tensor, c1: Tensor, m2: Tensor, c2: Tensor) -> float:
    values, vectors = torch.linalg.eigh(c1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ c2 @ root).clamp_min(0).sqrt().sum()
    return float((m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * cross)


@cache
def judge() -> Judge:
    """Fit the judge on real digits."""
    from sklearn.svm import SVC

    train, held = load_digits("train"), load_digits("judge")
    pictures, labels = torch.cat([train.pictures, held.pictures]), torch.cat([train.labels, held.labels])
    x = pictures.double().flatten(1)
    basis = torch.linalg.eigh(torch.cov(x.T)).eigenvectors[:, -32:]
    f = (x - x.mean(0)) @ basis
    machine = SVC().fit(f.numpy(), labels.numpy())
    distance = float(np.mean([float(torch.pdist(f[labels == y][:200]).mean()) for y in range(CLASSES)]))
    return Judge(machine, basis, x.mean(0), f.mean(0), torch.cov(f.T), distance)


def drawn(prior: iv.Prior, solver: iv.Solver, cost: Any, seed: int, callbacks: Any = ()) -> tuple[Tensor, Tensor]:
    """PER_CLASS samples of every class, and their labels."""
    n = CLASSES * PER_CLASS
    with torch.no_grad():
        out = iv.solve(
            iv.Problem(prior, cost), solver, samples=n if cost is None and prior.items is None else PER_CLASS,
            rng=SharedNoise(seed), callbacks=callbacks,
        )  # fmt: skip
    return out.samples.flatten(0, 1)[:n], torch.arange(CLASSES).repeat_interleave(PER_CLASS)


def run(rule: ScaleRule, seed: int) -> dict[str, float]:
    """Scores of classifier guidance with one rule."""
    prior = priors.load("digits")
    cost = costs.ClassifierCost(digits_classifier().of_pictures, torch.arange(CLASSES), CLASSES, conditional=True)
    solver = solvers.Guidance(rule, at="noisy", n_steps=STEPS)
    energy = ControlEnergy(solver.path(iv.Problem(prior, cost)))
    pictures, labels = drawn(prior, solver, cost, seed, [energy])
    return {**judge().scores(pictures, labels), "energy": float(energy.paper.mean())}


def overhead() -> tuple[float, float]:
    """Milliseconds of the adaptive rule alone, and of a step of classifier guidance (best of 20), 64 digits."""
    prior, x = priors.load("digits"), torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    cost = costs.ClassifierCost(digits_classifier().of_pictures, 7, CLASSES, conditional=True)
    problem, rng = iv.Problem(prior, cost), SharedNoise(0)
    solver = solvers.Guidance(AdaptiveScale(30.0), at="noisy", n_steps=STEPS)
    state, norm, memory = solver.init(problem, 64, rng), x.flatten(1).norm(dim=1), AdaptiveScale().start(64, x)
    from invsolve.solvers.scales import At

    def best(function: Any) -> float:
        times = []
        for _ in range(20):
            began = time.perf_counter()
            function()
            times.append(time.perf_counter() - began)
        return 1000 * min(times)

    fixed = FixedScale(30.0)
    at = At(0.5, 3, STEPS)
    rule = best(lambda: AdaptiveScale(30.0)(norm, at, memory)) - best(lambda: fixed(norm, at, {}))
    return rule, best(lambda: solver.step(problem, state, rng))


def main() -> None:
    """Write images.md, images.json and images.png."""
    rows: dict[str, tuple[ScaleRule, int]] = {"unguided": (FixedScale(0.0), 3)}
    rows |= {f"fixed {v}": (FixedScale(float(v)), 3) for v in (1, 10, 30)}
    rows |= {"clip 30": (ClippedScale(30.0), 3), "adaptive 30 sin2": (AdaptiveScale(30.0), 3)}
    rows |= {"adaptive 30 constant": (AdaptiveScale(30.0, "constant"), 3), "adaptive 10 sin2": (AdaptiveScale(10.0), 1)}
    rows |= {f"adaptive 30, a {a:g}": (AdaptiveScale(30.0, ema_decay=a), 1) for a in (0.0, 0.5, 0.99)}
    rows |= {f"adaptive 30, eps {e:g}": (AdaptiveScale(30.0, eps=e), 1) for e in (1e-2, 1e-1)}
    rows |= {f"adaptive 30 {s}": (AdaptiveScale(30.0, s), 1) for s in ("gauss", "sin")}
    results: dict[str, list[dict[str, float]]] = {}
    for name, (rule, seeds) in rows.items():
        results[name] = [run(rule, 10 + seed) for seed in range(seeds)]
    test = load_digits("test")
    real = judge().scores(test.pictures, test.labels)
    keys = ("accuracy", "frechet", "diversity")
    table = [["real digits, held out", *(f"{real[k]:.2f}" for k in keys), "", "", "", ""]]
    for name, values in results.items():
        cells = [spread([v[k] for v in values], 2) for k in keys]
        table.append([name, *cells, f"{values[0]['energy']:.3g}", *PUBLISHED.get(name, ("", "", ""))])
    rule, step = overhead()
    text = "\n".join(
        [
            f"{PER_CLASS} digits of each class, {STEPS} steps, eta 1, mean ± standard deviation over 3 seeds "
            "(ablations: 1). Published columns are of CIFAR-10, in other units: accuracy %, FID, LPIPS.\n",
            markdown(["method", "accuracy %", "Frechet", "diversity", "E", "pub. accuracy", "FID", "LPIPS"], table),
            f"The adaptive rule adds {rule:.3f} ms to a step of {step:.1f} ms (64 digits): {rule / step:.2%}.\n",
        ]
    )
    save("images", text, {"results": results, "real": real, "rule_ms": rule, "step_ms": step})
    sheets()


def sheets() -> None:
    """One row of digits a rule."""
    from PIL import Image

    rules = (FixedScale(0.0), FixedScale(10.0), FixedScale(30.0), AdaptiveScale(30.0), AdaptiveScale(30.0, "constant"))
    strips = []
    for rule in rules:
        prior = priors.load("digits")
        cost = costs.ClassifierCost(digits_classifier().of_pictures, torch.arange(CLASSES), CLASSES, conditional=True)
        pictures, _ = drawn(prior, solvers.Guidance(rule, at="noisy", n_steps=STEPS), cost, 0)
        rows = pictures.view(CLASSES, PER_CLASS, 16, 16)[:, :2].permute(1, 2, 0, 3).reshape(32, 160)
        strips.append(torch.cat([rows, torch.full((3, 160), 0.4)]))
    sheet = (torch.cat(strips).clamp(0, 1) * 255).round().byte().numpy()
    image = Image.fromarray(sheet)
    RESULTS.mkdir(exist_ok=True)
    image.resize((image.width * 3, image.height * 3), Image.Resampling.NEAREST).save(RESULTS / "images.png")


if __name__ == "__main__":
    main()
