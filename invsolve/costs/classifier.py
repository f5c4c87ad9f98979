"""A classifier's -log p(y | x) as a terminal cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import CapabilityError, InputError, ShapeError, as_labels
from invsolve.core.cost import TerminalCost
from invsolve.core.identity import keyed_state
from invsolve.core.operator import EMPTY, Params
from invsolve.core.settings import Count, Positive, check_settings

__all__ = ["ClassifierCost", "check_finite"]


@dataclass(frozen=True, eq=False)
class ClassifierCost(TerminalCost):
    """Phi(x) = -log p(y | x) / temperature = -log softmax(classifier(x))_y / temperature.

    Args:
        classifier: a differentiable function from images [N, ...] in [0, 1] units to logits [N, n_classes]. If
            `conditional`, it is called as classifier(x, sigma) on noisy images x = x0 + sigma n, sigma [N] in the same
            units.
        target: the class y, counted from 0: one number, or one for each item [B].
        n_classes: number of classes.
        temperature: above 0; small values make the guidance strong.
        conditional: whether the classifier takes noisy images and their noise level. As a terminal cost it is then
            evaluated on clean images at sigma 0; solvers may also evaluate it on noisy states.
        key: identifies the classifier in checkpoints, see `FunctionCost`.

    Raises:
        InputError: a target is out of range, the temperature is not above 0, or the logits of all images are NaN
            (checked on the CPU).
        ShapeError: the logits have another shape.
    """

    classifier: Callable[..., Tensor]
    target: int | Tensor
    n_classes: Count
    temperature: Positive = 1.0
    conditional: bool = False
    key: str | None = None

    per_item = ("target",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)
        values = as_labels(self.target, "target")
        if int(values.min()) < 0 or int(values.max()) >= self.n_classes:
            raise InputError(f"targets go from 0 to {self.n_classes - 1}, got {self.target!r}")

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return self._cost(x, 0.0)

    def noisy(self, x: Tensor, sigma: float) -> Tensor:
        if not self.conditional:
            raise CapabilityError(
                "this classifier takes clean images only: guide at the clean estimate, or give one of noisy images"
            )
        return self._cost(x, sigma)

    def _cost(self, x: Tensor, sigma: float) -> Tensor:
        level = (x.new_full((len(x),), sigma),) if self.conditional else ()
        logits = self.classifier(x, *level)
        if tuple(logits.shape) != (len(x), self.n_classes):
            raise ShapeError(
                f"the classifier must return logits of shape [{len(x)}, {self.n_classes}], got {list(logits.shape)}"
            )
        check_finite(x, logits, "the classifier's logits")
        target = torch.as_tensor(self.target, dtype=torch.int64, device=x.device).expand(len(x))
        return F.cross_entropy(logits, target, reduction="none") / self.temperature

    def identity_state(self) -> dict[str, Any]:
        """The attributes that determine the energies."""
        return keyed_state(self, "classifier")


def check_finite(x: Tensor, value: Tensor, what: str) -> None:
    """Raise `InputError` if every finite image gives NaN; the driver records single rows that fail.

    This is checked only on the CPU. On other devices every step would wait for the result, and the driver's status
    reports the failure.
    """
    if x.device.type != "cpu":
        return
    good = torch.isfinite(x.detach().flatten(1).sum(1))
    bad = torch.isnan(value.detach().flatten(1)).any(1)
    if bool((good & bad).any()) and not bool((good & ~bad).any()):
        raise InputError(f"{what} are NaN for all of {int(good.sum())} finite images: check the function")
