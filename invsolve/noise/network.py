"""A small network that estimates the noise of a tile, and its weight file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invsolve.core.context import own_context
from invsolve.core.weights import read_network, write_network

__all__ = [
    "CELL",
    "HISTORIES",
    "LEVELS",
    "QUANTILES",
    "TILE",
    "WEIGHTS",
    "NoiseNetwork",
    "NoiseNetworkConfig",
    "NoiseReading",
    "load_noise_network",
    "packaged_noise_network",
    "save_noise_network",
]

WEIGHTS = Path(str(files("invsolve.noise"))) / "weights" / "noise.safetensors"

TILE = 96
"""Side in pixels of the training tiles."""

CELL = 8
"""Side in pixels of the cells of the level map."""

QUANTILES = (0.1, 0.5, 0.9)

LEVELS = ("total", "luma", "chroma", "unclipped")
"""Estimated levels: of all channels, of their mean, of the rest, and of all channels before clipping by a file."""

HISTORIES = ("none", "jpeg", "webp")
"""Earlier lossy compression of an image."""

_FORMAT = "invsolve-noise-network-1"
_START = -3.5
_UNIT = 0.01
_WINDOW = 9
_OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (0.5**0.5, 0.0, -(0.5**0.5)), (-(6**-0.5), 2 * 6**-0.5, -(6**-0.5)))


class NoiseReading(NamedTuple):
    """The network's result for n tiles.

    Attributes:
        levels: log standard deviations [n, len(LEVELS), len(QUANTILES)].
        correlation: correlation of the luma noise of neighbouring pixels [n], from -1 to 1.
        history: log-odds [n, len(HISTORIES)].
        map: log standard deviations of all channels in cells of 8 x 8 pixels, [n, h // 8, w // 8].
    """

    levels: Tensor
    correlation: Tensor
    history: Tensor
    map: Tensor


@dataclass(frozen=True)
class NoiseNetworkConfig:
    """Sizes of the network.

    Args:
        fine, coarse: number of features at half and quarter resolution.
        fine_blocks, coarse_blocks: number of residual convolutions at these resolutions.
    """

    fine: int = 24
    coarse: int = 48
    fine_blocks: int = 3
    coarse_blocks: int = 3


class NoiseNetwork(nn.Module):
    """Tiles [n, 3, h, w] in [0, 1] (sides multiples of 8) -> `NoiseReading`.

    The inputs are deviations from the local mean in luma and two opponent colours, local brightness and clipped
    pixels. The deviations are compressed by asinh, so that levels from 0.001 to 0.3 can be distinguished. Residual
    3 x 3 convolutions follow at half and quarter resolution. The map is computed directly. The values for the whole
    tile are averages with weights chosen by the network (large where the tile is smooth and not clipped).
    """

    def __init__(self, config: NoiseNetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NoiseNetworkConfig()
        outputs = len(LEVELS) * len(QUANTILES) + 1 + len(HISTORIES)
        self.head = nn.Conv2d(5 * 4, config.fine, 3, padding=1)
        self.fine = nn.ModuleList(nn.Conv2d(config.fine, config.fine, 3, padding=1) for _ in range(config.fine_blocks))
        self.down = nn.Conv2d(config.fine, config.coarse, 3, padding=1)
        self.coarse = nn.ModuleList(
            nn.Conv2d(config.coarse, config.coarse, 3, padding=1) for _ in range(config.coarse_blocks)
        )
        self.attention = nn.Conv2d(config.coarse, outputs, 1)
        self.values = nn.Conv2d(config.coarse, outputs, 1)
        self.cells = nn.Conv2d(config.coarse, 1, 1)

    def forward(self, tiles: Tensor) -> NoiseReading:
        h = F.leaky_relu(self.head(F.pixel_unshuffle(self.features(tiles), 2)), 0.1)
        for conv in self.fine:
            h = h + F.leaky_relu(conv(h), 0.1)
        h = F.leaky_relu(self.down(F.avg_pool2d(h, 2)), 0.1)
        for conv in self.coarse:
            h = h + F.leaky_relu(conv(h), 0.1)
        chosen = self.attention(h).float().flatten(2).softmax(-1)
        out = (self.values(h).float().flatten(2) * chosen).sum(-1)
        n = len(LEVELS) * len(QUANTILES)
        levels = out[:, :n].unflatten(1, (len(LEVELS), len(QUANTILES))) + _START
        cells = F.avg_pool2d(self.cells(h).float(), CELL // 4)[:, 0] + _START
        return NoiseReading(levels, torch.tanh(out[:, n]), out[:, n + 1 :], cells)

    def features(self, tiles: Tensor) -> Tensor:
        """[n, 5, h, w]: compressed deviations in luma and two opponent colours, local brightness, clipped channels."""
        reach = _WINDOW // 2
        colours = F.conv2d(tiles, torch.tensor(_OPPONENT).to(tiles)[..., None, None])
        rows = F.avg_pool2d(F.pad(colours, (reach,) * 4, mode="reflect"), (_WINDOW, 1), 1)
        local = F.avg_pool2d(rows, (1, _WINDOW), 1)
        deviation = torch.asinh((colours - local) / _UNIT)
        clipped = ((tiles <= 0) | (tiles >= 1)).to(tiles).mean(1, keepdim=True)
        return torch.cat([deviation, 4 * local[:, :1] - 2, clipped], 1)


def save_noise_network(network: NoiseNetwork, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write weights (float16) and configuration to a safetensors file, either completely or not at all."""
    write_network(network, network.config, _FORMAT, path, notes)


def load_noise_network(path: Path) -> NoiseNetwork:
    """Read a file written by `save_noise_network`: float32, evaluation mode, no weight requires a gradient.

    Raises:
        InputError: the file does not exist, or has another format.
    """
    config, weights = read_network(_FORMAT, path, "invsolve train noise")
    with torch.random.fork_rng(devices=[]):  # the initial weights are replaced
        network = NoiseNetwork(NoiseNetworkConfig(**config))
    network.load_state_dict(weights)
    return network.float().eval().requires_grad_(False)


@lru_cache(maxsize=1)
@own_context()
def packaged_noise_network() -> NoiseNetwork:
    """Return the packaged network; its card is beside the weights (`noise.md`)."""
    return load_noise_network(WEIGHTS)
