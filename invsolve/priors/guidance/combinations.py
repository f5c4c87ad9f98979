"""Classifier-free guidance, autoguidance and score mixing: a prior made from two predictions.

    omega D_1 + (1 - omega) D_2,    omega from invsolve.priors.guidance.weights

The result is a prior, so it works with every solver. The weights sum to one, so they can be applied to x0 and to eps
alike: both stay consistent with x_t.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.counting import Calls
from invsolve.core.linalg import per_sample
from invsolve.core.prior import Prediction, Prior, WrappedPrior
from invsolve.priors.guidance.clocks import Clock, FrequencyWeights, rescaled
from invsolve.priors.guidance.pairs import ConditionPair, Pair, PriorPair
from invsolve.priors.guidance.weights import Moment, Weight, as_weight

__all__ = ["Combination", "GuidedPrior", "autoguided", "classifier_free", "mixed"]


@dataclass(frozen=True)
class Combination:
    """How two predictions are combined.

    Args:
        weight: the weight omega.
        clock: function t -> u in [0, 1]; u = t if None.
        renoise: which eps the solver receives: that of the "guided" prediction (classifier-free guidance), or that of
            the "second", the unconditional one: CFG++ (Chung et al. 2024, arXiv 2406.08070), with a weight in [0, 1]. A
            CFG++ step with weight l is a DDIM step with omega = l / (1 - kappa_s / kappa_t), kappa = sigma / alpha: its
            strength grows without limit as steps are refined.
        frequencies: frequency-decoupled weights that replace `weight`.
        rescale: phi in [0, 1], the fraction of the guided eps that is rescaled to the standard deviation of the
            conditional eps (Lin et al. 2024, arXiv 2305.08891).
    """

    weight: Weight
    clock: Clock | None = None
    renoise: Literal["guided", "second"] = "guided"
    frequencies: FrequencyWeights | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if self.renoise not in ("guided", "second"):
            raise InputError(f"renoise must be 'guided' or 'second', got {self.renoise!r}")
        if not 0.0 <= self.rescale <= 1.0:
            raise InputError(f"rescale must be a share in [0, 1], got {self.rescale}")

    def predict(self, pair: Pair, x_t: Tensor, t: float) -> Prediction:
        """The guided prediction; a member whose weight is 0 is not evaluated."""
        alpha, sigma = pair.leading.schedule(t)
        now = Moment(t if self.clock is None else self.clock(t), sigma / alpha if alpha > 0 else math.inf)
        weight = self.weight.at(now)
        known = None if weight.feedback or self.frequencies is not None else weight(now)
        if isinstance(known, float | int) and known == 0.0:
            return pair.second(x_t, t)
        if isinstance(known, float | int) and known == 1.0 and self.renoise == "guided":
            return pair.first(x_t, t)
        one, two = pair.both(x_t, t)
        if self.frequencies is not None:
            x0, eps = self.frequencies(one.x0, two.x0), self.frequencies(one.eps, two.eps)
        else:
            omega = per_sample(weight(now, (one, two)) if known is None else known, x_t)
            x0, eps = two.x0 + omega * (one.x0 - two.x0), two.eps + omega * (one.eps - two.eps)
        if self.rescale > 0:
            eps = rescaled(eps, one.eps, self.rescale)
            x0 = (x_t - sigma * eps) / alpha if alpha > 0 else x0
        return Prediction(x0, two.eps if self.renoise == "second" else eps, one.variance)


class GuidedPrior(WrappedPrior):
    """omega D_1 + (1 - omega) D_2 as a prior; built by `classifier_free`, `autoguided` or `mixed`.

    Args:
        pair: the two predictions.
        how: how they are combined.
    """

    def __init__(self, pair: Pair, how: Combination) -> None:
        super().__init__(pair.leading)
        self.pair, self.how = pair, how

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        return self.how.predict(self.pair, x_t, t)

    def given(self, **condition: Any) -> GuidedPrior:
        return GuidedPrior(self.pair.given(**condition), self.how)

    def select(self, rows: Tensor) -> GuidedPrior:
        return GuidedPrior(self.pair.select(rows), self.how)

    def counted(self, calls: Calls) -> GuidedPrior:
        return GuidedPrior(self.pair.counted(calls), self.how)

    @property
    def items(self) -> int | None:
        return self.pair.items

    @property
    def unbound(self) -> str | None:
        return None

    def __repr__(self) -> str:
        return f"GuidedPrior({self.prior!r}, {self.how})"


def classifier_free(
    prior: Prior, weight: Weight | float, *, condition: Mapping[str, Any], null: Mapping[str, Any], **how: Any
) -> GuidedPrior:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): one network call on 2 N rows per step.

    Args:
        prior: a prior that accepts the condition, for example `priors.load("digits")`.
        weight: omega, a number or a `Weight`; if it is 1 or 0, only one prediction is made.
        condition: for example {"label": 7} or {"label": labels [B]}.
        null: the values that mean "no condition" to the network, for example {"label": 10}.
        how: further arguments of `Combination`.

    Raises:
        CapabilityError: the prior does not accept such a condition.
        InputError: different names in `condition` and `null`, or labels out of range.
    """
    return GuidedPrior(ConditionPair(prior, dict(condition), dict(null)), Combination(as_weight(weight), **how))


def autoguided(prior: Prior, weaker: Prior, weight: Weight | float, **how: Any) -> GuidedPrior:
    """A prior guided by a weaker version of itself (Karras et al. 2024, arXiv 2406.02507): two calls per step."""
    return GuidedPrior(PriorPair(prior, weaker), Combination(as_weight(weight), **how))


def mixed(first: Prior, second: Prior, lam: float, **how: Any) -> GuidedPrior:
    """The mixed score lam s_1 + (1 - lam) s_2 of any two priors, lam >= 0 (Liu and Zuazua 2026, arXiv 2605.12231).

    lam = 0 is the second prior and lam = 1 the first; between them is a mixture of experts, above 1 is guidance.
    """
    return GuidedPrior(PriorPair(first, second), Combination(as_weight(lam), **how))
