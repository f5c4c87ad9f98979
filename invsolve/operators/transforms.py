"""Orthonormal cosine transforms by FFT, and lengths for which FFTs are fast.

    DCT-II   X_k = c_k sum_j x_j cos(pi k (2 j + 1) / (2 n)),   c_0 = sqrt(1 / n), c_k = sqrt(2 / n)

The DCT-II diagonalises every symmetric convolution under half-sample symmetric extension
(Martucci 1994, "Symmetric convolution and the discrete sine and cosine transforms").
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from invsolve.core.checks import InputError

__all__ = ["cosine_laplacian", "dct2", "fft_dtype", "fourier_laplacian", "idct2", "quick_length", "real_images"]


def fft_dtype(x: Tensor) -> torch.dtype:
    """The real precision in which to transform or filter `x`: CPUs do neither reliably in half precision."""
    return torch.float64 if x.dtype in (torch.float64, torch.complex128) else torch.float32


def real_images(x: Tensor) -> Tensor:
    """Convert images to the precision in which they are transformed or filtered.

    Raises:
        InputError: the images are complex, so their imaginary part would be lost.
    """
    if x.is_complex():
        raise InputError(
            "this operator takes real images: give real and imaginary parts as two channels, "
            "torch.view_as_real(z).movedim(-1, 1) of z [N, H, W]"
        )
    return x.to(fft_dtype(x))


def quick_length(n: int) -> int:
    """The smallest length of at least `n` without prime factors above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def _twiddle(n: int, like: Tensor) -> Tensor:
    """exp(-i pi k / (2 n)) / sqrt(n / 2) for k = 0 .. n // 2, with another factor 1 / sqrt(2) at k = 0."""
    k = torch.arange(n // 2 + 1, device=like.device, dtype=like.dtype)
    weight = torch.full_like(k, (2 / n) ** 0.5)
    weight[0] = (1 / n) ** 0.5
    return torch.polar(weight, -pi * k / (2 * n))


def _dct(x: Tensor) -> Tensor:
    """DCT-II along the last dimension, from one real FFT of the even entries followed by the reversed odd ones."""
    n = x.shape[-1]
    spectrum = torch.fft.rfft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)) * _twiddle(n, x)
    return torch.cat([spectrum.real, -spectrum.imag[..., 1 : (n + 1) // 2].flip(-1)], -1)


def _idct(c: Tensor) -> Tensor:
    """The inverse of `_dct`."""
    n = c.shape[-1]
    half = n // 2
    zero = c.new_zeros((*c.shape[:-1], 1))
    mirrored = torch.cat([zero, c[..., n - half :].flip(-1)], -1)
    twiddle = _twiddle(n, c)
    v = torch.fft.irfft(torch.complex(c[..., : half + 1], -mirrored) / twiddle, n)
    even = (n + 1) // 2
    odd = torch.cat([v[..., even:].flip(-1), zero], -1)[..., :even]
    return torch.stack([v[..., :even], odd], -1).flatten(-2)[..., :n]


def dct2(x: Tensor) -> Tensor:
    """Orthonormal two-dimensional DCT-II over the last two dimensions."""
    z = _dct(_dct(x.to(fft_dtype(x))).mT).mT
    return z.to(x.dtype)


def idct2(c: Tensor) -> Tensor:
    """The inverse (and transpose) of `dct2`."""
    z = _idct(_idct(c.to(fft_dtype(c))).mT).mT
    return z.to(c.dtype)


def cosine_laplacian(h: int, w: int, like: Tensor) -> Tensor:
    """Eigenvalues [h, w] of the negative Laplacian with mirrored borders, which `dct2` diagonalises."""
    down, across = (
        4 * torch.sin(pi / 2 / n * torch.arange(n, dtype=like.dtype, device=like.device)).square() for n in (h, w)
    )
    return down[:, None] + across


def fourier_laplacian(h: int, w: int, like: Tensor) -> Tensor:
    """Eigenvalues [h, w] of the negative Laplacian on a torus, in the order of `torch.fft.fft2`."""
    down, across = (
        4 * torch.sin(pi / n * torch.arange(n, dtype=like.dtype, device=like.device)).square() for n in (h, w)
    )
    return down[:, None] + across
