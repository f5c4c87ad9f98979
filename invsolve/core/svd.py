"""Linear operators with a singular value decomposition."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from math import prod

import torch
from torch import Tensor

from invsolve.core.checks import check_shape
from invsolve.core.linalg import per_sample
from invsolve.core.operator import EMPTY, LinearOperator, Params

__all__ = ["SVDOperator"]


class SVDOperator(LinearOperator):
    """A linear operator with a singular value decomposition A = U diag(s) V^T, with U and V given as fast transforms.

    Coefficient vectors have shape [N, n] with n = prod(in_shape), for any rank of A. Singular values have shape [n], or
    [N, n] if the operator differs between samples. They are 0 on the null space; there `Ut` returns 0 and `U` ignores
    its input. Convolutions have complex (Fourier) coefficients, but all methods map real images to real images. `pinv`
    treats singular values below `cutoff` times the largest one as 0.

    Attributes:
        basis: an identifier of V if U = V up to signs or phases, so that A = V diag(r) V^T with eigenvalues
            r = `response`; None otherwise. Operators with equal identifiers compose in closed form.
    """

    cutoff: float = 1e-6
    basis: Hashable | None = None

    def response(self, like: Tensor) -> Tensor:
        """Eigenvalues r [n] or [N, n] of an operator with a `basis`; complex if V is. |r| is the spectrum."""
        return self.spectrum(like)

    @abstractmethod
    def spectrum(self, like: Tensor) -> Tensor:
        """Singular values [n] or [N, n], real, in the precision and on the device of `like`."""

    @abstractmethod
    def V(self, c: Tensor) -> Tensor:
        """Coefficients [N, n] -> image [N, *in_shape]."""

    @abstractmethod
    def Vt(self, x: Tensor) -> Tensor:
        """Image [N, *in_shape] -> coefficients [N, n]."""

    @abstractmethod
    def U(self, c: Tensor) -> Tensor:
        """Coefficients [N, n] -> measurement [N, *out_shape]; entries with s = 0 are ignored."""

    @abstractmethod
    def Ut(self, y: Tensor) -> Tensor:
        """Measurement [N, *out_shape] -> coefficients [N, n]; 0 where s = 0."""

    @property
    def singular_values(self) -> Tensor:
        """Singular values in float64 on the CPU."""
        return self.spectrum(torch.empty(0, dtype=torch.float64))

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        return self.U(self.spectrum(x) * self.Vt(x))

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, f"{type(self).__name__}.adjoint")
        self._no_parameters(theta)
        return self.V(self.spectrum(y) * self.Ut(y))

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(b, self.in_shape, f"{type(self).__name__}.solve_normal")
        self._no_parameters(theta)
        weight = per_sample(lam, b.flatten(1))
        return self.V(self.Vt(b) / (self.spectrum(b) ** 2 + weight))

    def ridge(self, residual: Tensor, lam: float | Tensor) -> Tensor:
        coefficients, s = self.Ut(residual), self.spectrum(residual)
        return self.V(s / (s**2 + per_sample(lam, coefficients)) * coefficients)

    def pinv(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, f"{type(self).__name__}.pinv")
        self._no_parameters(theta)
        s = self.spectrum(y)
        keep = s > self.cutoff * s.amax(-1, keepdim=True)
        return self.V(torch.where(keep, self.Ut(y) / torch.where(keep, s, 1.0), 0.0))

    def noise_gain(self, like: Tensor) -> Tensor:
        s = self.spectrum(like).view(-1, self.size)
        keep = s > self.cutoff * s.amax(-1, keepdim=True)
        return torch.where(keep, torch.where(keep, s, 1.0) ** -2, 0.0).mean(-1).sqrt()

    @property
    def size(self) -> int:
        """n = prod(in_shape), the number of coefficients."""
        return prod(self.in_shape)
