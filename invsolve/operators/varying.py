"""Spatially varying blur: mixed kernels, and a sensor that is read line by line."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.checks import InputError, ShapeError, as_tensor, check_shape
from invsolve.core.constants import Constants
from invsolve.core.operator import EMPTY, LinearOperator, Params, Shape
from invsolve.operators.blur_kinds import SpatialBlur
from invsolve.operators.shapes import digest, image_shape

__all__ = ["RollingShutter", "VaryingBlur"]


class VaryingBlur(LinearOperator):
    """y = sum_i w_i * (k_i * x): each pixel is blurred by a weighted mixture of the kernels.

    Nagy and O'Leary 1998, "Restoring images degraded by spatially variant blur", SIAM J. Sci. Comput.

    Args:
        in_shape: (C, H, W).
        kernels: [K, h, w], each summing to about 1 (anchored in the middle, as for `Blur`).
        weights: [K, H, W], at least 0; a pixel's weights are divided by their sum. None for a single kernel. See
            `VaryingBlur.grid` for smooth weights.
        padding: "reflect" (default), "symmetric", "zero" or "circular".

    Raises:
        ShapeError: the kernels or the weights have another shape.
        InputError: a pixel has no weight above 0, or a weight is negative.
    """

    def __init__(
        self, in_shape: Shape, kernels: Tensor, weights: Tensor | None = None, padding: str = "reflect"
    ) -> None:
        self.in_shape = self.out_shape = _, h, w = image_shape(in_shape)
        kernels = as_tensor(kernels, "the kernels")
        weights = None if weights is None else as_tensor(weights, "the weights")
        if kernels.ndim == 2:
            kernels = kernels[None]
        if weights is None and len(kernels) == 1:
            weights = torch.ones(1, h, w)
        if kernels.ndim != 3 or weights is None or tuple(weights.shape) != (len(kernels), h, w):
            got = None if weights is None else list(weights.shape)
            raise ShapeError(f"kernels must be [K, h, w], weights [K, {h}, {w}], got {list(kernels.shape)} and {got}")
        total = weights.double().sum(0)
        if bool((weights < 0).any()) or not bool((total > 0).all()):
            raise InputError("weights must be at least 0, not all 0 at any pixel")
        self._blurs = [SpatialBlur(in_shape, kernel, padding) for kernel in kernels]
        self.constants = Constants(weights=weights.double() / total)

    @staticmethod
    def grid(rows: int, columns: int, height: int, width: int) -> Tensor:
        """Bilinear weights [rows * columns, height, width] around the points of a grid that spans the image."""

        def axis(points: int, size: int) -> Tensor:
            at = torch.linspace(0, max(points - 1, 0), size, dtype=torch.float64)
            return (1 - (at - torch.arange(points, dtype=torch.float64)[:, None]).abs()).clamp_min(0)

        return torch.einsum("ry,cx->rcyx", axis(rows, height), axis(columns, width)).flatten(0, 1)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        weights = self.constants.get("weights", x)
        return sum((w * blur(x) for w, blur in zip(weights, self._blurs, strict=True)), torch.zeros_like(x))

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "VaryingBlur.adjoint")
        self._no_parameters(theta)
        weights = self.constants.get("weights", y)
        return sum((blur.adjoint(w * y) for w, blur in zip(weights, self._blurs, strict=True)), torch.zeros_like(y))

    def __repr__(self) -> str:
        return f"VaryingBlur({self._blurs!r}, weights={digest(self.constants['weights'])})"


class RollingShutter(LinearOperator):
    """Lines are read one after the other while the camera moves: y[i, j] = mean_e x(i + r_{i+e}, j + c_{i+e}).

    (r, c) is the camera's path in pixels, with one position for each line that is read; a line integrates over
    `exposure` positions. Values between pixels are bilinear, and values beyond the border are those of the nearest
    pixel. The operator is linear in the image.

    Args:
        in_shape: (C, H, W).
        path: positions (rows, columns), [H + exposure - 1, 2].
        exposure: number of positions over which a line integrates, at least 1. With 1 the image is distorted, with more
            it is also blurred (scanning).

    Raises:
        ShapeError: the path has another length.
    """

    def __init__(self, in_shape: Shape, path: Tensor, exposure: int = 1) -> None:
        self.in_shape = self.out_shape = _, h, w = image_shape(in_shape)
        path = as_tensor(path, "the camera's path")
        if exposure < 1 or tuple(path.shape) != (h + exposure - 1, 2):
            raise ShapeError(
                f"the path needs positions for {h} lines and {exposure} exposures, [{h + exposure - 1}, 2]; got "
                f"{list(path.shape)}"
            )
        if not bool(torch.isfinite(path).all()):
            raise InputError("the camera's path must be finite")
        path, self.exposure = path.detach().to("cpu", torch.float64), exposure
        seen = path.unfold(0, exposure, 1)  # [H, 2, exposure]
        rows = torch.arange(h)[:, None, None] + seen[:, 0, None, :]
        columns = torch.arange(w)[None, :, None] + seen[:, 1, None, :]
        places, shares = [], []
        top, left = rows.floor(), columns.floor()
        for down in (0, 1):
            for right in (0, 1):
                share = (rows - top if down else 1 - rows + top) * (columns - left if right else 1 - columns + left)
                row = (top + down).clamp(0, h - 1).expand(h, w, exposure)
                places.append((row * w + (left + right).clamp(0, w - 1)).long())
                shares.append(share.expand(h, w, exposure) / exposure)
        self._places = torch.cat(places, -1).flatten()
        self.constants = Constants(shares=torch.cat(shares, -1))

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        shares = self.constants.get("shares", x)
        seen = x.flatten(2).index_select(2, self._places.to(x.device))
        return (seen.reshape(*x.shape, -1) * shares).sum(-1)

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "RollingShutter.adjoint")
        self._no_parameters(theta)
        spread = (y[..., None] * self.constants.get("shares", y)).flatten(2)
        return torch.zeros_like(y).flatten(2).index_add(2, self._places.to(y.device), spread).reshape(y.shape)

    def __repr__(self) -> str:
        path = digest(self.constants["shares"])
        return f"RollingShutter({list(self.in_shape)}, path={path}, exposure={self.exposure})"
