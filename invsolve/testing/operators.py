"""Checks of operators: call `check_operator(my_operator).raise_if_failed()` in a test."""

from __future__ import annotations

import copy
import math
import pickle
import time
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from invsolve.core.checks import ShapeError
from invsolve.core.linalg import real_dtype, row_dot
from invsolve.core.operator import EMPTY, LinearOperator, Operator, Params
from invsolve.core.svd import SVDOperator
from invsolve.testing import diagnoses
from invsolve.testing.linear import check_decomposed, check_linear
from invsolve.testing.report import Report
from invsolve.testing.values import check_values, finite

__all__ = ["check_operator"]

STEEPER = 20.0
"""An operator has jumps if its mean slope over a long step is more than this many times the slope over a short step."""


def check_operator(
    operator: Operator,
    *,
    batch: int = 3,
    dtype: torch.dtype = torch.float64,
    theta: Params = EMPTY,
    seed: int = 0,
    tol: float | None = None,
    solve_tol: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    skip: Collection[str] = (),
) -> Report:
    """Check, on random images, the properties that every solver relies on; each failure names the likely cause.

    All operators: output shape and precision, an error for wrong shapes, the same output for the same input,
    independence of the samples in a batch, an unmodified input, finite values in and a little beyond [0, 1], signs of
    another value range, `vjp` against finite differences, other precisions and devices, pickling. Linear operators
    also: linearity, <A x, y> = <x, A^T y>, A A^+ A = A, A^+ A = I on the range of A^T, the residual of `solve_normal`.
    Decomposed operators also: V V^T = I, U U^T = I on the range, A = U diag(s) V^T. The time of a call is noted. The
    checks stop early for an operator that draws random numbers at every call.

    Args:
        operator: the operator to check; an operator with parameters per sample must have `batch` of them.
        batch: samples in a batch, at least 2.
        dtype: precision; float64 gives the strictest check, float32 is what most solvers run in.
        theta: the unknown parameters that the operator needs, [batch, ...] each.
        seed: the seed of the random images.
        tol: relative error allowed; 1e-9 in float64 and 1e-4 in float32 if not given.
        solve_tol: the same for `pinv` and `solve_normal`, which may be iterative; 1e-3 in float64 and 1e-2 in float32
            if not given.
        low: the lowest pixel value; pixels are drawn uniformly from [`low`, `high`].
        high: the highest pixel value.
        skip: names of checks to leave out of the report, such as "pickles" for an operator made from a lambda.

    Returns:
        A report: `report.passed`, `report.failures`, `report.raise_if_failed()`, and `print(report)` for a list.
    """
    usual = (1e-9, 1e-3) if dtype == torch.float64 else (1e-4, 1e-2)
    probe = Probe(operator, batch, dtype, theta, seed, (low, high), tol or usual[0], solve_tol or usual[1])
    report = probe.report
    if probe.shapes() and report.attempt("deterministic", probe.purity):
        report.attempt("samples independent of their batch", probe.independence)
        report.attempt("values", lambda: check_values(probe))
        report.attempt("vjp against finite differences", probe.gradient)
        report.attempt("moves", probe.moves)
        report.attempt("pickles", probe.pickling)
        if isinstance(operator, LinearOperator):
            report.attempt("linear", lambda: check_linear(probe, operator))
        if isinstance(operator, SVDOperator):
            report.attempt("decomposed", lambda: check_decomposed(probe, operator))
    return report.without(skip)


