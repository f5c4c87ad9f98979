"""Linear-Gaussian measurements, also in the singular coordinates of their operator."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError
from invsolve.core.operator import LinearOperator
from invsolve.core.svd import SVDOperator

__all__ = ["LinearData", "SpectralData", "spectral"]


class LinearData(NamedTuple):
    """A linear-Gaussian measurement y = A x + sigma n in the prior's units."""

    operator: LinearOperator
    y: Tensor
    sigma: Tensor | float


class SpectralData(NamedTuple):
    """`LinearData` in the singular coordinates of A = U diag(s) V^T; tensors are [1, n] or [N, n], as in `SVDOperator`.

    Attributes:
        operator: A.
        s: singular values.
        null: 1 where s = 0, else 0.
        y: U^T y, 0 where s = 0.
        solution: V^T A^+ y = U^T y / s, 0 where s = 0.
        variance: the noise variance of `solution`, sigma^2 / s^2, 0 where s = 0.
        precision: 1 / sigma, [1, 1] or [N, 1].
        largest_variance: the largest entry of `variance`.
        flat_variance: the common value of all entries of `variance` with s > 0; None if they differ.
    """

    operator: SVDOperator
    s: Tensor
    null: Tensor
    y: Tensor
    solution: Tensor
    variance: Tensor
    precision: Tensor
    largest_variance: float
    flat_variance: float | None


def spectral(data: LinearData) -> SpectralData:
    """The measurement in the singular coordinates of its operator.

    Raises:
        CapabilityError: the operator has no singular value decomposition.
    """
    operator, y, sigma = data
    if not isinstance(operator, SVDOperator):
        raise CapabilityError(f"{type(operator).__name__} has no singular value decomposition")
    coefficients = operator.Ut(y)
    s = torch.atleast_2d(operator.spectrum(y))
    sigma = torch.as_tensor(sigma, dtype=s.dtype, device=s.device).reshape(-1, 1)
    measured = s > 0
    inverse = torch.where(measured, 1.0 / torch.where(measured, s, 1.0), 0.0)
    coefficients = torch.where(measured, coefficients, 0.0)
    variance = (sigma * inverse) ** 2
    known = variance[measured.expand_as(variance)]
    flat = len(known) > 0 and bool((known == known[0]).all())
    return SpectralData(
        operator=operator,
        s=s,
        null=(~measured).to(s),
        y=coefficients,
        solution=inverse * coefficients,
        variance=variance,
        precision=1.0 / sigma,
        largest_variance=float((sigma.max() * inverse.max()) ** 2),
        flat_variance=float(known[0]) if flat else None,
    )
