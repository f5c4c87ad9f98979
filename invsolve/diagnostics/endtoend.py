"""A bound of the divergence between a guided sampler's output and the conditional distribution, and its parts.

Girsanov's theorem for the reverse SDE with the classifier-guided score, which is frozen over each step from t to s:

    KL(p_0(. | y) | output) <= KL(p_T(. | y) | start) + sum over steps 1/2 int_s^t g^2(r) E |D(r)|^2 dr
    D(r) = [s_hat - s](x_t) + [grad log q_y - grad log p_y](x_t) + [s_y(x_t, t) - s_y(x_r, r)]
           score error        guidance error                       step size

Here x_t and x_r are states of the forward process of p_0(. | y), s is the exact unconditional and s_y the exact
conditional score, and g^2 dt = d sigma^2 - 2 sigma^2 d log(alpha). The linear part of the SDE is assumed to be
integrated exactly. The bound is for path measures: fast oscillations of a classifier count in full although they
average out over many steps, so that samples can be good although the bound is large (Banerjee, Sahu, Wu 2026, arXiv
2601.21200, bound the guidance part).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.prior import Prior
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Schedule
from invsolve.diagnostics.laws import diffusion_rate
from invsolve.priors.labelled import LabelledMixture

__all__ = ["GuidanceBudget", "guidance_budget"]

_NODES = ((0.5 - math.sqrt(3) / 6, 0.5), (0.5 + math.sqrt(3) / 6, 0.5))
"""Gauss-Legendre nodes and weights on [0, 1]."""


@dataclass(frozen=True)
class GuidanceBudget:
    """The bound and its parts, all in nats.

    Attributes:
        start: KL(p_T(. | y) | N(0, (alpha_T^2 + sigma_T^2) I)).
        score, guidance, step: 1/2 int g^2 E |.|^2 of each part alone.
        together: the same for their sum D, at most three times the sum of the parts.
        error: standard error of `together`.
    """

    start: float
    score: float
    guidance: float
    step: float
    together: float
    error: float

    @property
    def total(self) -> float:
        """The bound: start + together."""
        return self.start + self.together


def guidance_budget(
    mixture: LabelledMixture,
    label: int,
    classifier: Callable[[Tensor, float], Tensor],
    times: Sequence[float],
    n: int,
    rng: NoiseSource,
    prior: Prior | None = None,
) -> GuidanceBudget:
    """Compute the bound for a sampler of p(x0 | label) on a mixture whose scores are known.

    Args:
        mixture: the distribution of the clean samples and their labels, on a schedule with a signal at the first time.
        label: y.
        classifier: (x_t [N, ...], t) -> logits or log probabilities [N, n_classes], differentiable.
        times: times of the steps, decreasing, the last one above 0 (the conditional distribution at that time is the
            target).
        n: number of draws.
        rng: noise source of the draws.
        prior: the prior whose score the sampler uses; if None, the mixture with its exact score.

    Raises:
        InputError: the times do not decrease, or the last one is not above 0.
    """
    if len(times) < 2 or any(s >= t for t, s in zip(times, times[1:], strict=False)) or times[-1] <= 0:
        raise InputError(f"times must fall and end above 0, got {list(times)[:3]} ... {list(times)[-1:]}")
    conditional, schedule = mixture.given(label=label), mixture.schedule
    x0 = conditional.sample(n, rng)
    sums = torch.zeros(4, n, dtype=torch.float64)
    for t, s in zip(times, times[1:], strict=False):
        for place, share in _NODES:
            r = s + (t - s) * place
            x_r, x_t = _pair(x0, schedule, r, t, rng)
            exact = conditional.score(x_t, t)
            score = torch.zeros_like(x_t) if prior is None else prior.score(x_t, t) - mixture.score(x_t, t)
            wrong = _slope(classifier, x_t, t, label) - (exact - mixture.score(x_t, t))
            step = exact - conditional.score(x_r, r)
            weight = 0.5 * share * (t - s) * _rate(schedule, r)
            for i, part in enumerate((score, wrong, step, score + wrong + step)):
                sums[i] += weight * part.flatten(1).square().sum(1).double()
    alpha, sigma = schedule(times[0])
    x = alpha * x0 + sigma * rng.normal(x0)
    variance = alpha**2 + sigma**2
    gauss = -0.5 * (x.flatten(1).square().sum(1) / variance + x[0].numel() * math.log(2 * math.pi * variance))
    start = float((conditional.log_prob(x, times[0]) - gauss).mean())
    means = sums.mean(1).tolist()
    return GuidanceBudget(max(start, 0.0), *means, error=float(sums[3].std() / math.sqrt(n)))


def _pair(x0: Tensor, schedule: Schedule, r: float, t: float, rng: NoiseSource) -> tuple[Tensor, Tensor]:
    """(x_r, x_t) of one path of the forward process, r < t."""
    (a_r, g_r), (a_t, g_t) = schedule(r), schedule(t)
    x_r = a_r * x0 + g_r * rng.normal(x0)
    ratio = a_t / a_r
    return x_r, ratio * x_r + math.sqrt(max(0.0, g_t**2 - (ratio * g_r) ** 2)) * rng.normal(x0)


def _rate(schedule: Schedule, t: float) -> float:
    """g^2 at t, by central differences within [0, 1]."""
    return diffusion_rate(schedule, t, min(1e-4, 0.5 * t, 0.5 * (1 - t) + 1e-12))


def _slope(classifier: Callable[[Tensor, float], Tensor], x: Tensor, t: float, label: int) -> Tensor:
    with torch.enable_grad():
        free = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(classifier(free, t).log_softmax(1)[:, label].sum(), free)
    return slope
