"""Forward operators: pure, batched maps from images to measurements, with adjoints and linear solves.

    Operator              y = A(x, theta)           gradient by autograd
    LinearOperator        adds A^T, (A^T A + lam I)^-1 and A^+
    SVDOperator           adds A = U diag(s) V^T with fast U and V, see `invsolve.core.svd`

Operators have no noise and no state. To add one, write a subclass with `in_shape`, `out_shape` and `forward`; all other
methods are derived and can be overridden with faster ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import ClassVar, Self

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError, check_shape, needing_gradients, usable
from invsolve.core.constants import Constants
from invsolve.core.linalg import conjugate_gradient, laplacian, per_sample, real_dtype, row_norm

__all__ = ["EMPTY", "LinearOperator", "Operator", "Params", "Shape"]

Shape = tuple[int, ...]
Params = Mapping[str, Tensor]
"""Unknown operator parameters with leading dimension N; empty unless the problem is blind."""
EMPTY: Params = MappingProxyType({})

LEAVES_TORCH = "write it in torch, or derive from LinearOperator and give its adjoint"
"""Advice in error messages about operators without a gradient."""


class Operator(ABC):
    """A differentiable map [N, *in_shape] -> [N, *out_shape].

    Attributes:
        in_shape: shape of one image, without the batch dimension.
        out_shape: shape of one measurement, without the batch dimension.
        constants: the operator's tensors, if it has any.
        parameters: names of the unknown parameters that `theta` must hold; none by default.
        surrogate_gradient: whether `vjp` deliberately differs from the derivative (straight-through rounding).
    """

    in_shape: Shape
    out_shape: Shape
    constants: Constants
    parameters: tuple[str, ...] = ()
    surrogate_gradient: bool = False

    @abstractmethod
    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        """Compute A(x, theta) for a batch of the right shape; implemented by subclasses."""

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        """y = A(x, theta), [N, *in_shape] -> [N, *out_shape].

        Raises:
            ShapeError: `x` is not a batch of `in_shape`.
            InputError: `x` holds integers.
            CapabilityError: a gradient is needed, and the operator converts `x` to NumPy.
        """
        check_shape(x, self.in_shape, type(self).__name__)
        if not x.is_floating_point() and not x.is_complex():
            kind = str(x.dtype).removeprefix("torch.")
            raise InputError(f"{type(self).__name__} takes floating point values, got {kind}: divide 8 bit ones by 255")
        with needing_gradients(x, self, LEAVES_TORCH):
            return self.forward(x, theta)

    def observed(self, y: Tensor) -> Tensor:
        """Set unmeasured entries of a measurement [N, *out_shape] to zero, even if they are NaN."""
        return y

    def measures(self, y: Tensor) -> Tensor:
        """Which entries of a measurement [N, *out_shape] the operator measures, bool."""
        return self.observed(torch.ones_like(y)) != 0

    def vjp(self, x: Tensor, v: Tensor, theta: Params = EMPTY) -> Tensor:
        """J(x)^T v, the vector-Jacobian product: [N, *in_shape], [N, *out_shape] -> [N, *in_shape]."""
        with torch.inference_mode(False), torch.enable_grad():
            x = usable(x.detach()).requires_grad_()
            y = self(x, theta)
            if not y.requires_grad:
                raise CapabilityError(f"{self!r} leaves torch (through NumPy, or by detach): {LEAVES_TORCH}")
            (grad,) = torch.autograd.grad(y, x, usable(v))
        return grad

    def select(self, rows: Tensor) -> Self:
        """The operator for the batch rows `rows` ([M] indices); unchanged if all samples share its parameters."""
        return self

    def __matmul__(self, inner: Operator) -> Operator:
        """x -> self(inner(x)); see `invsolve.core.compose`."""
        from invsolve.core.compose import compose

        return compose(self, inner) if isinstance(inner, Operator) else NotImplemented

    def __add__(self, other: Operator) -> Operator:
        """x -> self(x) + other(x)."""
        from invsolve.core.compose import add

        return add(self, other) if isinstance(other, Operator) else NotImplemented

    def __rmul__(self, weight: float) -> Operator:
        """x -> weight * self(x)."""
        from invsolve.core.compose import scale

        return scale(float(weight), self) if isinstance(weight, int | float) else NotImplemented

    __mul__ = __rmul__

    def __neg__(self) -> Operator:
        """x -> -self(x)."""
        return -1.0 * self

    def __sub__(self, other: Operator) -> Operator:
        """x -> self(x) - other(x)."""
        return self + -other if isinstance(other, Operator) else NotImplemented

    def _no_parameters(self, theta: Params) -> None:
        if theta:
            raise CapabilityError(
                f"{type(self).__name__} has no unknown parameters, got {sorted(theta)}: "
                "use an operator that takes them, such as BlindBlur"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.in_shape)} -> {list(self.out_shape)})"


class LinearOperator(Operator):
    """A linear map from real images to real or complex measurements.

    A^T is the transpose with respect to the inner product Re <., .>, so it maps complex measurements to real images.
    By default, `adjoint` is computed by automatic differentiation, and `pinv` and `solve_normal` by conjugate
    gradients.

    Attributes:
        smooth_tolerance: relative residual to which `solve_smooth` solves in single precision.
        is_identity: whether A x = x.
    """

    smooth_tolerance: float = 1e-5
    is_identity: ClassVar[bool] = False

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        """A^T y, [N, *out_shape] -> [N, *in_shape]."""
        check_shape(y, self.out_shape, f"{type(self).__name__}.adjoint")
        zero = torch.zeros(len(y), *self.in_shape, dtype=real_dtype(y), device=y.device)
        return self.vjp(zero, y, theta)

    def normal(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        """A^T A x."""
        return self.adjoint(self(x, theta), theta)

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        """(A^T A + lam I)^-1 b.

        Args:
            b: [N, *in_shape].
            lam: weight above 0; one number, or one for each row [N].
        """
        check_shape(b, self.in_shape, f"{type(self).__name__}.solve_normal")
        weight = per_sample(lam, b)
        return conjugate_gradient(lambda v: self.normal(v, theta) + weight * v, b).x

    def solve_smooth(self, b: Tensor, lam: float | Tensor) -> Tensor:
        """(A^T A + lam L)^-1 b with L the negative Laplacian of the last two dimensions, mirrored at the borders.

        Uses conjugate gradients, preconditioned by `smooth_preconditioner`, up to a relative residual of
        `smooth_tolerance` in float32 and 1e-8 in float64, or 300 iterations. Operators that the cosine transform
        diagonalises override this.

        Args:
            b: [N, *in_shape], an image of at least three dimensions.
            lam: weight above 0; one number, or one for each row [N].
        """
        check_shape(b, self.in_shape, f"{type(self).__name__}.solve_smooth")
        weight, precondition = per_sample(lam, b), self.smooth_preconditioner(b, lam)
        x = None if precondition is None else precondition(b)
        tol = 1e-8 if b.dtype == torch.float64 else self.smooth_tolerance
        matvec = lambda v: self.normal(v) + weight * laplacian(v)  # noqa: E731
        return conjugate_gradient(matvec, b, x=x, precondition=precondition, tol=tol, max_iter=300).x

    def smooth_preconditioner(self, like: Tensor, lam: float | Tensor) -> Callable[[Tensor], Tensor] | None:
        """An approximation of (A^T A + lam L)^-1 for batches like `like`; none by default."""
        return None

    def noise_gain(self, like: Tensor) -> Tensor:
        """How much A^+ amplifies white noise: the root mean square of A^+ n for n ~ N(0, I), [1] or [N].

        Estimated with one fixed draw of n for all measurements `like` [N, *out_shape]. Operators with a known spectrum
        compute it from the spectrum.
        """
        real = torch.empty(like.shape[1:], dtype=real_dtype(like)).normal_(generator=torch.Generator().manual_seed(0))
        return row_norm(self.pinv(real.to(like).expand(like.shape))) / prod(self.in_shape) ** 0.5

    def ridge(self, residual: Tensor, lam: float | Tensor) -> Tensor:
        """A^T (A A^T + lam I)^-1 r = (A^T A + lam I)^-1 A^T r, [N, *out_shape] -> [N, *in_shape]."""
        return self.solve_normal(self.adjoint(residual), lam)

    def ridge_within(self, residual: Tensor, lam: float | Tensor, error: float | Tensor) -> Tensor:
        """`ridge` with a root mean square error of up to `error`, one number or one for each row.

        Operators that solve by iterations use `error` to stop early; those with a closed form ignore it.
        """
        return self.ridge(residual, lam)

    def pinv(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        """A^+ y, the least-squares solution of smallest norm, [N, *out_shape] -> [N, *in_shape].

        Uses conjugate gradients on A^T A x = A^T y, started at zero; directions with small singular values take many
        iterations. Operators with a closed form override it.
        """
        check_shape(y, self.out_shape, f"{type(self).__name__}.pinv")
        return conjugate_gradient(lambda v: self.normal(v, theta), self.adjoint(y, theta)).x
