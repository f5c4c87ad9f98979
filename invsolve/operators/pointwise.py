"""Operators that act on each pixel separately: the identity (denoising) and a mask (inpainting)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import prod
from typing import Any, Self

import torch
from torch import Tensor

from invsolve.core.checks import InputError, ShapeError, as_tensor, check_shape
from invsolve.core.constants import Constants, select_rows
from invsolve.core.linalg import per_sample, real_dtype
from invsolve.core.operator import EMPTY, Params, Shape
from invsolve.core.rng import NoiseSource
from invsolve.core.svd import SVDOperator
from invsolve.operators.shapes import digest, image_shape, positive_shape
from invsolve.operators.transforms import cosine_laplacian, dct2, fft_dtype, idct2

__all__ = ["Denoising", "Inpainting"]


class _Diagonal(SVDOperator):
    """A = diag(s) with U = V = I, in image order."""

    @property
    def basis(self) -> Hashable:
        return "pixels", tuple(self.in_shape)

    def V(self, c: Tensor) -> Tensor:
        return c.reshape(-1, *self.in_shape)

    def Vt(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def U(self, c: Tensor) -> Tensor:
        return self.V(c)

    def Ut(self, y: Tensor) -> Tensor:
        return torch.where(self.spectrum(y) > 0, y.flatten(1), 0.0)


class Denoising(_Diagonal):
    """The identity, y = x: the measurement is the image with noise.

    Args:
        in_shape: shape of one sample; any number of dimensions.
    """

    is_identity = True

    def __init__(self, in_shape: Shape) -> None:
        self.in_shape = self.out_shape = positive_shape(in_shape)

    def spectrum(self, like: Tensor) -> Tensor:
        return torch.ones(prod(self.in_shape), dtype=real_dtype(like), device=like.device)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        return x

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "Denoising.adjoint")
        self._no_parameters(theta)
        return y

    pinv = adjoint

    def solve_smooth(self, b: Tensor, lam: float | Tensor) -> Tensor:
        check_shape(b, self.in_shape, "Denoising.solve_smooth")
        z = b.to(fft_dtype(b))
        eigenvalues = cosine_laplacian(b.shape[-2], b.shape[-1], z)
        return idct2(dct2(z) / (1 + per_sample(lam, z) * eigenvalues)).to(b.dtype)

    def ridge(self, residual: Tensor, lam: float | Tensor) -> Tensor:
        return residual * (1.0 / (1.0 + per_sample(lam, residual)))


class Inpainting(_Diagonal):
    """y = m * x with a mask m of zeros and ones; `y` has the image's shape.

    A^T = A^+ = A. The values of `y` where m = 0 (noise, or NaN) are never used.

    Args:
        in_shape: (C, H, W).
        mask: 1 where a pixel is known, 0 where it is missing; bool or numbers. [H, W] or [1 | C, H, W] for all samples,
            or [B, 1 | C, H, W] with one mask for each sample.

    Raises:
        ShapeError: the mask has another size.
        InputError: the mask has values other than 0 and 1, or no known pixel in an image.
    """

    def __init__(self, in_shape: Shape, mask: Tensor) -> None:
        self.in_shape = self.out_shape = image_shape(in_shape)
        mask = as_tensor(mask, "the mask")
        if mask.ndim == 2:
            mask = mask[None]
        c, h, w = self.in_shape
        if mask.ndim not in (3, 4) or tuple(mask.shape[-2:]) != (h, w) or mask.shape[-3] not in (1, c):
            raise ShapeError(
                f"the mask must be [{h}, {w}], [1 or {c}, {h}, {w}] or [B, 1 or {c}, {h}, {w}] "
                f"for images of shape {list(self.in_shape)}, got {list(mask.shape)}"
            )
        mask = mask if mask.ndim == 4 else mask[None]
        if mask.is_complex() or not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError("the mask must hold only 0 (missing) and 1 (known): threshold it, for example mask > 0.5")
        if not bool((mask != 0).flatten(1).any(1).all()):
            raise InputError("the mask is 0 everywhere, so no pixel is known: 1 marks known pixels")
        self.constants = Constants(mask=mask.detach().to("cpu", torch.float64))

    @classmethod
    def random(cls, in_shape: Shape, keep: float = 0.5, *, rng: NoiseSource, samples: int = 1) -> Self:
        """Draw a mask once that keeps each pixel with probability `keep`, with all its channels.

        Args:
            in_shape: (C, H, W).
            keep: probability in (0, 1].
            rng: noise source of the draw.
            samples: number of masks; 1 for a mask that all images share, B for one for each image.
        """
        if not 0 < keep <= 1:
            raise InputError(f"keep (the probability of each pixel) must be above 0 and at most 1, got {keep}")
        _, h, w = image_shape(in_shape)
        return cls(in_shape, rng.uniform(torch.empty(samples, 1, h, w)) < keep)

    @classmethod
    def box(cls, in_shape: Shape, top: int, left: int, height: int, width: int) -> Self:
        """Create a mask with a missing rectangle: `height` rows from row `top`, `width` columns from column `left`."""
        _, h, w = image_shape(in_shape)
        if min(top, left) < 0 or min(height, width) < 1 or top + height > h or left + width > w:
            raise InputError(
                f"the missing box must lie inside the {h} x {w} image, got rows {top} to {top + height} "
                f"and columns {left} to {left + width}"
            )
        mask = torch.ones(1, h, w)
        mask[:, top : top + height, left : left + width] = 0
        return cls(in_shape, mask)

    @classmethod
    def from_image(cls, in_shape: Shape, image: Tensor, threshold: float = 0.5) -> Self:
        """Pixels are known where a mask image ([H, W] or [C, H, W], in [0, 1]) is above `threshold` in all channels."""
        known = (image if isinstance(image, Tensor) else as_tensor(image, "the mask image").double()) > threshold
        return cls(in_shape, known if known.ndim == 2 else known.all(-3, keepdim=True))

    def spectrum(self, like: Tensor) -> Tensor:
        mask = self._mask(like)
        flat = mask.expand(len(mask), *self.in_shape).flatten(1)
        return flat[0] if len(mask) == 1 else flat

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        self._no_parameters(theta)
        return self._mask(x) * x

    def observed(self, y: Tensor) -> Tensor:
        return torch.where(self._mask(y) != 0, y, 0.0)

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "Inpainting.adjoint")
        self._no_parameters(theta)
        return self.observed(y)

    pinv = adjoint

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(b, self.in_shape, "Inpainting.solve_normal")
        self._no_parameters(theta)
        return b / (self._mask(b) + per_sample(lam, b))

    def ridge(self, residual: Tensor, lam: float | Tensor) -> Tensor:
        return self.observed(residual) * (1.0 / (1.0 + per_sample(lam, residual)))

    def smooth_preconditioner(self, like: Tensor, lam: float | Tensor) -> Callable[[Tensor], Tensor]:
        """1 / diag(A^T A + lam L); with it, the system of the missing region does not depend on lam."""
        weight = per_sample(lam, like)
        return lambda r: r / (self._mask(r) + 4 * weight)

    def select(self, rows: Tensor) -> Self:
        mask = self.constants["mask"]
        return self if len(mask) == 1 else select_rows(self, mask=mask[rows.cpu()])

    def _mask(self, like: Tensor) -> Tensor:
        mask = self.constants.get("mask", like)
        if like.ndim == len(self.in_shape) + 1 and mask.shape[0] not in (1, like.shape[0]):
            raise ShapeError(
                f"this Inpainting has {len(mask)} masks, one per sample, got a batch of {len(like)}: use select(rows)"
            )
        return mask

    def __repr__(self) -> str:
        mask = self.constants["mask"]
        details: dict[str, Any] = {"masks": len(mask), "known": f"{mask.mean().item():.4f}", "mask": digest(mask)}
        return f"Inpainting({list(self.in_shape)}, {', '.join(f'{k}={v}' for k, v in details.items())})"
