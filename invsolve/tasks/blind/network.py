"""A small network that corrects a blur kernel estimated from edges, and its weight file.

A kernel estimated from edges is uncertain if all edges have the same direction, and may consist of points or combs if
the texture is repetitive. The network has learnt typical errors and typical kernels from pairs (estimate, truth): see
`invsolve.train.kernel_network`. Its output is a mean over possible kernels, and too diffuse for a restoration.
Therefore a few more iterations with the image's edges follow, and these determine the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invsolve.core.context import own_context
from invsolve.core.weights import read_network, write_network
from invsolve.tasks.blind.edges import grey_window, refitted
from invsolve.tasks.blind.evidence import CHANNELS, evidence_of

__all__ = [
    "WEIGHTS",
    "KernelNetwork",
    "KernelNetworkConfig",
    "corrected_kernel",
    "load_kernel_network",
    "packaged_kernel_network",
    "save_kernel_network",
]

WEIGHTS = Path(str(files("invsolve.tasks.blind"))) / "weights" / "kernels.safetensors"

_FORMAT = "invsolve-kernel-network-1"
_STEP = 0.3
_LEAK = 0.01
_LARGEST_NOISE = 0.1
"""Largest noise level passed to the network; it was not trained on higher levels."""


@dataclass(frozen=True)
class KernelNetworkConfig:
    """Sizes of the network.

    Args:
        channels: number of features at each scale, finest first.
        blocks: number of residual blocks at each scale, in the encoder and in the decoder.
    """

    channels: tuple[int, ...] = (32, 48, 56)
    blocks: int = 2


class KernelNetwork(nn.Module):
    """A U-Net that adds a correction: evidence pictures [n, CHANNELS, s, s] -> better kernels [n, s, s]."""

    def __init__(self, config: KernelNetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or KernelNetworkConfig()
        widths, blocks = config.channels, config.blocks
        pairs = list(zip(widths, widths[1:], strict=False))
        self.head = nn.Conv2d(CHANNELS, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(_blocks(width, blocks) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(_blocks(width, blocks) for width in widths[:-1])
        self.tail = nn.Conv2d(widths[0], 1, 3, padding=1)
        for weights in self.tail.parameters():
            nn.init.zeros_(weights)

    def forward(self, evidence: Tensor) -> Tensor:
        raw = evidence[:, 0] + _STEP * self._correction(evidence)
        kernel = raw.clamp_min(0)
        # in training, a small slope below 0 lets zero entries become positive again
        shown = F.leaky_relu(raw, _LEAK) if self.training else kernel
        return shown / kernel.sum((-2, -1), keepdim=True).clamp_min(1e-3)

    @torch.no_grad()
    def over_turns(self, pictures: Tensor) -> Tensor:
        """Correct one kernel: pictures [CHANNELS, s, s] -> [s, s], averaged over rotations and mirror images."""
        sides = (-2, -1)
        kernels = self(torch.stack([torch.rot90(p, k, sides) for p in (pictures, pictures.flip(-1)) for k in range(4)]))
        back = [torch.rot90(kernel, -k, sides) for kernel, k in zip(kernels, [*range(4)] * 2, strict=True)]
        return torch.stack([*back[:4], *(kernel.flip(-1) for kernel in back[4:])]).mean(0)

    def _correction(self, evidence: Tensor) -> Tensor:
        side = evidence.shape[-1]
        extra = -side % 2 ** len(self.down)
        h, passed = self.head(F.pad(evidence, (0, extra, 0, extra))), []
        for blocks, down in zip(self.encoder, self.down, strict=False):
            h = blocks(h)
            passed.append(h)
            h = down(h)
        h = self.encoder[-1](h)
        for k in reversed(range(len(self.down))):
            h = self.up[k](F.interpolate(h, scale_factor=2.0, mode="nearest")) + passed[k]
            h = self.decoder[k](h)
        return self.tail(h)[:, 0, :side, :side].float()


class _Block(nn.Module):
    """Two convolutions; between them, a projection of the global mean is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.whole = nn.Linear(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.second(F.silu(self.first(h) + self.whole(h.mean((-2, -1)))[..., None, None]))


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(count)))


def corrected_kernel(image: Tensor, kernel: Tensor, sigma: float) -> Tensor:
    """Correct an estimate of the kernel [s, s]: non-negative, sums to one, and centred (`centred`).

    Args:
        image: the blurred image [C, H, W] in [0, 1], with sides of at least 3 s.
        kernel: a first estimate, see `estimate_kernel`.
        sigma: standard deviation of the noise of the mean over the channels, in [0, 1] units, above 0.
    """
    grey = grey_window(image)
    pictures = evidence_of(grey, kernel.to(grey), min(sigma, _LARGEST_NOISE))
    return refitted(grey, packaged_kernel_network().over_turns(pictures))


def save_kernel_network(network: KernelNetwork, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write weights (float16) and configuration to a safetensors file, either completely or not at all."""
    write_network(network, network.config, _FORMAT, path, notes)


def load_kernel_network(path: Path) -> KernelNetwork:
    """Read a file written by `save_kernel_network`: float32, evaluation mode, no weight requires a gradient.

    Raises:
        InputError: the file does not exist, or has another format.
    """
    config, weights = read_network(_FORMAT, path, "invsolve train kernels")
    with torch.random.fork_rng(devices=[]):  # the initial weights are replaced
        network = KernelNetwork(KernelNetworkConfig(tuple(config["channels"]), config["blocks"]))
    network.load_state_dict(weights)
    return network.float().eval().requires_grad_(False)


@lru_cache(maxsize=1)
@own_context()
def packaged_kernel_network() -> KernelNetwork:
    """Return the packaged network; its card is beside the weights (`kernels.md`)."""
    return load_kernel_network(WEIGHTS)
