"""Super-resolution: an image is filtered and sampled at every `factor`-th place, separably, y = A_h x A_w^T.

Row o of the n / f x n matrix A is centred at f (o + 1/2) - 1/2 and extends beyond the border by half-sample symmetry.
Then the cosine transforms of both sizes nearly diagonalise A. With psi_k and phi_k the orthonormal DCT-II bases of
length m = n / f and n,

    A phi_{r m + k} = g_{r,k} psi_k  (r even),    A phi_{(r + 1) m - k} = g_{r,k} psi_k  (r odd),    r = 0 .. f - 1,

so that U = DCT-II of length m, s_k = |g_{:,k}|, and V mixes the f frequencies that alias onto one another by a
Householder reflection that sends e_0 to g_{:,k} / s_k. No matrix is stored and none is decomposed.

The bicubic kernel is that of Keys (1981, "Cubic convolution interpolation for digital image processing"), a = -0.5,
stretched by the factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError, ShapeError, as_whole, check_shape
from invsolve.core.constants import Constants
from invsolve.core.linalg import per_sample
from invsolve.core.operator import EMPTY, Params, Shape
from invsolve.core.svd import SVDOperator
from invsolve.operators.padding import extend, extend_adjoint
from invsolve.operators.shapes import image_shape
from invsolve.operators.transforms import dct2, idct2, real_images

__all__ = ["SuperResolution"]

KERNELS = ("bicubic", "average", "lanczos", "point")


def keys_cubic(t: Tensor) -> Tensor:
    """Keys' interpolation kernel with a = -0.5; zero beyond 2."""
    t = t.abs()
    inner = (1.5 * t - 2.5) * t**2 + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t <= 1, inner, torch.where(t < 2, outer, 0.0))


def lanczos(t: Tensor) -> Tensor:
    """sinc(t) sinc(t / 3), zero beyond 3 (the Lanczos filter, as in Pillow)."""
    return torch.where(t.abs() < 3, torch.sinc(t) * torch.sinc(t / 3), 0.0)


def taps(factor: int, kernel: str) -> tuple[int, Tensor]:
    """(offset, weights): row o is sum_j weights[j] x[factor o + offset + j]; the weights are symmetric and sum to 1."""
    centre = (factor - 1) / 2
    if kernel == "average" or factor == 1:
        return 0, torch.full((factor,), 1 / factor, dtype=torch.float64)
    width = 1 if kernel == "point" else factor
    reach = (2 if kernel == "bicubic" else 3) * width
    first, last = floor(centre - reach) + 1, ceil(centre + reach) - 1
    j = torch.arange(first, last + 1, dtype=torch.float64)
    weights = (keys_cubic if kernel == "bicubic" else lanczos)((j - centre) / width)
    return first, weights / weights.sum()


@dataclass(frozen=True, eq=False)
class _Axis:
    """The singular value decomposition of one axis: n samples become m = n / factor."""

    places: Tensor  # [factor, m]: the cosine frequency of entry (r, k) of the coefficients
    inverse: Tensor  # [n]: the entry of the coefficients that holds each frequency
    s: Tensor  # [m]
    mirror: Tensor  # [factor, m]: unit vectors w of the reflections I - 2 w w^T
    sign: Tensor  # [m]

    @staticmethod
    def build(n: int, factor: int, kernel: str) -> _Axis:
        m = n // factor
        offset, weights = taps(factor, kernel)
        r, k = torch.arange(factor)[:, None], torch.arange(m)
        places = torch.where(r % 2 == 0, r * m + k, (r + 1) * m - k)
        places[:, 0] = torch.arange(factor) * m
        distance = torch.arange(len(weights), dtype=torch.float64) + offset - (factor - 1) / 2
        response = torch.cos(torch.pi / n * places.double()[..., None] * distance) @ weights
        response = response * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)[r % 4] * factor**-0.5
        response[1:, 0] *= 2**0.5
        response[1::2, 0] = 0.0
        s = torch.linalg.vector_norm(response, dim=0)
        unit = response / s
        sign = torch.where(unit[0] < 0, 1.0, -1.0)
        mirror = unit.clone()
        mirror[0] -= sign
        mirror = mirror / torch.linalg.vector_norm(mirror, dim=0)
        return _Axis(places.flatten(), places.flatten().argsort(), s, mirror, sign.to(torch.float64))


