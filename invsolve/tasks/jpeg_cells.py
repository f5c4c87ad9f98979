"""Constrain an image to a JPEG file: each block DCT coefficient stays within its quantisation cell."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.io.cosines import YCC, cosines, inverse_cosines
from invsolve.io.jpeg import JPEGTables, turned, unturned
from invsolve.tasks.jpeg_codec import coefficients, interpolated, padded_size, planes_of, shrunk

__all__ = ["reach_of", "within_cells"]

_REACH = ((50, 0.25), (85, 0.1))
"""Largest distance of a coefficient from the middle of its cell, in steps, at two JPEG qualities (Park and Kim 1999,
"Theory of projection onto the narrow quantization constraint set and its application", IEEE Trans. Image Processing 8).
The truth is within half a step. A smaller limit loses little, and loses much less if the image was a JPEG file of
about the same quality before, as the truth is then in the middle. This is undetectable, and common at high quality."""


def reach_of(tables: JPEGTables) -> float:
    """The largest distance of a restored coefficient from the middle of its cell, in quantisation steps."""
    (low, far), (high, near) = _REACH
    share = min(max((tables.quality - low) / (high - low), 0.0), 1.0)
    return far + share * (near - far)


def within_cells(x: Tensor, y: Tensor, tables: JPEGTables, reach: float | None = None) -> Tensor:
    """Return the image nearest to x whose coefficients are at most `reach` steps from those of the decoded file y.

    For a reach of 0.5, the image that was compressed satisfies this, except for the encoder's rounding. For subsampled
    colours, the file only determines means; their detail is that of y, interpolated by the decoder.

    Args:
        x: [..., C, H, W] in [0, 1], upright.
        y: [C, H, W] in [0, 1], upright.
        tables: tables of the file.
        reach: largest distance in quantisation steps; `reach_of` by default.
    """
    reach = reach_of(tables) if reach is None else reach
    seen = _padded(unturned(y, tables.orientation)[None], tables)
    stored = unturned(x, tables.orientation).double()
    stored = stored.reshape(-1, *stored.shape[-3:])
    planes, told = planes_of(_padded(stored, tables), tables), planes_of(seen, tables)
    moves = []
    for k, found in enumerate(coefficients(unturned(y, tables.orientation), tables)):
        sampling = tables.sampling if k and tables.chroma is not None else (1, 1)
        plane = planes[:, k] - (128 if k == 0 or tables.chroma is None else 0)
        steps = tables.steps(k)
        small = shrunk(plane, sampling)
        off = cosines(small) / steps - found
        move = inverse_cosines((off.clamp(-reach, reach) - off) * steps)
        if sampling != (1, 1):
            move = told[:, k] + interpolated(small + move - shrunk(told[:, k], sampling), sampling) - plane
        moves.append(move)
    moved = torch.stack(moves, 1)
    if tables.chroma is not None:
        moved = torch.einsum("ij,njhw->nihw", torch.linalg.inv(YCC), moved)
    height, width = stored.shape[-2:]
    done = (stored + moved[..., :height, :width] / 255).to(x.dtype).view(unturned(x, tables.orientation).shape)
    return turned(done, tables.orientation)


def _padded(x: Tensor, tables: JPEGTables) -> Tensor:
    """Pad [n, C, H, W] to whole blocks and scale it so that white is 255."""
    height, width = x.shape[-2:]
    rows, columns = padded_size((height, width), tables)
    return 255 * F.pad(x.double(), (0, columns - width, 0, rows - height), mode="replicate")
