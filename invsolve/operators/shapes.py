"""Shape checks of operators, and short digests of their constants."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.core.checks import ShapeError
from invsolve.core.operator import Shape

__all__ = ["digest", "image_shape", "positive_shape"]


def positive_shape(in_shape: Sequence[int]) -> Shape:
    """`in_shape` as a tuple of positive integers.

    Raises:
        ShapeError: it is empty or has an entry below 1.
    """
    shape = tuple(int(n) for n in in_shape)
    if not shape or min(shape) < 1:
        raise ShapeError(f"in_shape must list the sizes of one sample, each at least 1, got {list(in_shape)}")
    return shape


def image_shape(in_shape: Sequence[int]) -> Shape:
    """`in_shape` as (channels, height, width).

    Raises:
        ShapeError: it has another number of dimensions, or an entry below 1.
    """
    shape = positive_shape(in_shape)
    if len(shape) != 3:
        raise ShapeError(
            f"in_shape must be (channels, height, width) of one sample, without the batch, got {list(in_shape)}"
        )
    return shape


def digest(tensor: Tensor) -> str:
    """Eight hexadecimal digits that change with the tensor's values or shape."""
    values = tensor.detach().to("cpu", torch.float64).contiguous()
    text = repr(tuple(values.shape)).encode() + values.numpy().tobytes()
    return hashlib.blake2b(text, digest_size=4).hexdigest()