class SuperResolution(SVDOperator):
    """y = A_h x A_w^T for each channel: the image downsampled by `factor`.

    Args:
        in_shape: (C, H, W) of the large image; H and W are multiples of `factor`.
        factor: a whole number, at least 1.
        kernel: "bicubic" (4 factor taps), "lanczos" (6 factor taps), "average" (the mean of each factor x factor block)
            or "point" (no averaging: the image's value at the middle of each block, by Lanczos interpolation if that
            lies between pixels).

    Raises:
        InputError: the factor is below 1 or larger than the image, or there is no such kernel.
        ShapeError: H or W is not a multiple of the factor.
    """

    def __init__(self, in_shape: Shape, factor: int, kernel: str = "bicubic") -> None:
        self.in_shape = c, h, w = image_shape(in_shape)
        if kernel not in KERNELS:
            raise InputError(f"the kernel of SuperResolution must be one of {', '.join(KERNELS)}; got {kernel!r}")
        self.factor = f = as_whole(factor, f"the factor for images of {h} x {w}", 1, min(h, w))
        self.kernel = kernel
        if h % f or w % f:
            raise ShapeError(
                f"height and width must be multiples of the factor {f}, got {h} x {w}: "
                f"crop the image to {h - h % f} x {w - w % f}"
            )
        self.out_shape = (c, h // f, w // f)
        self.offset, weights = taps(f, kernel)
        axes = {"h": _Axis.build(h, f, kernel), "w": _Axis.build(w, f, kernel)}
        named = {f"{name}_{key}": value for name, axis in axes.items() for key, value in vars(axis).items()}
        self._index = {key: named.pop(key) for key in list(named) if key.endswith(("places", "inverse"))}
        self.constants = Constants(weights=weights, **named)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        z = real_images(x)
        weights = self.constants.get("weights", z)
        z = extend(z, self._sides, self._sides, "symmetric").flatten(0, 1)[:, None]
        z = F.conv2d(z, weights[None, None, None], stride=(1, self.factor))
        z = F.conv2d(z, weights[None, None, :, None], stride=(self.factor, 1))
        return z.reshape(len(x), *self.out_shape).to(x.dtype)

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "SuperResolution.adjoint")
        self._no_parameters(theta)
        z = real_images(y).flatten(0, 1)[:, None]
        weights = self.constants.get("weights", z)
        z = F.conv_transpose2d(z, weights[None, None, :, None], stride=(self.factor, 1))
        z = F.conv_transpose2d(z, weights[None, None, None], stride=(1, self.factor))
        z = z.reshape(len(y), self.in_shape[0], *z.shape[-2:])
        return extend_adjoint(z, self._sides, self._sides, "symmetric").to(y.dtype)

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        """(A^T A + lam I)^-1 b = (b - A^T (A A^T + lam I)^-1 A b) / lam; the inner system is small and diagonal."""
        check_shape(b, self.in_shape, "SuperResolution.solve_normal")
        weight = per_sample(lam, b)
        inner = idct2(dct2(self.forward(b, theta)) / (self._small_spectrum(b) ** 2 + weight))
        return (b - self.adjoint(inner, theta)) / weight

    def ridge(self, residual: Tensor, lam: float | Tensor) -> Tensor:
        spectrum = self._small_spectrum(residual)
        return self.adjoint(idct2(dct2(residual) / (spectrum**2 + per_sample(lam, residual))))

    def pinv(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        """A^+ y = A^T (A A^T)^-1 y."""
        check_shape(y, self.out_shape, "SuperResolution.pinv")
        return self.adjoint(idct2(dct2(y) / self._small_spectrum(y) ** 2), theta)

    def spectrum(self, like: Tensor) -> Tensor:
        c, h, w = self.in_shape
        full = F.pad(self._small_spectrum(like), (0, w - w // self.factor, 0, h - h // self.factor))
        return full.expand(c, h, w).flatten()

    def V(self, c: Tensor) -> Tensor:
        z = c.reshape(-1, *self.in_shape)
        z = self._mix(self._mix(z, "w", forward=True).mT, "h", forward=True).mT
        return idct2(z)

    def Vt(self, x: Tensor) -> Tensor:
        z = dct2(x)
        z = self._mix(self._mix(z, "w", forward=False).mT, "h", forward=False).mT
        return z.flatten(1)

    def U(self, c: Tensor) -> Tensor:
        _, m_h, m_w = self.out_shape
        return idct2(c.reshape(-1, *self.in_shape)[..., :m_h, :m_w])

    def Ut(self, y: Tensor) -> Tensor:
        (_, h, w), (_, m_h, m_w) = self.in_shape, self.out_shape
        return F.pad(dct2(y), (0, w - m_w, 0, h - m_h)).flatten(1)

    @property
    def _sides(self) -> tuple[int, int]:
        return -self.offset, len(self.constants["weights"]) + self.offset - self.factor

    def _small_spectrum(self, like: Tensor) -> Tensor:
        return self.constants.get("h_s", like)[:, None] * self.constants.get("w_s", like)

    def _mix(self, z: Tensor, axis: str, *, forward: bool) -> Tensor:
        """Map coefficients to cosine frequencies along the last dimension, or back: reflections of aliased groups."""
        mirror, sign = self.constants.get(f"{axis}_mirror", z), self.constants.get(f"{axis}_sign", z)
        if not forward:
            z = z.index_select(-1, self._index[f"{axis}_places"].to(z.device))
        z = z.unflatten(-1, mirror.shape)
        if forward:
            z = torch.cat([z[..., :1, :] * sign, z[..., 1:, :]], -2)
        z = z - 2 * mirror * (mirror * z).sum(-2, keepdim=True)
        if forward:
            return z.flatten(-2).index_select(-1, self._index[f"{axis}_inverse"].to(z.device))
        return torch.cat([z[..., :1, :] * sign, z[..., 1:, :]], -2).flatten(-2)

    def __repr__(self) -> str:
        return f"SuperResolution({list(self.in_shape)}, factor={self.factor}, kernel={self.kernel!r})"
