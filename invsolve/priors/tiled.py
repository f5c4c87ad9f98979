"""Large images with bounded memory: a prior evaluated on overlapping tiles that are blended without seams.

    D(x)[p] = sum_i w_i(p) D_i(x)[p],     sum_i w_i(p) = 1,     D_i(x) = the denoiser on tile i alone

Only the network is tiled. Operators, data steps and solvers work on the whole image, so the data cannot cause seams,
and every solver works unchanged. Tiles start at multiples of 16 pixels. A network that works at down to one sixteenth
of the resolution then sees every pixel at the same position of its grid, in whichever tile the pixel is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from invsolve.core.checks import CapabilityError, InputError, check_shape
from invsolve.core.prior import Prediction, Prior, WrappedPrior

__all__ = ["GRID", "TiledPrior", "extents"]

GRID = 16
"""Tiles start at multiples of this many pixels."""


@dataclass(frozen=True)
class _Span:
    """The extent of a tile along one axis, and its weight [stop - start] at every pixel there."""

    start: int
    stop: int
    weight: Tensor


_Piece: TypeAlias = tuple[int, _Span, _Span]
"""A tile of a sample: the row in the batch, and the rows and columns in the image."""


def extents(length: int, tile: int, overlap: int, *, fixed: bool = False, grid: int = GRID) -> list[tuple[int, int]]:
    """Start and stop of tiles along an axis: the fewest tiles of at most `tile` pixels, of one side but for the last.

    The side is the smallest for which neighbours share `overlap` pixels. An image slightly larger than a tile is
    therefore cut into two halves instead of two tiles of full size. The last tile ends at the end of the image.

    Args:
        length: length of the axis in pixels.
        tile, overlap: multiples of `grid`, see `TiledPrior`.
        fixed: every tile but the last has the side `tile`, for padded priors of that size; neighbours then share more
            pixels.
        grid: tiles start at multiples of this number.
    """
    if length <= tile:
        return [(0, length)]
    n = math.ceil((length - overlap) / (tile - overlap))
    side = tile if fixed else math.ceil((length + (n - 1) * overlap) / (n * grid)) * grid
    last = math.ceil((length - side) / grid)
    starts = [round(i * last / (n - 1)) * grid for i in range(n)]
    return [(start, min(start + side, length)) for start in starts]


class TiledPrior(WrappedPrior):
    """A prior evaluated on overlapping tiles.

    The value of a pixel comes from tiles in which it is at least `overlap` / 4 pixels away from the cut. Between two
    tiles, the weights change from one to the other by a raised cosine. Images no larger than a tile are passed on as a
    whole. If gradients are needed, the activations of each tile are recomputed in the backward pass instead of being
    stored, so `max_pixels` bounds the memory there as well.

    Args:
        prior: the prior, for images of any size; `invsolve.priors.padded.fitted` pads and tiles one of a single size.
        tile: largest side of a tile in pixels, a multiple of `grid`; see `extents` for the actual side.
        overlap: smallest number of pixels that neighbours share, a multiple of `grid`, at most half of `tile`.
        max_pixels: largest number of pixels in one call of `prior`, over all samples of the batch; `tile`^2 if not
            given. A call has at least one tile of one sample.
        grid: tiles start at multiples of this many pixels; less than 16 for priors of small images.
        fixed: see `extents`.

    Raises:
        InputError: sizes for which no tiling is possible; a prior of a single size.
        CapabilityError: a latent prior.
    """

    def __init__(
        self,
        prior: Prior,
        tile: int = 512,
        overlap: int = 128,
        max_pixels: int | None = None,
        grid: int = GRID,
        *,
        fixed: bool = False,
    ) -> None:
        if tile < 2 * grid or tile % grid:
            raise InputError(f"tile must be a multiple of {grid} and at least {2 * grid}, got {tile}")
        if overlap < grid or overlap % grid or 2 * overlap > tile:
            raise InputError(f"overlap must be a multiple of {grid} of at most half a tile of {tile}, got {overlap}")
        if prior.latent:
            raise CapabilityError("a latent prior cannot be tiled in pixels: restore smaller images, or without tiles")
        if prior.shape is not None:
            raise InputError(f"this prior takes images of {list(prior.shape)} only: adapt it with priors.padded.fitted")
        super().__init__(prior)
        self.tile, self.overlap, self.grid = tile, overlap, grid
        self.max_pixels, self.fixed = max_pixels or tile * tile, fixed

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        if x_t.ndim != 4:
            check_shape(x_t, ("C", "H", "W"), "TiledPrior")  # pyright: ignore[reportArgumentType]
        if max(x_t.shape[-2:]) <= self.tile and x_t.shape[-2] * x_t.shape[-1] * len(x_t) <= self.max_pixels:
            return self.prior.predict(x_t, t)
        blended = cast(Tensor, _Blend.apply(x_t, self, t))
        alpha, sigma = self.schedule(t)
        channels = x_t.shape[1]
        x0, variance = blended[:, :channels], blended[:, channels:]
        return Prediction(x0, (x_t - alpha * x0) / sigma, variance if variance.shape[1] else None)

    def blend(self, x_t: Tensor, t: float) -> Tensor:
        """x0, followed by the learned variance if there is one, [N, C or 2 C, H, W]; not differentiable."""
        total: Tensor | None = None
        for group in self._calls(x_t.shape):
            values = _values(self._inner(group), _crops(x_t, group), t)
            if total is None:
                total = values.new_zeros((len(x_t), values.shape[1], *x_t.shape[-2:]))
            for (n, r, c), value in zip(group, values, strict=True):
                total[n, :, r.start : r.stop, c.start : c.stop] += _weight(r, c, value) * value
        assert total is not None
        return total

    def blend_vjp(self, x_t: Tensor, t: float, v: Tensor) -> Tensor:
        """The gradient of sum(v * blend(x_t, t)), computed tile by tile with a new evaluation of each tile."""
        total = torch.zeros_like(x_t)
        for group in self._calls(x_t.shape):
            parts = [part * _weight(r, c, part) for (_, r, c), part in zip(group, _crops(v, group), strict=True)]
            with torch.enable_grad():
                crops = _crops(x_t, group).requires_grad_()
                values = _values(self._inner(group), crops, t)
                (gradients,) = torch.autograd.grad(values, crops, torch.stack(parts))
            for (n, r, c), gradient in zip(group, gradients, strict=True):
                total[n, :, r.start : r.stop, c.start : c.stop] += gradient
        return total

    def _inner(self, group: list[_Piece]) -> Prior:
        return self.prior.select(torch.tensor([n for n, _, _ in group]))

    def _spans(self, length: int) -> list[_Span]:
        """The tiles along an axis."""
        ends = extents(length, self.tile, self.overlap, fixed=self.fixed, grid=self.grid)
        if len(ends) == 1:
            return [_Span(0, length, torch.ones(length, dtype=torch.float64))]
        total = torch.zeros(length, dtype=torch.float64)
        weights = []
        for start, stop in ends:
            weight = torch.ones(stop - start, dtype=torch.float64)
            if start > 0:
                weight = weight * self._ramp(stop - start)
            if stop < length:
                weight = weight * self._ramp(stop - start).flip(0)
            weights.append(weight)
            total[start:stop] += weight
        return [_Span(a, b, w / total[a:b]) for (a, b), w in zip(ends, weights, strict=True)]

    def _ramp(self, length: int) -> Tensor:
        """0 for overlap / 4 pixels, a raised cosine over overlap / 2 pixels, then 1."""
        margin = self.overlap // 4
        way = (torch.arange(length, dtype=torch.float64) + 0.5 - margin) / (self.overlap - 2 * margin)
        return torch.sin(math.pi / 2 * way.clamp(0, 1)) ** 2

    def _calls(self, shape: torch.Size) -> Iterator[list[_Piece]]:
        """The tiles of each call of the prior: tiles of one size, at most `max_pixels` in total."""
        rows, columns = self._spans(shape[-2]), self._spans(shape[-1])
        sizes: dict[tuple[int, int], list[_Piece]] = {}
        for n in range(shape[0]):
            for r in rows:
                for c in columns:
                    sizes.setdefault((r.stop - r.start, c.stop - c.start), []).append((n, r, c))
        for (height, width), tiles in sizes.items():
            size = max(1, self.max_pixels // (height * width))
            for first in range(0, len(tiles), size):
                yield tiles[first : first + size]

    def __repr__(self) -> str:
        return f"TiledPrior({self.prior!r}, tile={self.tile}, overlap={self.overlap}, max_pixels={self.max_pixels})"


class _Blend(torch.autograd.Function):
    """`TiledPrior.blend` with a backward pass that stores only x_t."""

    @staticmethod
    def forward(ctx: Any, x_t: Tensor, tiled: TiledPrior, t: float) -> Tensor:
        ctx.save_for_backward(x_t)
        ctx.tiled, ctx.t = tiled, t
        return tiled.blend(x_t, t)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, None, None]:
        (x_t,) = ctx.saved_tensors
        return ctx.tiled.blend_vjp(x_t.detach(), ctx.t, grads[0]), None, None


def _crops(x: Tensor, group: list[_Piece]) -> Tensor:
    return torch.stack([x[n, :, r.start : r.stop, c.start : c.stop] for n, r, c in group])


def _weight(rows: _Span, columns: _Span, like: Tensor) -> Tensor:
    return rows.weight.to(like)[:, None] * columns.weight.to(like)


def _values(prior: Prior, x_t: Tensor, t: float) -> Tensor:
    prediction = prior.predict(x_t, t)
    return prediction.x0 if prediction.variance is None else torch.cat([prediction.x0, prediction.variance], 1)
