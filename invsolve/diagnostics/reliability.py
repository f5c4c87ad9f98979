"""Whether a classifier's gradient can be used for guidance: its cross-entropy and the error of the guidance itself.

    eps^2 = E sum_y p_t(y | x) log(p_t(y | x) / q_t(y | x))                       conditional KL = CE(q) - CE(p)
    G     = E sum_y p_t(y | x) |grad log q_t(y | x) - grad log p_t(y | x)|^2      guidance error

A smooth classifier with a small KL has G = O(d eps). Without smoothness, KL may vanish while G grows without limit
(Banerjee, Sahu, Wu 2026, arXiv 2601.21200). G does not measure sample quality: a fast oscillation averages out over
many noisy steps. Report both, and a sample-level error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.rng import NoiseSource
from invsolve.diagnostics.lines import Panel, line_figure
from invsolve.priors.labelled import LabelledMixture

__all__ = ["Oscillation", "Reliability", "classifier_report", "oscillating", "oscillation", "reliability_figure"]

LogProb = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Reliability:
    """A classifier compared with the exact label posterior at one time.

    Attributes:
        t: time.
        cross_entropy, bayes: cross-entropy of the classifier and of the exact posterior, in nats.
        kl: E KL(p | q), estimated with the exact p (not as their difference).
        guidance_mse: G, averaged over labels.
        by_class: E |grad log q_y - grad log p_y|^2 of each class y.
        true_guidance: E sum_y p_y |grad log p_y|^2, with which G should be compared.
        dlsm_excess: E |grad log q_y + s + n / sigma|^2 minus the same with the exact posterior, where s is the exact
            score. This is an estimate of G that needs the posterior only for the subtracted term.
        lipschitz: 0.95 quantile of |grad log-probabilities|_F.
    """

    t: float
    cross_entropy: float
    bayes: float
    kl: float
    guidance_mse: float
    by_class: tuple[float, ...]
    true_guidance: float
    dlsm_excess: float
    lipschitz: float


def classifier_report(
    classifier: LogProb, mixture: LabelledMixture, times: Sequence[float], n: int, rng: NoiseSource
) -> list[Reliability]:
    """Evaluate a classifier on fresh draws from a mixture whose label posterior is known.

    Args:
        classifier: (x_t [N, ...], t) -> logits or log probabilities [N, n_classes], differentiable.
        mixture: the distribution of the clean samples and their labels.
        times: in (0, 1].
        n: number of draws at each time, which are never the training data.
        rng: noise source of the draws.
    """
    rows = []
    for t in times:
        alpha, sigma = mixture.schedule(t)
        if sigma <= 0:
            raise InputError("a classifier of noisy states is judged at times above 0")
        x0, label = _labelled_draws(mixture, n, rng)
        noise = rng.normal(x0)
        x = (alpha * x0 + sigma * noise).requires_grad_()
        q, p = classifier(x, t).log_softmax(1), mixture.class_log_prob(x, t)
        if tuple(q.shape) != tuple(p.shape) or bool(torch.isnan(q).any()):
            raise InputError(f"the classifier must return finite logits {list(p.shape)}, got {list(q.shape)}")
        slopes = [torch.stack([_slope(v[:, y], x) for y in range(mixture.n_classes)], 1) for v in (q, p)]
        with torch.no_grad():
            share = p.exp()
            error = (slopes[0] - slopes[1]).square().sum(2)
            chosen = [s[torch.arange(n), label] for s in slopes]
            target = (mixture.score(x.detach(), t) + noise / sigma).flatten(1)
            dlsm = (chosen[0] + target).square().sum(1) - (chosen[1] + target).square().sum(1)
            rows.append(
                Reliability(
                    t,
                    float(-q[torch.arange(n), label].mean()),
                    float(-p[torch.arange(n), label].mean()),
                    float((share * (p - q)).sum(1).mean()),
                    float((share * error).sum(1).mean()),
                    tuple(error.mean(0).tolist()),
                    float((share * slopes[1].square().sum(2)).sum(1).mean()),
                    float(dlsm.mean()),
                    float(slopes[0].square().sum((1, 2)).sqrt().quantile(0.95)),
                )
            )
    return rows


def _slope(value: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), x, retain_graph=True)[0].flatten(1)


def _labelled_draws(mixture: LabelledMixture, n: int, rng: NoiseSource) -> tuple[Tensor, Tensor]:
    """Clean draws with labels, which are drawn from the exact label posterior of each clean sample."""
    x0 = mixture.sample(n, rng)
    share = mixture.class_log_prob(x0, 0.0).exp()
    u = rng.uniform(x0.new_empty(n, 1))
    return x0, (u > share.cumsum(1)).sum(1).clamp_max(mixture.n_classes - 1)


def oscillating(mixture: LabelledMixture, size: float, frequency: float, direction: Tensor) -> LogProb:
    """The exact posterior of two classes with size sin(frequency u . x) added to the log-odds of class 1."""
    if mixture.n_classes != 2:
        raise InputError(f"the counterexample has two classes, got {mixture.n_classes}")

    def classifier(x: Tensor, t: float) -> Tensor:
        wave = size * torch.sin(frequency * x.flatten(1) @ direction.to(x).flatten())
        return mixture.class_log_prob(x, t) + torch.stack([torch.zeros_like(wave), wave], 1)

    return classifier


@dataclass(frozen=True)
class Oscillation:
    """The counterexample in one dimension, by quadrature.

    Attributes:
        kl: eps^2.
        error, error_one: G, and E |grad log q_1 - grad log p_1|^2.
        identity: -sum_y p(y) E[f (f'' + f' s)], f = log q - log p: equal to G by integration by parts.
        certificate: (E f^2 E (f'' + f' s)^2)^(1/2), at least G.
        true: mean square of the true guidance, averaged over labels.
        agreement: share of decisions that equal the Bayes decision.
    """

    kl: float
    error: float
    error_one: float
    identity: float
    certificate: float
    true: float
    agreement: float


def oscillation(
    size: float, frequency: float, *, mean: float = 1.0, var: float = 1.0, n: int = 2_000_000
) -> Oscillation:
    """x | y ~ N(+-mean, var), equally likely; q has log-odds l(x) + size sin(frequency x), l = 2 mean x / var.

    As size -> 0 and frequency -> inf: eps^2 -> size^2 E[p(1 - p)] / 4 and G -> 2 frequency^2 eps^2.

    Raises:
        InputError: the quadrature's step is above 0.1 / frequency.
    """
    half = mean + 7 * math.sqrt(var)
    dx = 2 * half / (n - 1)
    if dx * frequency > 0.1:
        raise InputError(f"{n} nodes are too few for frequency {frequency}: take {math.ceil(20 * half * frequency)}")
    x = torch.linspace(-half, half, n, dtype=torch.float64)
    slope = 2 * mean / var
    odds, phase = slope * x, frequency * x
    wave, d1, d2 = size * phase.sin(), size * frequency * phase.cos(), -size * frequency**2 * phase.sin()
    logsig = torch.nn.functional.logsigmoid
    p, q = torch.sigmoid(odds), torch.sigmoid(odds + wave)
    log_norm = -0.5 * math.log(2 * math.pi * var)
    one = (-(x - mean).square() / (2 * var) + log_norm).exp() * dx / 2
    zero = (-(x + mean).square() / (2 * var) + log_norm).exp() * dx / 2
    f1, f0 = logsig(odds + wave) - logsig(odds), logsig(-odds - wave) - logsig(-odds)
    g1, g0 = (1 - q) * (slope + d1) - (1 - p) * slope, -q * (slope + d1) + p * slope
    common = -q * (1 - q) * (slope + d1).square() + p * (1 - p) * slope**2
    lf1 = common + (1 - q) * d2 - g1 * (x - mean) / var
    lf0 = common - q * d2 - g0 * (x + mean) / var

    def mean_of(a: Tensor, b: Tensor) -> float:
        return float((one * a + zero * b).sum())

    return Oscillation(
        kl=-mean_of(f1, f0),
        error=mean_of(g1.square(), g0.square()),
        error_one=float(((one + zero) * g1.square()).sum()),
        identity=-mean_of(f1 * lf1, f0 * lf0),
        certificate=math.sqrt(mean_of(f1.square(), f0.square()) * mean_of(lf1.square(), lf0.square())),
        true=slope**2 * mean_of((1 - p).square(), p.square()),
        agreement=mean_of(((p > 0.5) == (q > 0.5)).double(), ((p > 0.5) == (q > 0.5)).double()),
    )


def reliability_figure(reports: Mapping[str, Sequence[Reliability]], path: str | Path) -> None:
    """Draw KL and guidance error over time, with one line for each classifier."""

    def lines(name: str) -> dict[str, tuple[list[float], list[float]]]:
        return {label: ([r.t for r in rows], [getattr(r, name) for r in rows]) for label, rows in reports.items()}

    panels = [
        Panel("what training sees", "t", "conditional KL (nats)", lines("kl"), "y"),
        Panel("what guidance feels", "t", "guidance error G", lines("guidance_mse"), "y"),
    ]
    line_figure(panels, path)
