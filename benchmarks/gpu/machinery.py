"""Timing, peak memory and architectures for measurements on a device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from benchmarks.networks import FFHQ, IMAGENET
from invsolve.priors.networks.adm_config import ADMConfig

__all__ = ["NETWORKS", "TINY", "Clock", "peak_of", "seconds_of"]

NETWORKS = {"FFHQ, 94 million": FFHQ, "ImageNet, 553 million": IMAGENET}

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


def seconds_of(run: Callable[[], object], device: torch.device, limit: float) -> float:
    """Median seconds of a run after a warm-up, over as many as fit into `limit` seconds, at least 3 and at most 20."""
    run()
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < 3 or (time.perf_counter() - began < limit and len(taken) < 20):
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
