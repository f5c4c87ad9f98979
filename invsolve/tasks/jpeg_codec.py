"""JPEG as a linear measurement: block DCT coefficients, each known to about a quantisation step.

The quantised coefficients can be recovered from a decoded file: colours are transformed back, the decoder's
interpolation of subsampled colours is undone, and the DCT coefficients of each block are then integer multiples of the
quantisation steps. The coefficients of the image before compression are in the cells around these multiples. The solver
uses the first two moments of a cell: its middle, and 1 / sqrt(12) of the step as standard deviation.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import check_shape
from invsolve.core.constants import Constants
from invsolve.core.linalg import conjugate_gradient, laplacian, per_sample
from invsolve.core.operator import EMPTY, LinearOperator, Params
from invsolve.io.cosines import DCT, YCC, blocks_of, cosines, image_of
from invsolve.io.jpeg import JPEGTables

__all__ = [
    "JPEGCoefficients",
    "coefficients",
    "error_of",
    "expected_error",
    "expected_variances",
    "interpolated",
    "noise_bound",
    "padded_size",
    "planes_of",
    "rounding",
    "shrunk",
    "subsampled",
    "typical_error",
]

CELL = 12**-0.5
"""Standard deviation of a uniform distribution of width 1."""

PHOTOGRAPH = 60.0
"""Standard deviation of a photograph's lowest block DCT coefficients, in units of 1 / 255."""

RELIABLE = 4
"""Number of nonzero coefficients needed to estimate the width of a frequency's distribution."""

MOSTLY = 0.3
"""Share of zeros above which a frequency counts as unknown."""

EXACT = 0.25
"""Largest distance, in steps, at which a decoded coefficient is rounded to a multiple of its step."""

_ROWS, _COLUMNS = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")


def shrunk(x: Tensor, sampling: tuple[int, int]) -> Tensor:
    """Average the pixels that share a colour value."""
    return x if sampling == (1, 1) else F.avg_pool2d(x[None], sampling)[0]


def interpolated(x: Tensor, sampling: tuple[int, int]) -> Tensor:
    """Upsample subsampled colours as libjpeg does: 3/4 of the nearer value and 1/4 of the next along each axis."""
    for dim, factor in ((-2, sampling[0]), (-1, sampling[1])):
        if factor == 2:
            n = x.shape[dim]
            places = torch.arange(n, device=x.device)
            before = x.index_select(dim, (places - 1).clamp_min(0))
            after = x.index_select(dim, (places + 1).clamp_max(n - 1))
            pair = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim)
            x = pair.flatten(dim - 1, dim)
    return x


def subsampled(x: Tensor, sampling: tuple[int, int]) -> Tensor:
    """Return the subsampled colours from which `interpolated` produces x."""
    small = mean = shrunk(x, sampling)
    if sampling == (1, 1):
        return small
    for _ in range(40):
        small = small + 1.3 * (mean - shrunk(interpolated(small, sampling), sampling))
    return small


