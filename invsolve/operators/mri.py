"""Magnetic resonance imaging: samples of the Fourier transform, measured by one or several coils."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from invsolve.core.checks import InputError, ShapeError, as_tensor, check_shape
from invsolve.core.constants import Constants, select_rows
from invsolve.core.linalg import per_sample
from invsolve.core.operator import EMPTY, LinearOperator, Params, Shape
from invsolve.operators.shapes import digest, image_shape
from invsolve.operators.transforms import real_images

__all__ = ["MRI"]


class MRI(LinearOperator):
    """y_k = m * F(s_k * u) for each coil k, with F the centred orthonormal Fourier transform; y is complex.

    Images are real: one channel is the (real) density u, two channels are its real and imaginary part. With one coil of
    sensitivity 1 and two channels, A A^T is the mask and solves have closed forms.

    Args:
        in_shape: (1, H, W) or (2, H, W).
        mask: 1 at measured frequencies and 0 elsewhere, with the zero frequency in the middle: [H, W], or [B, H, W]
            with one for each sample.
        coils: sensitivities s, complex [K, H, W]; a single coil of sensitivity 1 if not given.

    Raises:
        ShapeError: the mask or the coils do not fit the image.
        InputError: the mask has values other than 0 and 1, or measures nothing.
    """

    def __init__(self, in_shape: Shape, mask: Tensor, coils: Tensor | None = None) -> None:
        self.in_shape = c, h, w = image_shape(in_shape)
        if c not in (1, 2):
            raise ShapeError(f"an MRI image needs one channel (real) or two (real, imaginary), got {list(in_shape)}")
        mask = as_tensor(mask, "the mask")
        if mask.ndim not in (2, 3) or tuple(mask.shape[-2:]) != (h, w):
            raise ShapeError(f"the mask must be [{h}, {w}] or [B, {h}, {w}], got {list(mask.shape)}")
        if not bool(((mask == 0) | (mask == 1)).all()) or not bool(mask.flatten(-2).any(-1).all()):
            raise InputError("the mask must hold 0 and 1, and measure at least one frequency: 1 marks measured ones")
        self.single = coils is None
        coils = torch.ones(1, h, w, dtype=torch.complex128) if coils is None else as_tensor(coils, "the coils")
        if coils.ndim != 3 or tuple(coils.shape[1:]) != (h, w):
            raise ShapeError(f"coil sensitivities must be [K, {h}, {w}], got {list(coils.shape)}")
        self.out_shape = (len(coils), h, w)
        mask = mask.detach().to("cpu", torch.float64).reshape(-1, 1, h, w)
        self.constants = Constants(mask=mask, coils=coils.detach().to("cpu", torch.complex128))

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        z = real_images(x)
        u = torch.complex(z[:, :1], z[:, 1:] if z.shape[1] == 2 else torch.zeros_like(z))
        return self._mask(z, len(x)) * _transform(self.constants.get("coils", z) * u, inverse=False)

    def observed(self, y: Tensor) -> Tensor:
        return torch.where(self._mask(y.real, len(y)) != 0, y, 0.0)

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "MRI.adjoint")
        self._no_parameters(theta)
        coils = self.constants.get("coils", y.real)
        u = (coils.conj() * _transform(self._mask(y.real, len(y)) * y, inverse=True)).sum(1, keepdim=True)
        return torch.cat([u.real, u.imag], 1) if self.in_shape[0] == 2 else u.real

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        if not (self.single and self.in_shape[0] == 2):
            return super().solve_normal(b, lam, theta)
        check_shape(b, self.in_shape, "MRI.solve_normal")
        spectrum = _transform(torch.complex(b[:, :1], b[:, 1:]), inverse=False)
        u = _transform(spectrum / (self._mask(b, len(b)) + per_sample(lam, b)), inverse=True)
        return torch.cat([u.real, u.imag], 1)

    def pinv(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        return self.adjoint(y, theta) if self.single and self.in_shape[0] == 2 else super().pinv(y, theta)

    def select(self, rows: Tensor) -> Self:
        mask = self.constants["mask"]
        return self if len(mask) == 1 else select_rows(self, mask=mask[rows.cpu()])

    def _mask(self, like: Tensor, n: int) -> Tensor:
        mask = self.constants.get("mask", like)
        if len(mask) not in (1, n):
            raise ShapeError(f"this MRI has {len(mask)} masks, one per sample, got a batch of {n}: use select(rows)")
        return mask

    def __repr__(self) -> str:
        mask = self.constants["mask"]
        return (
            f"MRI({list(self.in_shape)}, coils={self.out_shape[0]}, known={mask.mean().item():.4f}, "
            f"mask={digest(mask)}:{digest(torch.view_as_real(self.constants['coils']))})"
        )


def _transform(u: Tensor, *, inverse: bool) -> Tensor:
    """The orthonormal Fourier transform with the origin of images and spectra in the middle."""
    f = torch.fft.ifft2 if inverse else torch.fft.fft2
    return torch.fft.fftshift(f(torch.fft.ifftshift(u, (-2, -1)), norm="ortho"), (-2, -1))
