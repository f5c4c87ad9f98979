"""The state of a run of `train denoiser`, and one training step.

The loss is the EDM loss `w(sigma) |F(c_in x; sigma) - (x0 - c_skip x) / c_out|^2` (arXiv:2206.00364, eq. 8) with
weights that make every noise level equally important. All random draws of a step are a function of (seed, step).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.priors.networks.unet import Denoiser, LabelledDenoiser
from invsolve.train.average import PowerAverage
from invsolve.train.data import PhotoSet
from invsolve.train.labelled import LabelledSet
from invsolve.train.noise import LevelWeights
from invsolve.train.optim import Muon, split_parameters
from invsolve.train.runtime import Runtime
from invsolve.train.settings import DenoiserTraining, learning_rate_factor

__all__ = ["Trainer"]

CALIBRATION_CROPS = 8
"""Number of crops on which the losses of an initial network are measured at each noise level."""


class Trainer:
    """The state of a run, with a method for one training step.

    Args:
        config: the settings.
        photos: training images.
        runtime: device and precision.
    """

    def __init__(self, config: DenoiserTraining, photos: PhotoSet | LabelledSet, runtime: Runtime) -> None:
        self.config, self.photos, self.runtime = config, photos, runtime
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            build = LabelledDenoiser if config.network.classes else Denoiser
            self.denoiser = build(config.network).to(runtime.device)
        self.denoiser = self.denoiser.to(memory_format=torch.channels_last)
        self.model = runtime.prepare(self.denoiser)
        self.optimizers = _optimizers(self.denoiser, config, runtime)
        self.averages = {f"ema{w:g}": PowerAverage(self.denoiser, w) for w in (0.02, 0.05, 0.10)}
        self.levels = LevelWeights()
        self.step, self.seconds = 0, 0.0

    def start_from(self, initial: Denoiser) -> None:
        """Start from the weights of a trained network instead of random weights.

        The given network has the same architecture, or fewer residual blocks: new blocks start as the identity, so the
        deeper network first gives the same output. The loss weights of the noise levels are initialised with the
        network's own losses. With the weights of a random start it would first get worse at low noise levels.
        """
        self.denoiser.load_state_dict(self.denoiser.state_dict() | initial.state_dict())
        for average in self.averages.values():
            average.load(self.denoiser.state_dict())
        entropy = (self.config.seed, 2)
        crops, labels = self.photos.draw(CALIBRATION_CROPS, self.config.crop, np.random.default_rng(entropy))
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        noise = torch.randn(crops.shape, generator=generator)
        condition = () if labels is None else (labels,)
        for i, sigma in enumerate(self.levels.levels):
            level = sigma.expand(len(crops))
            with torch.no_grad(), self.runtime.autocast():
                drawn = (tensor.to(self.runtime.device) for tensor in (crops + sigma * noise, level, *condition))
                error = self.denoiser(*drawn).float().cpu() - crops
            c_out = self.denoiser.preconditioning(level.to(self.runtime.device))[1].cpu()
            self.levels.mean[i] = (error.square().mean(dim=(1, 2, 3)) / c_out.square()).mean()

    @property
    def progress(self) -> float:
        """The completed share of the run, in [0, 1]."""
        return self.config.progress(self.step, self.seconds)

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return clean crops, noise levels, unit noise and labels of the current step, from (seed, step, process)."""
        config = self.config
        size = config.crop if self.progress < 1 - config.decay else config.last_crop
        n = max(1, round(config.batch * (config.crop / size) ** 2))
        entropy = (config.seed, self.step, self.runtime.rank)
        x0, labels = self.photos.draw(n, size, np.random.default_rng(entropy))
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence((*entropy, 1)).generate_state(1)[0]))
        return x0, config.noise.sample(n, generator), torch.randn(x0.shape, generator=generator), labels

    def train_step(self) -> float:
        """Take one optimiser step and return the mean unweighted loss."""
        *drawn, labels = self.batch()
        x0, sigma, noise = (tensor.to(self.runtime.device) for tensor in drawn)
        weight = self.levels(sigma.cpu()).to(sigma) / len(sigma)

        def part_loss(part: slice) -> tuple[Tensor, Tensor]:
            clean, level = x0[part], sigma[part]
            c_out = self.denoiser.preconditioning(level)[1]
            condition = () if labels is None else (labels[part].to(level.device),)
            with self.runtime.autocast():
                error = self.model(clean + level[:, None, None, None] * noise[part], level, *condition) - clean
            loss = error.square().mean(dim=(1, 2, 3)) / c_out.square()
            return (weight[part] * loss).sum(), loss.detach().cpu()

        loss = self.runtime.gradients(part_loss, len(sigma), list(self.denoiser.parameters()))
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), self.config.clip)
        factor = learning_rate_factor(self.step, self.progress, warmup=self.config.warmup, decay=self.config.decay)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * factor
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.levels.update(sigma.cpu(), loss)
        for average in self.averages.values():
            average.update(self.denoiser, self.step)
        return float(loss.mean())

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {
            "network": asdict(self.config.network),
            "settings": {k: str(v) for k, v in asdict(self.config).items()},
            "step": self.step,
            "seconds": self.seconds,
            "model": self.denoiser.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "averages": {k: a.weights for k, a in self.averages.items()},
            "levels": self.levels.mean,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.denoiser.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, average in self.averages.items():
            average.load(state["averages"][name])
        self.levels.mean = state["levels"]
        self.step, self.seconds = state["step"], state["seconds"]


def _optimizers(denoiser: Denoiser, config: DenoiserTraining, runtime: Runtime) -> list[torch.optim.Optimizer]:
    inner, rest = split_parameters(denoiser)
    lr, betas = config.learning_rate, (0.9, 0.99)
    if config.optimizer == "adamw":
        return [torch.optim.AdamW([*inner, *rest], lr, betas, weight_decay=config.weight_decay)]
    pool = runtime.pool if runtime.workers > 1 else None
    return [
        Muon(inner, lr, weight_decay=config.weight_decay, pool=pool),
        torch.optim.AdamW(rest, lr, betas, weight_decay=0.0),
    ]
