"""Several measurements of one scene, and measurements through partly unknown optics."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import torch
from torch import Tensor

from invsolve.core.checks import InputError, ShapeError, as_tensor, as_whole, check_positive, check_shape
from invsolve.core.compose import Stack
from invsolve.core.constants import Constants
from invsolve.core.linalg import per_sample
from invsolve.core.operator import EMPTY, LinearOperator, Operator, Params, Shape
from invsolve.operators.blind import BlindBlur
from invsolve.operators.blur import Blur
from invsolve.operators.colour import Colourisation
from invsolve.operators.resize import SuperResolution
from invsolve.operators.shapes import digest, image_shape

__all__ = ["BlindDownsampling", "Decimation", "MultiFrame", "PanSharpening", "Shift", "ShiftedMask"]


def Shift(in_shape: Shape, rows: float, columns: float, padding: str = "circular") -> LinearOperator:
    """y(i, j) = x(i - rows, j - columns), bilinear between pixels: a `Blur` whose kernel has up to four taps.

    Args:
        in_shape: (C, H, W).
        rows, columns: shift down and to the right in pixels, smaller than height / 2 - 1 and width / 2 - 1.
        padding: as for `Blur`.
    """
    _, h, w = image_shape(in_shape)
    if not (abs(rows) < h / 2 - 1 and abs(columns) < w / 2 - 1):
        raise InputError(f"shifts must be below half of the {h} x {w} image, got {rows} and {columns}")
    reach = [ceil(abs(move)) for move in (rows, columns)]
    kernel = torch.zeros(2 * reach[0] + 1, 2 * reach[1] + 1, dtype=torch.float64)
    for down in (0, 1):
        for right in (0, 1):
            row, column = floor(-rows) + down, floor(-columns) + right
            share = (1 - abs(-rows - row)) * (1 - abs(-columns - column))
            if share > 0:
                kernel[row + reach[0], column + reach[1]] += share
    return Blur(in_shape, kernel, padding)


class Decimation(LinearOperator):
    """y = every f-th row and column of x, starting with the first: sampling without anti-aliasing. A A^T = I.

    Args:
        in_shape: (C, H, W).
        factor: f, a whole number of at least 1.
    """

    def __init__(self, in_shape: Shape, factor: int) -> None:
        self.in_shape = c, h, w = image_shape(in_shape)
        self.factor = as_whole(factor, f"the factor for images of {h} x {w}", 1, min(h, w))
        self.out_shape = (c, ceil(h / self.factor), ceil(w / self.factor))

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        return x[..., :: self.factor, :: self.factor].clone()

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "Decimation.adjoint")
        self._no_parameters(theta)
        x = y.new_zeros(len(y), *self.in_shape)
        x[..., :: self.factor, :: self.factor] = y
        return x

    pinv = adjoint

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(b, self.in_shape, "Decimation.solve_normal")
        weight = per_sample(lam, b)
        return (b - self.adjoint(self.forward(b)) / (1 + weight)) / weight

    def __repr__(self) -> str:
        return f"Decimation({list(self.in_shape)}, factor={self.factor})"


def BlindDownsampling(in_shape: Shape, factor: int, kernel_shape: tuple[int, int]) -> Operator:
    """y = every f-th pixel of k * x with an unknown anti-aliasing filter k = theta["kernel"], see `BlindBlur`."""
    return Decimation(in_shape, factor) @ BlindBlur(in_shape, kernel_shape, "reflect")


def MultiFrame(in_shape: Shape, factor: int, shifts: Sequence[tuple[float, float]]) -> Operator:
    """Downsampled frames of a scene that moves between them: y_i = SuperResolution(Shift_i(x)), stacked.

    Args:
        in_shape: (C, H, W) of the large image.
        factor: downsampling factor of each frame.
        shifts: shift (rows, columns) of the scene in each frame, in pixels of the large image.
    """
    if not shifts:
        raise InputError("MultiFrame needs the shift of at least one frame, such as (0, 0)")
    small = SuperResolution(in_shape, factor)
    return Stack(*(small @ Shift(in_shape, *move, padding="symmetric") for move in shifts))


def PanSharpening(in_shape: Shape, factor: int, weights: Sequence[float] | None = None) -> Operator:
    """A small colour image and a large brightness image: y = [SuperResolution(x), Colourisation(x)], stacked.

    Args:
        in_shape: (C, H, W).
        factor: downsampling factor of the colour image.
        weights: weights of the channels in the brightness, see `Colourisation`.
    """
    return Stack(SuperResolution(in_shape, factor), Colourisation(in_shape, weights))


class ShiftedMask(Operator):
    """y = m(. - o) * x: a known, soft mask at an unknown offset o = theta["offset"] ([N, 2]: rows, columns).

    The mask is shifted in the Fourier domain, m(. - o) = F^-1 exp(-2 pi i f o) F m, so y is differentiable in o.

    Args:
        in_shape: (C, H, W).
        mask: [H, W] in [0, 1]; it is smoothed by a Gaussian, so that it can be shifted by fractions of a pixel.
        softness: standard deviation of that Gaussian in pixels, above 0.
    """

    parameters = ("offset",)

    def __init__(self, in_shape: Shape, mask: Tensor, softness: float = 1.0) -> None:
        self.in_shape = self.out_shape = _, h, w = image_shape(in_shape)
        mask = as_tensor(mask, "the mask")
        if tuple(mask.shape) != (h, w):
            raise ShapeError(f"the mask must be [{h}, {w}], got {list(mask.shape)}")
        check_positive(softness, "softness")
        f = [torch.fft.fftfreq(h, dtype=torch.float64)[:, None], torch.fft.rfftfreq(w, dtype=torch.float64)[None]]
        smooth = torch.exp(-2 * (torch.pi * softness) ** 2 * (f[0] ** 2 + f[1] ** 2))
        spectrum = smooth * torch.fft.rfft2(mask.double())
        self.constants = Constants(spectrum=spectrum, rows=f[0], columns=f[1])

    def mask(self, offset: Tensor) -> Tensor:
        """The mask shifted by offsets [N, 2], as [N, 1, H, W]."""
        turn = self.constants.get("rows", offset) * offset[:, 0, None, None]
        turn = -2 * torch.pi * (turn + self.constants.get("columns", offset) * offset[:, 1, None, None])
        moved = self.constants.get("spectrum", offset) * torch.polar(torch.ones_like(turn), turn)
        return torch.fft.irfft2(moved, self.in_shape[1:])[:, None]

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        if set(theta) != {"offset"}:
            raise InputError(f'ShiftedMask needs theta["offset"] of shape [N, 2], got {sorted(theta)}')
        offset = theta["offset"].to(x)
        check_shape(offset, (2,), 'theta["offset"]')
        return self.mask(offset) * x

    def __repr__(self) -> str:
        return f"ShiftedMask({list(self.in_shape)}, mask={digest(torch.view_as_real(self.constants['spectrum']))})"
