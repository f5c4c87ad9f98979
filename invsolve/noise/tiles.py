"""Select tiles of an image, and combine the network's results for all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.noise.network import CELL, TILE, NoiseNetwork

__all__ = ["MAX_TILES", "MIN_SIDE", "Cells", "FileReading", "read_file", "tiles_of"]

MAX_TILES = 9
"""Maximum number of tiles read from an image of any size, to limit the cost."""

MIN_SIDE = 32
"""Images with a shorter side are too small for the network."""

_PLACES = 12
_DOUBT = 0.1


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of 8 x 8 pixels.

    Attributes:
        channels: mean of each channel [n, 3].
        variance: noise variance, mean of the channels [n].
    """

    channels: Tensor
    variance: Tensor


@dataclass(frozen=True, eq=False)
class FileReading:
    """The network's result for all tiles together.

    Attributes:
        levels: log standard deviations [len(LEVELS), len(QUANTILES)].
        correlation: correlation of the luma noise of neighbouring pixels.
        history: probabilities [len(HISTORIES)].
        cells: the map of levels.
    """

    levels: Tensor
    correlation: float
    history: Tensor
    cells: Cells


def tiles_of(image: Tensor, known: Tensor | None = None) -> Tensor:
    """Select at most `MAX_TILES` tiles [n, C, h, w], spread evenly over [C, H, W] on the JPEG grid.

    An image with a side below 8 pixels has no tiles. An image with a side below `MIN_SIDE` is extended by the mirror
    image of its whole JPEG blocks.

    Args:
        image: [C, H, W].
        known: bool [H, W], true for known pixels; tiles contain only these. All pixels are known if not given.
    """
    if min(image.shape[1:]) < CELL:
        return image[:0]
    image = _mirrored(image)
    known = None if known is None else _mirrored(known[None])[0]
    height, width = image.shape[1:]
    h, w = (min(TILE, side // CELL * CELL) for side in (height, width))
    windows = [(slice(i, i + h), slice(j, j + w)) for i in _starts(height, h) for j in _starts(width, w)]
    if known is not None:
        windows = [window for window in windows if bool(known[window].all())]
    count = min(len(windows), MAX_TILES)
    chosen = [windows[round(i * (len(windows) - 1) / max(count - 1, 1))] for i in range(count)]
    return torch.stack([image[:, *window] for window in chosen]) if chosen else image.new_zeros(0, len(image), h, w)


def _mirrored(image: Tensor) -> Tensor:
    """Extend [C, H, W] to sides of at least `MIN_SIDE`."""
    for dim in (1, 2):
        side = image.shape[dim] // CELL * CELL
        if image.shape[dim] < MIN_SIDE:
            at = torch.arange(MIN_SIDE, device=image.device) % (2 * side)
            image = image.index_select(dim, torch.minimum(at, 2 * side - 1 - at))
    return image


def _starts(side: int, tile: int) -> list[int]:
    """Return multiples of 8 from one end to the other."""
    free = (side - tile) // CELL
    count = min(_PLACES, 1 + -(-free * CELL // TILE))
    return sorted({round(i * free / max(count - 1, 1)) * CELL for i in range(count)})


@torch.no_grad()
def read_file(network: NoiseNetwork, tiles: Tensor) -> FileReading:
    """Read tiles [n, 3, h, w] one by one, and average the results weighted by their certainty.

    This is the mean square level and the mean of each quantile, in logarithms, with weights 1 / (interval width)^2.
    """
    readings = [network(tile[None]) for tile in tiles]
    levels = torch.cat([r.levels for r in readings]).sort(-1).values
    width = levels[..., 2] - levels[..., 0]
    weight = 1 / (width.square() + _DOUBT**2)
    weight = weight / weight.sum(0)
    middle = 0.5 * ((2 * levels[..., 1]).exp() * weight).sum(0).log()
    spread = (levels - levels[..., 1:2]) * weight[..., None]
    total = weight[:, 0]
    correlation = float((torch.cat([r.correlation for r in readings]) * weight[:, 1]).sum())
    history = (torch.cat([r.history for r in readings]).log_softmax(1) * total[:, None]).sum(0).softmax(0)
    cells = torch.cat([r.map for r in readings])
    channels = F.avg_pool2d(tiles, CELL).movedim(1, -1).flatten(0, 2)
    found = Cells(channels.double(), (2 * cells.flatten()).exp().double())
    return FileReading(middle[:, None] + spread.sum(0), correlation, history, found)