def padded_size(size: tuple[int, int], tables: JPEGTables) -> tuple[int, int]:
    """Return height and width rounded up to whole blocks."""
    rows, columns = (8 * factor for factor in tables.sampling)
    return -(-size[0] // rows) * rows, -(-size[1] // columns) * columns


def coefficients(y: Tensor, tables: JPEGTables) -> list[Tensor]:
    """Return the coefficients of a decoded image in units of their steps, per plane [rows, columns, 8, 8], in float64.

    They are integers, except for blocks that are cut by the image border or whose pixels were clipped.

    Args:
        y: [C, H, W] in [0, 1] as stored, before any orientation mark is applied.
        tables: tables of the file.
    """
    height, width = padded_size((y.shape[1], y.shape[2]), tables)
    x = F.pad(y[None].double(), (0, width - y.shape[2], 0, height - y.shape[1]), mode="replicate")[0]
    found = []
    for k, plane in enumerate(planes_of(255 * x, tables)):
        level = 128.0 if k == 0 or tables.chroma is None else 0.0
        small = subsampled(plane[None] - level, tables.sampling if k and tables.chroma is not None else (1, 1))[0]
        raw = cosines(small) / tables.steps(k)
        found.append(torch.where((raw - raw.round()).abs() <= EXACT, raw.round(), raw))
    return found


def planes_of(x: Tensor, tables: JPEGTables) -> Tensor:
    """Convert [..., C, H, W] to luma and two chroma planes; x itself if the file has no chroma."""
    return x if tables.chroma is None else torch.einsum("ij,...jhw->...ihw", YCC.to(x), x)


def expected_error(y: Tensor, tables: JPEGTables) -> float:
    """Estimate the root mean square of the compression error, in [0, 1] units, from the decoded image alone.

    See `expected_variances`.
    """
    return error_of(expected_variances(y, tables), tables)


def error_of(variances: list[Tensor], tables: JPEGTables) -> float:
    """Return the root mean square error over the image, in [0, 1] units, for the given `expected_variances`."""
    errors = [float(each.mean()) for each in variances]
    if tables.chroma is None:
        return (sum(errors) / len(errors)) ** 0.5 / 255
    gains = torch.linalg.inv(YCC).square().sum(0) / 3
    return sum(float(gain) * error for gain, error in zip(gains, errors, strict=True)) ** 0.5 / 255


def expected_variances(y: Tensor, tables: JPEGTables, noise: float = 0.0) -> list[Tensor]:
    """Estimate the variance [8, 8] of the compression error per frequency and plane, in units of 1 / 255^2.

    White noise of standard deviation `noise` before compression adds to the variance of nonzero coefficients. In
    coefficients that were rounded to zero, it is already part of the compression error.

    The coefficients of one frequency follow a Laplacian distribution. Its width follows from the share of zeros. If
    nearly all coefficients are zero, the width is extrapolated from the lower frequencies, as a power of the frequency.
    The variance of a zero coefficient is that of the distribution within its cell; for other cells it is step^2 / 12.
    """
    variances = []
    for k, found in enumerate(coefficients(y, tables)):
        steps, values = tables.steps(k).flatten(), found.flatten(0, 1).flatten(1).round()
        zero = (values == 0).double().mean(0)
        half = 0.5 * steps / _laplacian_widths(zero, steps, len(values))
        inside = 0.25 * steps**2 * (2 / half**2 - torch.exp(-half) * (1 + 2 / half + 2 / half**2))
        hidden = inside / -torch.expm1(-half)
        within = 1.0 if tables.chroma is None else float(YCC[k].square().sum())
        within /= prod(tables.sampling) if k else 1
        left = within * (255 * noise) ** 2
        variance = zero * hidden.clamp_max(steps**2 / 12) + (1 - zero) * (steps**2 / 12 + left)
        variances.append(variance.view(8, 8))
    return variances


def rounding(y: Tensor, tables: JPEGTables) -> Tensor:
    """Return the variance [8, 8] that rounding added to each frequency of the luma, in units of 1 / 255^2.

    It is infinite where many coefficients were rounded to zero (a share above MOSTLY): these are unknown.
    """
    zero = (coefficients(y, tables)[0].flatten(0, 1).round() == 0).double().mean(0)
    return torch.where(zero > MOSTLY, torch.inf, tables.steps(0) ** 2 / 12)


def noise_bound(y: Tensor, tables: JPEGTables) -> float:
    """Return an upper bound of the noise level before compression, in [0, 1] units.

    White noise is present in every frequency of the luma, so it cannot exceed the weakest frequency.
    """
    found = coefficients(y, tables)[0].flatten(0, 1).flatten(1).round()
    zero = (found == 0).double().mean(0)
    return 2**0.5 * float(_laplacian_widths(zero, tables.steps(0).flatten(), len(found))[1:].min()) / 255


def _laplacian_widths(zero: Tensor, steps: Tensor, n: int) -> Tensor:
    """Scales b of the distributions exp(-|c| / b) of 64 frequencies, in units of 1 / 255.

    `zero` holds the shares of zeros [64], and n is the number of blocks.
    """
    told = (zero <= 1 - RELIABLE / n) & (zero < 1)
    widths = -0.5 * steps / torch.log1p(-zero.clamp(0.5 / n, 1 - 0.5 / n))
    radius = torch.hypot(_ROWS, _COLUMNS).flatten().clamp_min(1).double()
    told[0] = False
    slope, anchor = -2.0, float((widths * radius**2)[1:].min().log())
    if bool(told.any()):
        x, z = radius[told].log(), widths[told].log()
        spread = float((x - x.mean()).square().sum())
        if spread > 0.5:
            slope = min(max(float(((x - x.mean()) * (z - z.mean())).sum()) / spread, -4.0), -1.0)
        anchor = float((z - slope * x).mean())
    fitted = torch.exp(anchor + slope * radius.log())
    return torch.where(told, widths, torch.minimum(fitted, widths))


def typical_error(tables: JPEGTables) -> float:
    """`expected_error` of a typical photograph: standard deviations of coefficients fall as 1 / frequency."""
    spread = PHOTOGRAPH / torch.hypot(_ROWS, _COLUMNS).clamp_min(1)
    return float(torch.minimum(tables.steps(0) / 12**0.5, spread).square().mean().sqrt()) / 255


class CoefficientOperator(LinearOperator):
    """A linear operator whose solves follow from its `ridge`, which works on the coefficients."""

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(b, self.in_shape, f"{type(self).__name__}.solve_normal")
        return (b - self.ridge(self.forward(b), lam)) / per_sample(lam, b)

    def solve_smooth(self, b: Tensor, lam: float | Tensor) -> Tensor:
        weight = per_sample(lam, b)
        return conjugate_gradient(lambda v: self.normal(v) + weight * laplacian(v), b, tol=1e-3, max_iter=60).x


class JPEGCoefficients(CoefficientOperator):
    """y = the block DCT coefficients of an image in units of quantisation steps, times `scale`, without level shift.

    Args:
        in_shape: (C, H, W) in whole blocks; images in [0, 1].
        tables: tables of the file.
        scale: value of one quantisation step in y; the uniform error in a cell has std scale / sqrt(12).
        spread: [planes, 8, 8], see `JPEG`.
    """

    def __init__(
        self, in_shape: tuple[int, int, int], tables: JPEGTables, scale: float, spread: Tensor | None = None
    ) -> None:
        channels, height, width = self.in_shape = in_shape
        self.tables, self.scale = tables, scale
        self._coloured = tables.chroma is not None and channels == 3
        self._sampling = [tables.sampling if self._coloured and k else (1, 1) for k in range(channels)]
        self._sizes = [(height // v // 8, width // h // 8) for v, h in self._sampling]
        self.out_shape = (sum(64 * rows * columns for rows, columns in self._sizes),)
        weights = torch.stack([255 * scale / tables.steps(k if self._coloured else 0) for k in range(channels)])
        weights = weights if spread is None else weights / spread[: len(weights)]
        self.constants = Constants(dct=DCT, ycc=YCC, weights=weights)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        dct, weights = self.constants.get("dct", x), self.constants.get("weights", x)
        planes = torch.einsum("ij,njhw->nihw", self.constants.get("ycc", x), x) if self._coloured else x
        parts = []
        for k, sampling in enumerate(self._sampling):
            small = shrunk(planes[:, k], sampling)
            parts.append((weights[k] * (dct @ blocks_of(small) @ dct.mT)).flatten(1))
        return torch.cat(parts, 1)

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "JPEGCoefficients.adjoint")
        dct, weights = self.constants.get("dct", y), self.constants.get("weights", y)
        planes = []
        for k, part in enumerate(y.split([64 * rows * columns for rows, columns in self._sizes], 1)):
            (rows, columns), (v, h) = self._sizes[k], self._sampling[k]
            small = image_of(dct.mT @ (weights[k] * part.view(-1, rows, columns, 8, 8)) @ dct)
            planes.append(small.repeat_interleave(v, -2).repeat_interleave(h, -1) / (v * h))
        x = torch.stack(planes, 1)
        return torch.einsum("ji,njhw->nihw", self.constants.get("ycc", y), x) if self._coloured else x

    def ridge(self, residual: Tensor, lam: float | Tensor) -> Tensor:
        """A^T (A A^T + lam I)^-1 r, by conjugate gradients: luma and chroma are weakly coupled."""
        weight = per_sample(lam, residual)
        diagonal = self.diagonal(residual) + weight
        solved = conjugate_gradient(
            lambda v: self.forward(self.adjoint(v)) + weight * v, residual, precondition=lambda v: v / diagonal,
            tol=1e-4, max_iter=40, check_every=4,
        )  # fmt: skip
        return self.adjoint(solved.x)

    def diagonal(self, like: Tensor) -> Tensor:
        """The diagonal of A A^T, [K]."""
        weights = self.constants.get("weights", like)
        power = self.constants.get("ycc", like).square().sum(1) if self._coloured else weights.new_ones(len(weights))
        parts: list[Any] = []
        for k, ((rows, columns), (v, h)) in enumerate(zip(self._sizes, self._sampling, strict=True)):
            parts.append((power[k] / (v * h) * weights[k] ** 2).expand(rows, columns, 8, 8).flatten())
        return torch.cat(parts)

    def __repr__(self) -> str:
        return f"JPEGCoefficients({list(self.in_shape)}, quality {self.tables.quality}, {self.tables.sampling})"
