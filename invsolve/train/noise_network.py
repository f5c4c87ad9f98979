"""Train the network that estimates the noise of a file.

    loss = pinball(log levels, quantiles 0.1, 0.5, 0.9) + 0.2 |correlation error| + 0.1 CE(history) + 0.1 map

The map loss is the negative log-likelihood of a cell's mean square deviation E under a variance s^2:
E / (2 s^2) + log s.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.boundary import load_torch
from invsolve.core.checks import InputError
from invsolve.core.files import written_whole
from invsolve.noise.network import QUANTILES, NoiseNetwork, NoiseReading, save_noise_network
from invsolve.priors.networks.execution import gains_by_bfloat16
from invsolve.train.data import find_images, split_images
from invsolve.train.noisy_files import NoisyFiles, NoisyTiles
from invsolve.train.report import SmoothedLoss
from invsolve.train.runtime import without_denormals
from invsolve.train.settings import NoiseTraining, check_output

__all__ = ["noise_loss", "train_noise_network", "validate"]

logger = logging.getLogger(__name__)

_WEIGHTS = {"correlation": 0.2, "history": 0.1, "map": 0.1}
_WARM_UP = 100
_SHARES, _MEMORY = 4, 200
_HELD_TILES = 384
_SAVE_SECONDS = 120.0


class _Draws:
    """Batches with a quarter of new tiles; the rest are recent tiles, mirrored and rotated, since drawing is slow.

    The tiles of a step depend on (seed, step) alone; tiles that are not in memory are drawn again.
    """

    def __init__(self, data: NoisyFiles, batch: int, seed: int) -> None:
        self.data, self.batch, self.seed = data, batch, seed
        self.kept: dict[int, NoisyTiles] = {}

    def __call__(self, step: int) -> NoisyTiles:
        rng = np.random.default_rng((self.seed, 3, step))
        wanted = [step, *(int(max(step - 1 - rng.integers(_MEMORY), 0)) for _ in range(_SHARES - 1))]
        self.kept = {i: tiles for i, tiles in self.kept.items() if i > step - 1 - _MEMORY}
        parts = [_turned(self._drawn(i), int(rng.integers(4)), bool(rng.random() < 0.5)) for i in wanted]
        return NoisyTiles(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _drawn(self, index: int) -> NoisyTiles:
        if index not in self.kept:
            rng = np.random.default_rng((self.seed, 1, index))
            self.kept[index] = self.data.draw(-(-self.batch // _SHARES), rng)
        return self.kept[index]


def _turned(batch: NoisyTiles, quarters: int, mirror: bool) -> NoisyTiles:
    tiles, energy = (
        torch.rot90(values.flip(-1) if mirror else values, quarters, (-2, -1)) for values in (batch.tiles, batch.energy)
    )
    return batch._replace(tiles=tiles, energy=energy)


def noise_loss(reading: NoiseReading, batch: NoisyTiles) -> Tensor:
    """Compute the loss of a batch; see the module docstring."""
    error = batch.levels[..., None] - reading.levels
    share = torch.tensor(QUANTILES).to(error)
    pinball = torch.maximum(share * error, (share - 1) * error).sum((1, 2)).mean()
    told = ~batch.correlation.isnan()
    correlation = (reading.correlation[told] - batch.correlation[told]).abs().sum() / len(told)
    history = F.cross_entropy(reading.history, batch.history)
    cells = reading.map.clamp(-7.5, 0)
    likelihood = (0.5 * batch.energy * (-2 * cells).exp() + cells).mean()
    parts = {"correlation": correlation, "history": history, "map": likelihood}
    return pinball + sum(_WEIGHTS[name] * part for name, part in parts.items())


def train_noise_network(config: NoiseTraining) -> NoiseNetwork:
    """Train, and write the weights at the end of the run.

    A batch depends on (seed, step) alone.

    Raises:
        InputError: if images are unusable, `out` exists and `overwrite` is not set, or there is nothing to resume.
        InvsolveError: if the loss is no longer finite.
    """
    if config.resume and not config.state.exists():
        raise InputError(f"there is no {config.state} to resume from: omit --resume")
    if not config.resume:
        for path in (config.out, config.state):
            check_output(path, overwrite=config.overwrite, resumable=config.state.exists())
    train, held = split_images(find_images(config.images), config.validation)
    made_of = {"seed": config.seed, "batch": config.batch, "images": [path.name for path in train]}
    data, checks = NoisyFiles(train), NoisyFiles(held).draw(_HELD_TILES, np.random.default_rng((config.seed, 2)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = NoiseNetwork().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=0.01)
    first, spent = _resumed(config, network, optimizer, made_of) if config.resume else (0, 0.0)
    if not config.resume:
        config.state.unlink(missing_ok=True)  # state of an earlier run, which can no longer be resumed
    with without_denormals():
        steps = _train(config, network, optimizer, data, checks, made_of, first, spent)
    lines = validate(network, checks)
    logger.info("held out: %s", lines)
    save_noise_network(network, config.out, {"steps": str(steps), "seed": str(config.seed), "validation": lines})
    config.state.unlink(missing_ok=True)
    return network.eval().requires_grad_(False)


def _train(
    config: NoiseTraining, network: NoiseNetwork, optimizer: torch.optim.Optimizer, data: NoisyFiles,
    checks: NoisyTiles, made_of: Mapping[str, Any], step: int, spent: float,
) -> int:  # fmt: skip
    """Train until the length of the run is reached; return the number of steps."""
    began = saved = time.monotonic()
    draws = _Draws(data, config.batch, config.seed)
    smoothed, bf16 = SmoothedLoss(0.98), gains_by_bfloat16(torch.device("cpu"))
    while True:
        elapsed = time.monotonic() - began + spent
        part = step / config.steps if config.steps else elapsed / (60 * config.minutes)
        if part >= 1:
            return step
        rate = config.learning_rate * min(1, (step + 1) / _WARM_UP) * (0.5 * (1 + math.cos(math.pi * part)) + 0.01)
        optimizer.param_groups[0]["lr"] = rate
        batch = draws(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            reading = network(batch.tiles.contiguous(memory_format=torch.channels_last))
        loss = noise_loss(reading, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        step += 1
        smoothed.add(float(loss.detach()), step)
        if step % 100 == 0:
            logger.info("step %d, %.0f s, loss %.4f", step, elapsed, smoothed.mean)
        if step % 500 == 0:
            logger.info("held out: %s", validate(network, checks))
        if time.monotonic() - saved > _SAVE_SECONDS:
            saved = time.monotonic()
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "made_of": dict(made_of)}
            with written_whole(config.state) as whole:
                torch.save({**state, "step": step, "spent": saved - began + spent}, whole)


def _resumed(
    config: NoiseTraining, network: NoiseNetwork, optimizer: torch.optim.Optimizer, made_of: Mapping[str, Any]
) -> tuple[int, float]:
    state = load_torch(config.state, "training state")
    if not isinstance(state, dict) or state.get("made_of") != made_of:
        raise InputError(f"{config.state} is from a run with another seed, batch or images: give its settings")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["spent"]


@torch.no_grad()
def validate(network: NoiseNetwork, tiles: NoisyTiles) -> str:
    """Summarise the results on held-out tiles: error of the level, share within [0.7, 1.35], coverage of quantiles."""
    reading = network(tiles.tiles)
    error = reading.levels[:, 0, 1] - tiles.levels[:, 0]
    within = ((error > math.log(0.7)) & (error < math.log(1.35))).float().mean()
    low, _, high = reading.levels[:, 0].unbind(1)
    inside = ((tiles.levels[:, 0] >= low) & (tiles.levels[:, 0] <= high)).float().mean()
    told = ~tiles.correlation.isnan()
    correlation = (reading.correlation - tiles.correlation)[told].abs().mean()
    history = (reading.history.argmax(1) == tiles.history).float().mean()
    return (
        f"|log error| {float(error.abs().mean()):.3f}, within [0.7, 1.35] {float(within):.3f}, "
        f"inside the 80 % interval {float(inside):.3f}, |correlation error| {float(correlation):.3f}, "
        f"history right {float(history):.3f}"
    )
