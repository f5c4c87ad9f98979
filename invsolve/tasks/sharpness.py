"""The width of the sharpest edges of an image."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.io.image import middle

__all__ = ["BLURRED", "edge_width"]

BLURRED = 3.0
"""Width in pixels of the sharpest edges above which an image looks blurred. A Gaussian blur of std s gives 2.5 s."""

_SIDE = 1024
_CONTRAST, _WIDEST, _EDGES, _SHARPEST = 0.15, 16.0, 200, 0.1


def edge_width(image: Tensor) -> float | None:
    """Return the width in pixels of the sharpest edges along rows and columns; None if there are too few edges.

    An edge is a run of luma values that rise, or fall, by at least 0.15. Its width is this contrast divided by the
    steepest step, at most 16: 1 for a step between two pixels, sqrt(2 pi) s after a Gaussian blur of std s. The result
    is the 10 % quantile, because a photograph has sharp edges only where it is in focus. Noise shortens the runs, so
    noisy images seem sharper than they are.

    Args:
        image: [C, H, W] in [0, 1]; only the middle of large images is used.
    """
    luma = middle(image, _SIDE).mean(0)
    widths = torch.cat([_widths(luma), _widths(luma.T)])
    return float(widths.quantile(_SHARPEST)) if len(widths) >= _EDGES else None


def _widths(luma: Tensor) -> Tensor:
    """Widths of the edges along rows."""
    steps = luma.diff(dim=1)
    if steps.numel() == 0:  # a single column
        return luma.new_zeros(0)
    turns = torch.ones_like(steps, dtype=torch.bool)  # every row begins a run
    turns[:, 1:] = steps[:, 1:].sign() != steps[:, :-1].sign()
    run = turns.flatten().cumsum(0) - 1
    size = steps.abs().flatten()
    contrast = size.new_zeros(int(run[-1]) + 1).index_add_(0, run, size)
    steepest = size.new_zeros(len(contrast)).scatter_reduce_(0, run, size, "amax")
    widths = contrast / steepest.clamp_min(1e-6)
    return widths[(contrast >= _CONTRAST) & (widths <= _WIDEST)]
