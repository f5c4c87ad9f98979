"""The tensors of an operator."""

from __future__ import annotations

import copy
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from invsolve.core.checks import usable
from invsolve.core.linalg import real_dtype

__all__ = ["Constants", "select_rows"]


class Constants:
    """The tensors of an operator, converted to the precision and device of its input."""

    def __init__(self, **tensors: Tensor) -> None:
        self._tensors = tensors
        self._cache: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_tensors": self._tensors, "_cache": {}}

    def __getitem__(self, name: str) -> Tensor:
        """The original tensor `name`."""
        return self._tensors[name]

    def replaced(self, **changes: Tensor) -> Constants:
        """A copy with some of the tensors replaced."""
        return Constants(**{**self._tensors, **changes})

    def get(self, name: str, like: Tensor) -> Tensor:
        """The tensor `name` in the real dtype of `like`, or in its complex dtype if the tensor is complex."""
        tensor = self._tensors[name]
        dtype = like.dtype.to_complex() if tensor.is_complex() else real_dtype(like)
        key = (name, dtype, like.device)
        if key not in self._cache or self._cache[key].is_inference():
            self._cache[key] = usable(tensor).to(device=like.device, dtype=dtype)
        return self._cache[key]


class _HasConstants(Protocol):
    constants: Constants


T = TypeVar("T", bound=_HasConstants)


def select_rows(operator: T, **changes: Tensor) -> T:
    """A copy of `operator` with some of its constants replaced; a helper for `select` in subclasses."""
    clone = copy.copy(operator)
    clone.constants = operator.constants.replaced(**changes)
    return clone
