"""Changes of brightness: clipping, rounding, tone curves, and a camera that blurs before all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.checks import InputError, as_whole, check_positive
from invsolve.core.linalg import column
from invsolve.core.operator import EMPTY, Operator, Params, Shape
from invsolve.operators.shapes import image_shape, positive_shape
from invsolve.operators.varying import VaryingBlur

__all__ = ["CameraBlur", "HighDynamicRange", "Quantisation", "ToneCurve"]

DARK = 1e-3
"""Powers below 1 are infinitely steep at black, so values are clamped to at least this."""


class HighDynamicRange(Operator):
    """y = clip(1/2 + f (x - 1/2), 0, 1): contrast f times too high with both ends clipped.

    In [-1, 1] units it is clip(f x, -1, 1).

    Args:
        in_shape: shape of one sample.
        factor: f, above 0; the published value is 2.
    """

    def __init__(self, in_shape: Shape, factor: float = 2.0) -> None:
        self.in_shape = self.out_shape = positive_shape(in_shape)
        check_positive(factor, "factor")
        self.factor = factor

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        return (0.5 + self.factor * (x - 0.5)).clamp(0, 1)

    def __repr__(self) -> str:
        return f"HighDynamicRange({list(self.in_shape)}, factor={self.factor})"


class Quantisation(Operator):
    """y = round(x (L - 1)) / (L - 1), clipped to [0, 1]; the gradient is that of the clipping (straight through).

    Args:
        in_shape: shape of one sample.
        levels: L, at least 2.
    """

    surrogate_gradient = True

    def __init__(self, in_shape: Shape, levels: int = 8) -> None:
        self.in_shape = self.out_shape = positive_shape(in_shape)
        self.levels = as_whole(levels, "levels", 2)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        z, steps = x.clamp(0, 1), self.levels - 1
        return z + ((z * steps).round() / steps - z).detach()

    def __repr__(self) -> str:
        return f"Quantisation({list(self.in_shape)}, levels={self.levels})"


class ToneCurve(Operator):
    """y = x^gamma with x clamped to at least 0.001; gamma is given, or is unknown as theta["gamma"] ([N] or [N, 1]).

    Args:
        in_shape: shape of one sample.
        gamma: above 0; 1 / 2.2 encodes linear light for a display. None if it is unknown.
    """

    def __init__(self, in_shape: Shape, gamma: float | None = None) -> None:
        self.in_shape = self.out_shape = positive_shape(in_shape)
        if gamma is not None:
            check_positive(gamma, "gamma")
        self.gamma = gamma
        self.parameters = ("gamma",) if gamma is None else ()

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return power(x, self._exponent(x, theta))

    def _exponent(self, x: Tensor, theta: Params) -> Tensor | float:
        if self.gamma is not None:
            self._no_parameters(theta)
            return self.gamma
        if set(theta) != {"gamma"}:
            raise InputError(f'this ToneCurve needs theta["gamma"], one number per sample, got {sorted(theta)}')
        return column(theta["gamma"].to(x), x)

    def __repr__(self) -> str:
        return f"ToneCurve({list(self.in_shape)}, gamma={'unknown' if self.gamma is None else self.gamma})"


class CameraBlur(Operator):
    """A moving camera: light adds up linearly, the sensor saturates, the image is encoded.

        y = min(exposure * sum_i w_i * (k_i * x^gamma), 1)^(1 / gamma)

    This non-linear blur needs no network weights: highlights are smeared as in photographs.

    Args:
        in_shape: (C, H, W).
        kernels: [K, h, w], as for `VaryingBlur`.
        weights: [K, H, W], as for `VaryingBlur`; a single kernel needs none.
        gamma: exponent of the encoding, above 0.
        exposure: above 0; values above 1 saturate bright areas.
    """

    def __init__(
        self,
        in_shape: Shape,
        kernels: Tensor,
        weights: Tensor | None = None,
        gamma: float = 2.2,
        exposure: float = 1.0,
    ) -> None:
        self.in_shape = self.out_shape = image_shape(in_shape)
        check_positive(gamma, "gamma")
        check_positive(exposure, "exposure")
        self.blur, self.gamma, self.exposure = VaryingBlur(in_shape, kernels, weights), gamma, exposure

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        light = self.exposure * self.blur(power(x, self.gamma))
        return power(light.clamp_max(1.0), 1 / self.gamma)

    def __repr__(self) -> str:
        return f"CameraBlur({self.blur!r}, gamma={self.gamma}, exposure={self.exposure})"


def power(x: Tensor, exponent: Tensor | float) -> Tensor:
    """x^exponent with x clamped to at least 0.001."""
    return torch.pow(x.clamp_min(DARK), exponent)
