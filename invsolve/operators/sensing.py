"""Compressed sensing: few measurements, each a mixture of all pixels, with orthonormal rows (A A^T = I)."""

from __future__ import annotations

from abc import abstractmethod
from math import ceil, prod

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.constants import Constants
from invsolve.core.operator import Shape
from invsolve.core.rng import NoiseSource
from invsolve.core.svd import SVDOperator
from invsolve.operators.shapes import digest, image_shape
from invsolve.operators.transforms import real_images

__all__ = ["HadamardSensing", "RandomConvolution"]


class _Sensing(SVDOperator):
    """y = m selected coefficients V^T x of each channel, V orthonormal."""

    def __init__(self, in_shape: Shape, ratio: float, rng: NoiseSource) -> None:
        self.in_shape = c, h, w = image_shape(in_shape)
        if not 0 < ratio <= 1:
            raise InputError(f"ratio (measurements to pixels) must be above 0 and at most 1, got {ratio}")
        pixels = h * w
        kept = rng.uniform(torch.empty(1, pixels, dtype=torch.float64))[0].argsort()[: ceil(ratio * pixels)]
        self.rows = kept.sort().values
        self.out_shape = (c, len(self.rows))

    @abstractmethod
    def _mix(self, x: Tensor) -> Tensor:
        """V^T of each channel, [N, C, H W]."""

    @abstractmethod
    def _unmix(self, c: Tensor) -> Tensor:
        """V of each channel, [N, C, H, W]."""

    def spectrum(self, like: Tensor) -> Tensor:
        c, pixels = self.in_shape[0], prod(self.in_shape[1:])
        s = torch.zeros(c, pixels, dtype=like.dtype, device=like.device)
        s[:, self.rows.to(like.device)] = 1
        return s.flatten()

    def V(self, c: Tensor) -> Tensor:
        return self._unmix(c.reshape(len(c), self.in_shape[0], -1))

    def Vt(self, x: Tensor) -> Tensor:
        return self._mix(x).flatten(1)

    def U(self, c: Tensor) -> Tensor:
        return c.reshape(len(c), self.in_shape[0], -1)[..., self.rows.to(c.device)]

    def Ut(self, y: Tensor) -> Tensor:
        full = y.new_zeros(len(y), self.in_shape[0], prod(self.in_shape[1:]))
        return full.index_copy(2, self.rows.to(y.device), y).flatten(1)

    def __repr__(self) -> str:
        kind, rows = type(self).__name__, digest(self.rows.double())
        return f"{kind}({list(self.in_shape)} -> {list(self.out_shape)}, {rows}:{digest(self._drawn)})"

    @property
    @abstractmethod
    def _drawn(self) -> Tensor:
        """The random numbers that define V."""


class HadamardSensing(_Sensing):
    """y = P H (s * x): random signs s, an orthonormal Walsh-Hadamard transform H, a random selection of rows P.

    Args:
        in_shape: (C, H, W) with H and W powers of two.
        ratio: number of measurements for each pixel, in (0, 1].
        rng: noise source; signs and rows are drawn once, on construction, and the channels share them.
    """

    def __init__(self, in_shape: Shape, ratio: float = 0.25, *, rng: NoiseSource) -> None:
        super().__init__(in_shape, ratio, rng)
        _, h, w = self.in_shape
        if h & (h - 1) or w & (w - 1):
            raise InputError(f"a Hadamard transform needs sides that are powers of two, got {h} x {w}")
        signs = torch.where(rng.uniform(torch.empty(1, h, w, dtype=torch.float64))[0] < 0.5, -1.0, 1.0)
        self.constants = Constants(signs=signs.double())

    @property
    def _drawn(self) -> Tensor:
        return self.constants["signs"]

    def _mix(self, x: Tensor) -> Tensor:
        return hadamard((self.constants.get("signs", x) * x).flatten(2))

    def _unmix(self, c: Tensor) -> Tensor:
        return self.constants.get("signs", c) * hadamard(c).reshape(len(c), *self.in_shape)


class RandomConvolution(_Sensing):
    """y = P (k * x): a circular convolution with a filter of modulus one and random phases, then a random selection.

    Romberg 2009, "Compressive sensing by random convolution", SIAM J. Imaging Sci.

    Args:
        in_shape: (C, H, W).
        ratio: number of measurements for each pixel, in (0, 1].
        rng: noise source; the filter and the pixels are drawn once, on construction, and the channels share them.
    """

    def __init__(self, in_shape: Shape, ratio: float = 0.25, *, rng: NoiseSource) -> None:
        super().__init__(in_shape, ratio, rng)
        _, h, w = self.in_shape
        spectrum = torch.fft.rfft2(rng.normal(torch.empty(1, h, w, dtype=torch.float64))[0])
        self.constants = Constants(filter=spectrum / spectrum.abs())

    @property
    def _drawn(self) -> Tensor:
        return torch.view_as_real(self.constants["filter"])

    def _mix(self, x: Tensor) -> Tensor:
        return self._filtered(x, conjugate=False).flatten(2)

    def _unmix(self, c: Tensor) -> Tensor:
        return self._filtered(c.reshape(len(c), *self.in_shape), conjugate=True)

    def _filtered(self, x: Tensor, *, conjugate: bool) -> Tensor:
        z = real_images(x)
        response = self.constants.get("filter", z)
        response = response.conj() if conjugate else response
        return torch.fft.irfft2(torch.fft.rfft2(z) * response, z.shape[-2:]).to(x.dtype)


def hadamard(x: Tensor) -> Tensor:
    """The orthonormal Walsh-Hadamard transform (natural order) along the last dimension, a power of two."""
    n, half = x.shape[-1], 1
    while half < n:
        x = x.unflatten(-1, (-1, 2, half))
        a, b = x[..., 0, :], x[..., 1, :]
        x = torch.stack([a + b, a - b], -2).flatten(-3)
        half *= 2
    return x / n**0.5
