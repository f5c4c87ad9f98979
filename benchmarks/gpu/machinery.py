"""Timing, peak memory and networks for measurements on a device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.priors.networks.adm import ADMUNet
from invsolve.priors.networks.adm_config import ADMConfig

__all__ = ["NETWORKS", "TINY", "Clock", "forward", "gradient", "network", "peak_of", "seconds_of"]

NETWORKS = {
    "FFHQ, 94 million": ADMConfig(128, (1, 1, 2, 2, 4, 4), 1, (False, False, False, False, True, False), size=256),
    "ImageNet, 553 million": ADMConfig(256, (1, 1, 2, 2, 4, 4), 2, (False, False, False, True, True, True), size=256),
}
"""The published architectures; their weights do not matter for time."""

TINY = {name: ADMConfig(32, (1, 2), 1, (False, True), head_channels=16, size=16) for name in NETWORKS}
"""Small networks for rehearsals."""


@dataclass
class Clock:
    """A time limit in seconds."""

    seconds: float
    began: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.perf_counter() - self.began)


def network(config: ADMConfig, device: torch.device) -> nn.Module:
    """The network with random weights, none of them zero, scaled so that the outputs stay finite.

    The weights are drawn on the device: they are the same in every run on one kind of device.
    """
    with torch.device(device):
        module = ADMUNet(config)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.7 / weight[0].numel() ** 0.5, generator=generator)
    return module.eval().requires_grad_(False)


def seconds_of(run: Callable[[], object], device: torch.device, limit: float = 3.0, least: int = 3) -> float:
    """Median seconds of a run, over at least three after a warm-up, or as many as fit into `limit`."""
    run()
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < least or (time.perf_counter() - began < limit and len(taken) < 20):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def peak_of(run: Callable[[], object], device: torch.device) -> float | None:
    """Peak memory of a run in GiB; None if the device does not report it."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    run()
    _wait(device)
    return torch.cuda.max_memory_allocated(device) / 2**30


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forward(prior: Any, x: Tensor) -> Tensor:
    """One network call."""
    with torch.no_grad():
        return prior.denoise(x, 0.3)


def gradient(prior: Any, x: Tensor) -> Tensor:
    """One network call with its input-gradient."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(prior.denoise(leaf, 0.3).sum(), leaf)[0]
