"""Phase retrieval: the modulus of a Fourier transform is measured, its phase is lost."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.constants import Constants
from invsolve.core.operator import EMPTY, Operator, Params, Shape
from invsolve.core.rng import NoiseSource
from invsolve.operators.shapes import digest, image_shape
from invsolve.operators.transforms import real_images

__all__ = ["CodedDiffraction", "FourierMagnitude"]

SMOOTH = 1e-6
"""The modulus is sqrt(|u|^2 + 1e-12), which is also differentiable at 0."""


def _modulus(u: Tensor) -> Tensor:
    return (u.real.square() + u.imag.square() + SMOOTH**2).sqrt()


class FourierMagnitude(Operator):
    """y = |F P x|: P pads the image with zeros to `oversampling` times its sides, F is orthonormal.

    An image, its mirror image about the middle, and shifted versions of both have the same measurement.

    Args:
        in_shape: (C, H, W).
        oversampling: factor for each side, at least 1; 2 determines most images up to these ambiguities.
    """

    def __init__(self, in_shape: Shape, oversampling: float = 2.0) -> None:
        self.in_shape = c, h, w = image_shape(in_shape)
        if not oversampling >= 1:
            raise InputError(f"oversampling must be at least 1, got {oversampling}")
        self.oversampling = oversampling
        self.out_shape = (c, round(oversampling * h), round(oversampling * w))

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        u = torch.fft.fft2(real_images(x), self.out_shape[1:], norm="ortho")
        return _modulus(u).to(x.dtype)

    def __repr__(self) -> str:
        return f"FourierMagnitude({list(self.in_shape)}, oversampling={self.oversampling})"


class CodedDiffraction(Operator):
    """y_m = |F (exp(i phi_m) x)|: diffraction patterns behind random phase masks, F orthonormal.

    Candes, Li and Soltanolkotabi 2015, arXiv 1310.3240.

    Args:
        in_shape: (C, H, W).
        masks: number of patterns, at least 1; about 4 determine an image.
        rng: noise source; the phases are drawn once, on construction.
    """

    def __init__(self, in_shape: Shape, masks: int = 4, *, rng: NoiseSource) -> None:
        self.in_shape = c, h, w = image_shape(in_shape)
        if masks < 1:
            raise InputError(f"at least one mask is needed, got {masks}")
        self.out_shape = (masks * c, h, w)
        phases = 2 * torch.pi * rng.uniform(torch.empty(1, masks, 1, h, w, dtype=torch.float64))[0]
        self.constants = Constants(code=torch.polar(torch.ones_like(phases), phases))

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        z = real_images(x)
        u = torch.fft.fft2(self.constants.get("code", z) * z[:, None], norm="ortho")
        return _modulus(u).flatten(1, 2).to(x.dtype)

    def __repr__(self) -> str:
        code = digest(torch.view_as_real(self.constants["code"]))
        return f"CodedDiffraction({list(self.in_shape)} -> {list(self.out_shape)}, code={code})"