class Probe:
    """An operator, a random batch, its output, and the report."""

    def __init__(
        self,
        operator: Operator,
        batch: int,
        dtype: torch.dtype,
        theta: Params,
        seed: int,
        span: tuple[float, float],
        tol: float,
        solve_tol: float,
    ) -> None:
        self.operator, self.n, self.dtype, self.theta = operator, max(batch, 2), dtype, dict(theta)
        self.tol, self.solve_tol, self.span = tol, solve_tol, span
        self.generator = torch.Generator().manual_seed(seed)
        self.report = Report(repr(operator))
        uniform = torch.rand(self.n, *operator.in_shape, generator=self.generator, dtype=torch.float64)
        self.x = (span[0] + (span[1] - span[0]) * uniform).to(dtype)
        self.y = torch.empty(0)

    def apply(self, x: Tensor) -> Tensor:
        """Compute A(x) without a gradient."""
        with torch.no_grad():
            return self.operator(x, {name: value.to(x.dtype) for name, value in self.theta.items()})

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Draw standard normal numbers [n, *shape], complex if `dtype` is."""
        real = torch.randn(self.n, *shape, generator=self.generator, dtype=torch.float64)
        if not dtype.is_complex:
            return real.to(dtype)
        return torch.complex(real, torch.randn(real.shape, generator=self.generator, dtype=torch.float64)).to(dtype)

    def relative(self, a: Tensor, b: Tensor) -> float:
        """Return |a - b| / |b| over all entries."""
        if a.shape != b.shape:
            return float("inf")
        scale = torch.linalg.vector_norm(b).clamp_min(torch.finfo(self.dtype).tiny)
        return float(torch.linalg.vector_norm(a - b) / scale)

    def shapes(self) -> bool:
        """Check the output of a batch. Return False, to skip all other checks, if its shape or precision is wrong."""
        report, expected = self.report, (self.n, *self.operator.out_shape)
        try:
            began = time.perf_counter()
            self.y = self.apply(self.x)
            seconds = time.perf_counter() - began
        except Exception as error:
            return report.fact("runs", False, diagnoses.of_error(error))
        got = tuple(self.y.shape)
        right = report.fact("output shape", got == expected, diagnoses.of_shape(expected, got, self.n))
        real = real_dtype(self.y)
        report.fact("output precision", real == self.dtype, diagnoses.of_precision(self.dtype, self.y.dtype))
        report.notes.append(f"first call: {1e3 * seconds / self.n:.2f} ms per sample")
        wider = torch.zeros(self.n, *self.operator.in_shape[:-1], self.operator.in_shape[-1] + 1, dtype=self.dtype)
        refused = _raises_shape_error(lambda: self.apply(wider))
        report.fact("refuses another shape", refused, "no ShapeError: do not override __call__")
        return right and real == self.dtype

    def purity(self) -> bool:
        """Check for the same output at a second call, and no side effects."""
        report, before = self.report, self.x.clone()
        with torch.random.fork_rng(devices=[]):
            state = torch.Generator().manual_seed(0).get_state()
            torch.set_rng_state(state)
            again = self.apply(self.x)
            quiet = torch.equal(state, torch.get_rng_state())
        report.fact("leaves its input alone", torch.equal(before, self.x), "x was changed in place: clone it first")
        same = report.fact("deterministic", torch.equal(again, self.y), diagnoses.RANDOM)
        told = "it draws from torch's global generator, or seeds it: " + diagnoses.RANDOM
        return report.fact("global generator untouched", quiet, told) and same

    def independence(self) -> None:
        """Check that each sample alone gives the same output as in the batch."""
        alone = []
        for row in range(self.n):
            pick = torch.tensor([row])
            theta = {name: value[pick].to(self.dtype) for name, value in self.theta.items()}
            with torch.no_grad():
                alone.append(self.operator.select(pick)(self.x[pick], theta))
        error = self.relative(torch.cat(alone), self.y)
        self.report.error("samples independent of their batch", error, self.tol, diagnoses.BATCH)

    def gradient(self) -> None:
        """Compare <J d, v> by central differences with <d, vjp(v)>, only in float64, where differences are accurate.

        A kink between the two points of a difference (from clipping, for example) spoils one step size, not all.
        """
        direction = self.normal(self.operator.in_shape, self.dtype)
        v = self.normal(self.operator.out_shape, self.y.dtype)
        try:
            began = time.perf_counter()
            grad = self.operator.vjp(self.x, v, {k: t.to(self.dtype) for k, t in self.theta.items()})
            self.report.notes.append(
                f"call and gradient: {1e3 * (time.perf_counter() - began) / self.n:.2f} ms per sample"
            )
        except Exception as error:
            self.report.fact("differentiable", False, diagnoses.of_gradient(error))
            return
        self.report.fact("differentiable", True)
        if not self.report.fact("vjp shape", grad.shape == self.x.shape, f"{tuple(grad.shape)}"):
            return
        self.report.fact("finite gradient", finite(grad), diagnoses.BEYOND)
        if self.dtype != torch.float64:
            return
        if self.operator.surrogate_gradient:
            self.report.notes.append("the gradient is declared a surrogate and was not compared with differences")
            return
        errors, sizes = [], []
        for step in (1e-3, 1e-5, 1e-7):
            slope = (self.apply(self.x + step * direction) - self.apply(self.x - step * direction)) / (2 * step)
            expected, got = row_dot(slope, v), row_dot(direction, grad)
            norms = torch.linalg.vector_norm(slope) * torch.linalg.vector_norm(v)
            norms = torch.maximum(norms, torch.linalg.vector_norm(grad) * torch.linalg.vector_norm(direction))
            errors.append(float((expected - got).abs().max() / (norms + 1e-300)))
            sizes.append(float(slope.abs().max()))
        jumps = max(sizes) > STEEPER * sizes[-1]
        detail = diagnoses.of_slope(float(grad.abs().max()), sizes[-1], jumps)
        self.report.error("vjp against finite differences", math.inf if jumps else min(errors), 1e-6, detail)

    def moves(self) -> None:
        """Run in the other precision, and on a GPU if there is one."""
        other = torch.float32 if self.dtype == torch.float64 else torch.float64
        y = self.apply(self.x.to(other))
        real = real_dtype(y)
        self.report.fact(f"follows its input to {other}", real == other, diagnoses.of_precision(other, y.dtype))
        back = y.to(self.y.dtype)
        self.report.error("the same in both precisions", self.relative(back, self.y), 1e-3, diagnoses.PRECISIONS)
        if not torch.cuda.is_available():
            told = f"; but {diagnoses.DEVICE}" if self._stays_behind() else ""
            self.report.notes.append(diagnoses.NO_ACCELERATOR + told)
            return
        moved = {name: value.cuda() for name, value in self.theta.items()}
        with torch.no_grad():
            far = self.operator(self.x.cuda(), moved)
        self.report.fact("runs where its input is", far.is_cuda, "the output came back on the CPU")

    def _stays_behind(self) -> bool:
        """Whether a copy of the operator fails with a device mismatch for an input on the "meta" device."""
        try:
            moved = {name: value.to("meta", self.dtype) for name, value in self.theta.items()}
            copy.deepcopy(self.operator)(self.x.to("meta"), moved)
        except Exception as error:  # not every operation works on the "meta" device
            return "expected device" in str(error) or "same device" in str(error)
        return False

    def pickling(self) -> None:
        """Check that a pickled copy gives the same output: worker processes and checkpoints copy operators."""
        try:
            twin = pickle.loads(pickle.dumps(self.operator))
        except Exception as error:
            self.report.fact("pickles", False, f"{type(error).__name__}: {error}: {diagnoses.PICKLE}")
            return
        with torch.no_grad():
            same = torch.equal(twin(self.x, {k: v.to(self.dtype) for k, v in self.theta.items()}), self.y)
        self.report.fact("pickles", same, "the copy gives another output")
        told = repr(twin) == repr(self.operator)
        self.report.fact(
            "repr survives pickling", told, f"{twin!r} after, {self.operator!r} before: no addresses in repr"
        )


def _raises_shape_error(call: Callable[[], object]) -> bool:
    try:
        call()
    except ShapeError:
        return True
    except Exception:
        return False
    return False
