"""Linear algebra on batches: products and norms of rows, a Laplacian, and conjugate gradients for each row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Solution", "column", "conjugate_gradient", "laplacian", "per_sample", "real_dtype", "row_dot", "row_norm"]


LOST = 100.0
"""A row stops as diverged once its residual exceeds its smallest one by this factor."""


class Solution(NamedTuple):
    """`x` [N, ...], the relative residual |b - A x| / |b| of each row [N] and the iterations made."""

    x: Tensor
    residual: Tensor
    iterations: int


def row_dot(a: Tensor, b: Tensor) -> Tensor:
    """Re <a, b> of each row, [N]."""
    product = a.conj() * b if a.is_complex() else a * b
    total = product.flatten(1).sum(1)
    return total.real if total.is_complex() else total


def row_norm(a: Tensor) -> Tensor:
    """Euclidean norm of each row, [N]."""
    return torch.linalg.vector_norm(a.flatten(1), dim=1)


def real_dtype(like: Tensor) -> torch.dtype:
    """The precision of a tensor's real (and imaginary) parts."""
    return like.dtype.to_real() if like.is_complex() else like.dtype


def per_sample(value: float | Tensor, like: Tensor) -> Tensor | float:
    """A number or a vector [N] in a shape and precision that broadcast against `like` ([N, ...])."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return column(value.to(device=like.device, dtype=real_dtype(like)), like)


def column(values: Tensor, like: Tensor) -> Tensor:
    """A vector [N] in a shape that broadcasts against `like` ([N, ...])."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def conjugate_gradient(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    x: Tensor | None = None,
    precondition: Callable[[Tensor], Tensor] | None = None,
    tol: float | None = None,
    error: float | Tensor | None = None,
    max_iter: int = 500,
    check_every: int = 8,
) -> Solution:
    """Solve A x = b, row by row, for a symmetric positive (semi-)definite A.

    Started at zero, it returns the minimum-norm solution of a consistent singular system. Converged rows no longer
    change while others continue. Residuals are checked on the host every `check_every` iterations, and each row returns
    the iterate with the smallest residual among those checked, since iterates of singular systems can diverge once the
    accuracy of `matvec` is reached.

    Args:
        matvec: x [N, ...] -> A x [N, ...].
        b: right-hand sides [N, ...].
        x: starting point, zero if not given.
        precondition: r [N, ...] -> P r, a symmetric positive definite approximation of A^-1; the identity if not given.
            Residuals are then measured as |P (b - A x)| / |P b|, an estimate of the relative error of x.
        tol: relative residual to reach; 1e-12 in float64 and 1e-6 in float32 if not given.
        error: instead of `tol`, a bound on <r, P r>^(1/2), which with a good P is the error of x in the norm of A,
            <e, A e>^(1/2); a number or one for each row [N].
        max_iter: maximum number of iterations.
        check_every: iterations between two checks.
    """
    if tol is None:
        tol = 1e-12 if b.dtype in (torch.float64, torch.complex128) else 1e-6
    r = b.clone() if x is None else b - matvec(x)
    x = torch.zeros_like(b) if x is None else x
    p, slope, size = _direction(r, precondition)
    scale = _direction(b, precondition)[2].clamp_min(torch.finfo(size.dtype).tiny)
    bound = tol**2 * scale if error is None else torch.as_tensor(error, dtype=size.dtype, device=size.device) ** 2
    done, k = (size if error is None else slope) <= bound, 0
    best, least = x, torch.where(done, size, torch.inf)
    while k < max_iter and not bool(done.all()):
        for _ in range(min(check_every, max_iter - k)):
            ap = matvec(p)
            curvature = row_dot(p, ap)
            done = done | (curvature <= 0)
            step = torch.where(done, 0.0, slope / torch.where(done, 1.0, curvature))
            x = x + per_sample(step, p) * p
            r = r - per_sample(step, p) * ap
            z, slope_new, size = _direction(r, precondition)
            p = z + per_sample(torch.where(done, 0.0, slope_new / torch.where(done, 1.0, slope)), p) * p
            slope = slope_new
            done = done | ((size if error is None else slope) <= bound)
            k += 1
        better = ~(size > least)  # so that NaN stays visible
        best = torch.where(column(better, x), x, best)
        least = torch.where(better, size, least)
        done = done | (size > LOST**2 * least)
    return Solution(best, (least / scale).sqrt(), k)


def _direction(r: Tensor, precondition: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
    """z = P r with <r, z> and <z, z> of each row."""
    if precondition is None:
        size = row_dot(r, r)
        return r, size, size
    z = precondition(r)
    return z, row_dot(r, z), row_dot(z, z)


def laplacian(x: Tensor) -> Tensor:
    """L x for images [..., H, W]: the negative Laplacian with mirrored borders, so that <x, L x> is the sum of the
    squared differences of neighbouring pixels."""
    out = torch.zeros_like(x)
    for dim in (-2, -1):
        difference = x.diff(dim=dim)
        out.narrow(dim, 0, x.shape[dim] - 1).sub_(difference)
        out.narrow(dim, 1, x.shape[dim] - 1).add_(difference)
    return out
