"""Additional operator checks for linear and decomposed (SVD) operators."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from invsolve.core.linalg import row_dot
from invsolve.core.operator import LinearOperator
from invsolve.core.svd import SVDOperator
from invsolve.testing import diagnoses

__all__ = ["check_decomposed", "check_linear"]


def check_linear(probe: Any, operator: LinearOperator) -> None:
    """Check linearity, the adjoint, pinv and solve_normal."""
    report, theta = probe.report, {name: value.to(probe.dtype) for name, value in probe.theta.items()}
    u = probe.normal(operator.in_shape, probe.dtype)
    zero = float(probe.apply(torch.zeros_like(probe.x)).abs().max())
    offset = "A(0) is not 0: the offset belongs to y" if zero > 0 else "not linear: derive from Operator instead"
    mixed = probe.apply(2.0 * probe.x - 3.0 * u)
    report.error("linear", probe.relative(mixed, 2.0 * probe.y - 3.0 * probe.apply(u)), probe.tol, offset)
    v = probe.normal(operator.out_shape, probe.y.dtype)
    back = operator.adjoint(v, theta)
    shape = f"{tuple(back.shape)}, not {tuple(probe.x.shape)}"
    if not report.fact("adjoint shape", back.shape == probe.x.shape, shape):
        return
    image = probe.apply(u)
    scale = torch.linalg.vector_norm(image) * torch.linalg.vector_norm(v)
    scale = scale + torch.linalg.vector_norm(u) * torch.linalg.vector_norm(back)
    forward, backward = row_dot(image, v), row_dot(u, back)
    gap = float((forward - backward).abs().max() / scale.clamp_min(torch.finfo(scale.dtype).tiny))
    ratios = forward / torch.where(backward == 0, torch.inf, backward)
    detail = diagnoses.of_adjoint(float(ratios[0]), float((ratios - ratios[0]).abs().max() / ratios[0].abs()))
    report.error("<A x, y> = <x, A^T y>", gap, probe.tol, detail)
    restored = probe.apply(operator.pinv(probe.y, theta))
    report.error("A A^+ A = A", probe.relative(restored, probe.y), probe.solve_tol)
    smooth = operator.normal(back, theta)  # in the range of A^T, with small components at small singular values
    error = probe.relative(operator.pinv(probe.apply(smooth), theta), smooth)
    report.error("A^+ A = I on the range of A^T", error, probe.solve_tol, diagnoses.SMALLEST)
    for name, lam in (("one lam", 0.1), ("lam per sample", torch.linspace(0.05, 0.5, probe.n, dtype=torch.float64))):
        z = operator.solve_normal(u, lam, theta)
        weight = lam.to(z).reshape(-1, *[1] * (z.ndim - 1)) if isinstance(lam, Tensor) else lam
        told = f"{probe.dtype} in, {z.dtype} out"
        report.fact(f"solve_normal precision, {name}", z.dtype == probe.dtype, told)
        residual = operator.normal(z, theta) + weight * z
        name = f"(A^T A + lam I) solve_normal(b) = b, {name}"
        report.error(name, probe.relative(residual, u), probe.solve_tol)


def check_decomposed(probe: Any, operator: SVDOperator) -> None:
    """Check that A = U diag(s) V^T with orthonormal U and V."""
    report, size, relative = probe.report, prod(operator.in_shape), probe.relative
    s, c = operator.spectrum(probe.x), operator.Vt(probe.x)
    facts: Mapping[str, bool] = {
        "coefficients [N, n]": tuple(c.shape) == (probe.n, size),
        "singular values [n] or [N, n]": tuple(s.shape) in ((size,), (probe.n, size)),
        "singular values at least 0": bool((s >= 0).all()),
    }
    for name, holds in facts.items():
        report.fact(name, holds)
    if not all(facts.values()):
        return
    report.error("V V^T = I", relative(operator.V(c), probe.x), probe.tol)
    report.error("|V^T x| = |x|", relative(_norms(c), _norms(probe.x)), probe.tol)
    report.error("A = U diag(s) V^T", relative(operator.U(s * c), probe.y), probe.tol)
    transpose = relative(operator.V(s * operator.Ut(probe.y)), operator.adjoint(probe.y))
    report.error("A^T = V diag(s) U^T", transpose, probe.tol)
    measured = operator.Ut(probe.y)
    report.error("U U^T = I on the range", relative(operator.U(measured), probe.y), probe.tol)
    report.error("|U^T y| = |y| on the range", relative(_norms(measured), _norms(probe.y)), probe.tol)
    noise = operator.Ut(probe.normal(operator.out_shape, probe.y.dtype))
    empty = torch.where(s > 0, torch.zeros_like(noise), noise)
    report.fact("U^T y = 0 where s = 0", not bool((empty != 0).any()))


def _norms(a: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a.flatten(1), dim=1)
