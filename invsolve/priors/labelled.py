"""A mixture with exact class-conditional scores."""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError, as_labels
from invsolve.core.schedule import Schedule
from invsolve.priors.exact import MixturePrior

__all__ = ["LabelledMixture"]


def _checked(condition: dict[str, Any], n_classes: int) -> Tensor | int:
    """Check a label: a number, or integers [B], from 0 to n_classes - 1; n_classes means no label."""
    if set(condition) != {"label"}:
        raise CapabilityError(f"this prior is given label=..., not {', '.join(condition) or 'nothing'}")
    label = condition["label"]
    values = as_labels(label, "a label")
    if int(values.min()) < 0 or int(values.max()) > n_classes:
        raise InputError(f"labels go from 0 to {n_classes - 1}, and {n_classes} means no label, got {label!r}")
    return values if values.ndim else int(values)


class LabelledMixture(MixturePrior):
    """A mixture whose components belong to classes: p(x0 | y) is the mixture of all components of class y.

    If a label is given, scores, densities and samples are those of p(x0 | y). The label n_classes means no label.

    Args:
        means, covs, weights, schedule, value_range: see `MixturePrior`.
        classes: class of each component [K], whole numbers from 0 without gaps.

    Raises:
        InputError: shapes that do not match; gaps in `classes`.
    """

    def __init__(
        self,
        means: Tensor,
        covs: Tensor,
        classes: Tensor,
        weights: Tensor | None = None,
        schedule: Schedule | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(means, covs, weights, schedule, value_range)
        found = torch.as_tensor(classes).unique().tolist()
        if tuple(classes.shape) != (len(means),) or found != list(range(len(found))):
            raise InputError(f"classes must be {len(means)} whole numbers from 0 without gaps, got {classes}")
        self.classes, self.n_classes = classes.to(self.device, torch.int64), len(found)
        self._label: Tensor | None = None

    @property
    def class_weights(self) -> Tensor:
        """Class probabilities p(y), [n_classes]."""
        return self.weights.new_zeros(self.n_classes).index_add(0, self.classes, self.weights)

    def given(self, **condition: Any) -> MixturePrior:
        label = _checked(condition, self.n_classes)
        if isinstance(label, int) and label < self.n_classes:
            own = self.classes == label
            basis = None if self._basis is None else self._basis[own]
            covs = self._spectrum[own] if basis is None else self.covs[own]
            means = self.means[own].unflatten(1, self._shape)
            return MixturePrior(means, covs, self.weights[own], self.schedule, self.value_range)
        bound = copy.copy(self)
        bound._label = label.to(self.device) if isinstance(label, Tensor) else None
        return bound

    def class_log_prob(self, x_t: Tensor, t: float) -> Tensor:
        """log p_t(y | x_t) of every class, [N, n_classes]: the exact label posterior of a noisy state."""
        log = MixturePrior._components(self, x_t, *self.schedule(t))[2]
        joint = torch.stack([log[self.classes == y].logsumexp(0) for y in range(self.n_classes)], 1)
        return joint - log.logsumexp(0)[:, None]

    def _components(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
        z, variance, log = super()._components(x, alpha, sigma)
        if self._label is None:
            return z, variance, log
        free = self._label == self.n_classes
        own = (self.classes[:, None] == self._label) | free
        share = torch.cat([self.class_weights.to(log), log.new_ones(1)])[self._label]
        return z, variance, torch.where(own, log - share.log(), -torch.inf)

    def sample(self, n: int, rng: Any) -> Tensor:
        if self._label is not None:
            raise CapabilityError("draw with one label at a time: given(label=number).sample(n, rng)")
        return super().sample(n, rng)

    def posterior(self, likelihood: Any) -> Any:
        if self._label is not None:
            raise CapabilityError("posteriors are for one label at a time: given(label=number).posterior(...)")
        return super().posterior(likelihood)

    @property
    def items(self) -> int | None:
        return None if self._label is None else len(self._label)

    def select(self, rows: Tensor) -> Self:
        if self._label is None:
            return self
        bound = copy.copy(self)
        bound._label = self._label[rows.to(self._label.device)]
        return bound
