"""Train the network that corrects blur kernels estimated from edges; see `invsolve.train.kernel_score`."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.files import written_whole
from invsolve.priors.networks.execution import gains_by_bfloat16
from invsolve.tasks.blind.network import KernelNetwork, save_kernel_network
from invsolve.train.average import PowerAverage
from invsolve.train.blurred_files import BlurredFiles, Examples, examples
from invsolve.train.data import find_images, split_images
from invsolve.train.kernel_score import kernel_loss, score
from invsolve.train.report import SmoothedLoss
from invsolve.train.runtime import without_denormals
from invsolve.train.settings import KernelTraining, check_output

__all__ = ["train_kernel_network", "validate"]

logger = logging.getLogger(__name__)

_WARM_UP, _WIDTH = 100, 0.08
_FEWEST_CHECKS, _OTHER_SEED = 50, 1_000_003
_FOUND = 0.8


def train_kernel_network(config: KernelTraining) -> KernelNetwork:
    """Make the missing examples, train, write the weight file, and return the network.

    Raises:
        InputError: if `out` exists and `overwrite` is not set, or the examples beside it belong to another run.
        InvsolveError: if the loss is no longer finite.
    """
    check_output(config.out, overwrite=config.overwrite)
    train, held = split_images(find_images(config.images), config.validation)
    data = _kept(config, train, "training", config.examples)
    checks = _kept(config, held, "validation", max(config.examples // 20, _FEWEST_CHECKS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = KernelNetwork()
    from_edges = checks.evidence[:, 0] / checks.evidence[:, 0].sum((-2, -1), keepdim=True)
    logger.info("%d weights", sum(p.numel() for p in network.parameters()))
    logger.info("kernels from edges: %s", _told(from_edges, checks))
    with without_denormals():
        network = _train(config, network, data, checks)
    run = {"steps": str(config.steps), "examples": str(config.examples), "seed": str(config.seed)}
    save_kernel_network(network, config.out, {**run, "validation": validate(network, checks)})
    return network.eval().requires_grad_(False)


def _kept(config: KernelTraining, photographs: list[Path], part: str, count: int) -> Examples:
    """Read or make examples; raise an error if the stored ones are of other photographs or another seed."""
    files = BlurredFiles(photographs, config.seed + (part == "validation") * _OTHER_SEED)
    folder = config.examples_folder / part
    note = folder / "made-of.json"
    names = [[path.relative_to(config.images).as_posix(), path.stat().st_size] for path in files.paths]
    made_of = {"photographs": names, "seed": files.seed}
    if note.exists() and json.loads(note.read_text()) != made_of:
        raise InputError(f"{folder} holds examples of another run: delete it, or choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(note) as written:
        written.write_text(json.dumps(made_of))
    return examples(files, count, folder, config.workers)


def _train(config: KernelTraining, network: KernelNetwork, data: Examples, checks: Examples) -> KernelNetwork:
    """Train, and return the network with the running average of its weights."""
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    average, bf16 = PowerAverage(network, _WIDTH, every=1), gains_by_bfloat16(torch.device("cpu"))
    averaged = cast(KernelNetwork, average.module)
    rng, smoothed, began = np.random.default_rng((config.seed, 6)), SmoothedLoss(0.98), time.monotonic()
    network.train()
    for step in range(config.steps):
        fall = 0.5 * (1 + math.cos(math.pi * step / config.steps)) + 0.01
        optimizer.param_groups[0]["lr"] = config.learning_rate * min(1, (step + 1) / _WARM_UP) * fall
        batch = _batch(data, config.batch, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            kernels = network(batch.evidence)
        loss = kernel_loss(kernels, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network, step + 1)
        smoothed.add(float(loss.detach()), step + 1)
        if (step + 1) % 500 == 0:
            seconds, told = time.monotonic() - began, validate(averaged, checks)
            logger.info("step %d, %.0f s, loss %.4f; held out: %s", step + 1, seconds, smoothed.mean, told)
    return averaged


def _batch(data: Examples, size: int, rng: np.random.Generator) -> Examples:
    """Draw random examples, each randomly rotated and mirrored."""
    picked = torch.from_numpy(rng.integers(len(data.sigma), size=size))
    batch = Examples(*(values[picked] for values in data))
    turns = [(int(rng.integers(4)), bool(rng.random() < 0.5)) for _ in range(size)]
    evidence, true = (
        torch.stack([_turned(picture, *turn) for picture, turn in zip(part, turns, strict=True)])
        for part in (batch.evidence, batch.true)
    )
    return batch._replace(evidence=evidence, true=true)


def _turned(picture: Tensor, quarters: int, mirror: bool) -> Tensor:
    return torch.rot90(picture.flip(-1) if mirror else picture, quarters, (-2, -1))


@torch.no_grad()
def validate(network: KernelNetwork, data: Examples) -> str:
    """Summarise the scores on examples: correlation with the true kernels, share found, excess and gain in dB."""
    network.eval()
    return _told(torch.cat([network(part) for part in data.evidence.split(64)]), data)


def _told(kernels: Tensor, data: Examples) -> str:
    found = score(kernels, data)
    share = float((found.correlation > _FOUND).float().mean())
    return (
        f"correlation {float(found.correlation.mean()):.3f}, above {_FOUND} in {100 * share:.0f} %, "
        f"excess {float(found.excess.mean()):.2f} dB, gain {float(found.gain.mean()):.2f} dB"
    )
