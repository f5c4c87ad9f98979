"""Three kinds of blur by a known kernel; `invsolve.operators.blur` chooses one and states the convention."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor

from invsolve.core.checks import InputError, ShapeError, check_shape
from invsolve.core.constants import Constants, select_rows
from invsolve.core.linalg import per_sample
from invsolve.core.operator import EMPTY, LinearOperator, Params, Shape
from invsolve.core.svd import SVDOperator
from invsolve.operators.convolution import correlate, correlate_adjoint, grid_for, transfer_function
from invsolve.operators.kernels import centred, checked_kernel
from invsolve.operators.padding import check_padding, extend, extend_adjoint
from invsolve.operators.shapes import digest, image_shape
from invsolve.operators.transforms import cosine_laplacian, dct2, fft_dtype, fourier_laplacian, idct2, real_images

__all__ = ["CircularBlur", "SpatialBlur", "SymmetricBlur", "is_symmetric"]


class _KernelBlur(LinearOperator):
    """Base class of the three kinds of blur: shapes, and a kernel for all samples or one for each."""

    padding: str
    constants: Constants
    _tables: ClassVar[tuple[str, ...]]

    def __init__(self, in_shape: Shape, kernel: Tensor) -> None:
        self.in_shape = self.out_shape = image_shape(in_shape)
        self.kernel = centred(checked_kernel(kernel, self.in_shape))

    def select(self, rows: Tensor) -> Self:
        if len(self.kernel) == 1:
            return self
        clone = select_rows(self, **{name: self.constants[name][rows.cpu()] for name in self._tables})
        clone.kernel = self.kernel[rows.cpu()]
        return clone

    def _check(self, x: Tensor, theta: Params, what: str) -> None:
        self._no_parameters(theta)
        check_shape(x, self.in_shape, f"{type(self).__name__}.{what}")
        if len(self.kernel) not in (1, len(x)):
            raise ShapeError(
                f"this blur has {len(self.kernel)} kernels, one per sample, got a batch of {len(x)}: use select(rows)"
            )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({list(self.in_shape)}, kernel={list(self.kernel.shape)}:{digest(self.kernel)}, "
            f"padding={self.padding!r})"
        )


class SpatialBlur(_KernelBlur):
    """Blur with any border; the adjoint is exact, and solves use conjugate gradients.

    Args:
        in_shape: (C, H, W).
        kernel: [h, w] or [1 | C, h, w] for all samples, or [B, 1 | C, h, w] with one for each sample; sums to 1.
        padding: "zero", "reflect" (edge excluded), "symmetric" (edge included) or "circular".
    """

    _tables = ("transfer",)

    def __init__(self, in_shape: Shape, kernel: Tensor, padding: str) -> None:
        super().__init__(in_shape, kernel)
        self.padding = check_padding(padding)
        (_, h, w), taps = self.in_shape, (self.kernel.shape[-2], self.kernel.shape[-1])
        self._grid = grid_for((h, w), taps)
        self._extended = (h + taps[0] - 1, w + taps[1] - 1)
        self.constants = Constants(transfer=transfer_function(self.kernel, self._grid))

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._check(x, theta, "forward")
        z = extend(x, *self._sides, self.padding)
        return correlate(z, self._transfer(x), self._grid, (self.in_shape[1], self.in_shape[2]))

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        self._check(y, theta, "adjoint")
        z = correlate_adjoint(y, self._transfer(y), self._grid, self._extended)
        return extend_adjoint(z, *self._sides, self.padding)

    @property
    def _sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        rows, columns = self.kernel.shape[-2] // 2, self.kernel.shape[-1] // 2
        return (rows, rows), (columns, columns)

    def _transfer(self, like: Tensor) -> Tensor:
        return self.constants.get("transfer", _precise(like))


class _SpectralBlur(_KernelBlur, SVDOperator):
    """A blur that a fast transform F diagonalises: A = F^-1 diag(response) F, so U = F^-1 phase, s = |response|."""

    _tables = ("s", "phase")

    def __init__(self, in_shape: Shape, kernel: Tensor) -> None:
        super().__init__(in_shape, kernel)
        response = self._response(self.kernel)
        s = response.abs()
        s = torch.where(s > 1e-12 * s.amax((-2, -1), keepdim=True), s, 0.0)
        phase = torch.where(s > 0, response / torch.where(s > 0, s, 1.0), 0.0)
        self.constants = Constants(s=s, phase=phase)
        self.basis = (self.padding, self.in_shape)

    @abstractmethod
    def _response(self, kernel: Tensor) -> Tensor:
        """The factor of each coefficient, [..., H, W]."""

    @abstractmethod
    def _transform(self, x: Tensor) -> Tensor:
        """F x."""

    @abstractmethod
    def _inverse(self, c: Tensor) -> Tensor:
        """F^-1 c."""

    @abstractmethod
    def _filter(self, x: Tensor, response: Tensor) -> Tensor:
        """F^-1 (response * F x) for a real image; `response` keeps it real and has the form that `_kept` returns."""

    def _kept(self, table: Tensor) -> Tensor:
        """The part of a table that determines the rest of it."""
        return table

    def _s(self, like: Tensor) -> Tensor:
        return self.constants.get("s", _precise(like))

    def _phase(self, like: Tensor) -> Tensor:
        return self.constants.get("phase", _precise(like))

    def spectrum(self, like: Tensor) -> Tensor:
        s = self._s(like)
        flat = s.expand(len(s), *self.in_shape).flatten(1)
        return flat[0] if len(s) == 1 else flat

    def response(self, like: Tensor) -> Tensor:
        response = self._s(like) * self._phase(like)
        flat = response.expand(len(response), *self.in_shape).flatten(1)
        return flat[0] if len(response) == 1 else flat

    def V(self, c: Tensor) -> Tensor:
        return self._inverse(c.reshape(-1, *self.in_shape))

    def Vt(self, x: Tensor) -> Tensor:
        return self._transform(x).flatten(1)

    def U(self, c: Tensor) -> Tensor:
        return self._inverse(self._phase(c) * c.reshape(-1, *self.in_shape))

    def Ut(self, y: Tensor) -> Tensor:
        return (self._phase(y).conj() * self._transform(y)).flatten(1)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._check(x, theta, "forward")
        return self._filter(x, self._kept(self._s(x)) * self._kept(self._phase(x)))

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        self._check(y, theta, "adjoint")
        return self._filter(y, self._kept(self._s(y)) * self._kept(self._phase(y)).conj())

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        self._check(b, theta, "solve_normal")
        return self._filter(b, 1 / (self._kept(self._s(b)) ** 2 + per_sample(lam, b)))

    def pinv(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        self._check(y, theta, "pinv")
        s, phase = self._kept(self._s(y)), self._kept(self._phase(y))
        keep = s > self.cutoff * s.amax((-3, -2, -1), keepdim=True)
        return self._filter(y, torch.where(keep, phase.conj() / torch.where(keep, s, 1.0), 0.0))


class CircularBlur(_SpectralBlur):
    """Blur of a periodic image, diagonal in the Fourier basis (complex coefficients).

    Args:
        in_shape: (C, H, W).
        kernel: [h, w] or [1 | C, h, w] for all samples, or [B, 1 | C, h, w] with one for each sample; sums to 1.
    """

    padding = "circular"

    def _response(self, kernel: Tensor) -> Tensor:
        _, h, w = self.in_shape
        for dim, n in ((-2, h), (-1, w)):
            taps, shape = kernel.shape[dim], list(kernel.shape)
            shape[dim] = n
            kernel = kernel.new_zeros(shape).index_add(dim, (torch.arange(taps) - taps // 2) % n, kernel)
        return torch.fft.fft2(kernel).conj().resolve_conj()

    @property
    def half_response(self) -> Tensor:
        """The factor by which the blur multiplies each coefficient of `torch.fft.rfft2`, in float64."""
        return self._kept(self.constants["s"]) * self._kept(self.constants["phase"])

    def _transform(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x, norm="ortho")

    def _inverse(self, c: Tensor) -> Tensor:
        return torch.fft.ifft2(c, norm="ortho").real

    def _filter(self, x: Tensor, response: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(real_images(x)) * response, x.shape[-2:]).to(x.dtype)

    def _kept(self, table: Tensor) -> Tensor:
        """Half of the spectrum; the other half is its mirror image."""
        return table[..., : self.in_shape[2] // 2 + 1]

    def smooth_preconditioner(self, like: Tensor, lam: float | Tensor) -> Callable[[Tensor], Tensor]:
        """(A^T A + lam L)^-1 with a periodic L, which makes it diagonal; only the border differs."""
        z = _precise(like)
        laplacian = self._kept(fourier_laplacian(self.in_shape[1], self.in_shape[2], z))
        inverse = 1 / (self._kept(self._s(like)) ** 2 + per_sample(lam, like) * laplacian)
        return lambda r: self._filter(r, inverse)


class SymmetricBlur(_SpectralBlur):
    """Blur of an image mirrored at its border (edge included) by a symmetric kernel, diagonal in the cosine basis.

    This is the natural closed form for photographs: there is no seam as with a periodic image.

    Args:
        in_shape: (C, H, W).
        kernel: as for `CircularBlur`, and equal to its mirror image in both axes (about its anchor).

    Raises:
        InputError: the kernel is not symmetric.
    """

    padding = "symmetric"

    def _response(self, kernel: Tensor) -> Tensor:
        if not is_symmetric(kernel):
            raise InputError("SymmetricBlur needs a kernel equal to its mirror images: use Blur or CircularBlur")
        response = kernel
        for dim, n in ((-1, self.in_shape[2]), (-2, self.in_shape[1])):
            offsets = torch.arange(kernel.shape[dim], dtype=torch.float64) - kernel.shape[dim] // 2
            cosines = torch.cos(torch.pi / n * torch.outer(torch.arange(n, dtype=torch.float64), offsets))
            response = response @ cosines.T if dim == -1 else cosines @ response
        return response

    def _transform(self, x: Tensor) -> Tensor:
        return dct2(x)

    def _inverse(self, c: Tensor) -> Tensor:
        return idct2(c)

    def solve_smooth(self, b: Tensor, lam: float | Tensor) -> Tensor:
        self._check(b, EMPTY, "solve_smooth")
        z = _precise(b)
        laplacian = cosine_laplacian(self.in_shape[1], self.in_shape[2], z)
        return self._filter(b, 1 / (self._s(b) ** 2 + per_sample(lam, b) * laplacian))

    def _filter(self, x: Tensor, response: Tensor) -> Tensor:
        return idct2(dct2(real_images(x)) * response).to(x.dtype)


def _precise(like: Tensor) -> Tensor:
    """An empty tensor in the precision in which `like` is transformed."""
    return torch.empty(0, dtype=fft_dtype(like), device=like.device)


def is_symmetric(kernel: Tensor) -> bool:
    """Whether a centred kernel equals its mirror images up to rounding."""
    scale = 1e-12 * kernel.abs().max()
    return all(bool(((kernel - kernel.flip(dim)).abs() <= scale).all()) for dim in (-2, -1))
