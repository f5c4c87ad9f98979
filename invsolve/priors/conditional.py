"""A prior from a class-conditional network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from invsolve.core.checks import InputError, as_labels
from invsolve.priors.network import NetworkPrior

__all__ = ["ConditionalPrior"]


class ConditionalPrior(NetworkPrior):
    """A prior from a network called as module(input, c, label=...) with classes 0 to n_classes - 1.

    Args:
        module: the network.
        n_classes: number of classes.
        null: the label that means no class, if the network was trained with label dropout; None if there is no such
            label, so that a class must be given.
        settings: further arguments of `NetworkPrior`.
    """

    def __init__(self, module: nn.Module, n_classes: int, null: int | None = None, **settings: Any) -> None:
        super().__init__(module, **settings)
        self.n_classes, self.null = n_classes, null
        self._null_label = None if null is None else torch.tensor(null, device=self.device)

    def given(self, **condition: Any) -> Self:
        """The prior of one class (a number), or of one class per image [B]; the label `null` means no class.

        Raises:
            CapabilityError: the network does not take such a condition.
            InputError: unknown class.
        """
        if "label" in condition:
            condition["label"] = self._checked(condition["label"])
        return super().given(**condition)

    @property
    def unbound(self) -> str | None:
        if "label" in self._given or self.null is not None:
            return super().unbound
        return f"needs a class: give --label, 0 to {self.n_classes - 1} (label=... in Python)"

    @property
    def _conditions(self) -> Mapping[str, Any]:
        if "label" in self._given:
            return self._given
        if self._null_label is None:
            raise InputError(f"this prior needs a class: use prior.given(label=0 ... {self.n_classes - 1})")
        return {**self._given, "label": self._null_label}

    def _checked(self, label: Any) -> Tensor:
        values = as_labels(label, "a label").to(self.device)
        known = (values >= 0) & (values < self.n_classes)
        if self.null is not None:
            known = known | (values == self.null)
        if not bool(known.all()):
            none = "" if self.null is None else f", and {self.null} means no class"
            raise InputError(f"labels go from 0 to {self.n_classes - 1}{none}, got {label!r}")
        return values

    def __repr__(self) -> str:
        label = self._given.get("label")
        text = "" if label is None else f", label={label.tolist()}"
        return f"{super().__repr__()[:-1]}, {self.n_classes} classes{text})"
