"""Settings of a training run, and its learning rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from invsolve.core.checks import InputError
from invsolve.core.options import option
from invsolve.priors.networks.unet import DenoiserConfig
from invsolve.train.noise import NoiseLaw

__all__ = ["DenoiserTraining", "learning_rate_factor"]


@dataclass(frozen=True)
class DenoiserTraining:
    """All settings of a training run.

    Args:
        images: folder of images, searched recursively.
        out: weight file to write; the run's state, CSV and plot are written beside it.
        hours: length of the run in hours of training, over all resumed parts. Ignored where `steps` is given.
        steps: length of the run in optimiser steps; makes the run reproducible, since nothing then depends on speed.
        init: weight file of `train denoiser` to start from, in place of random weights; the network becomes that of the
            file. Give more `warmup` steps then: a sudden large learning rate undoes part of what was learnt.
        resume: continue from the state beside `out`.
        overwrite: start anew although `out` exists.
        labels: the sub-folders of `images` are classes, the images small, all of one size, and taken whole: the
            network learns to take a class label, and none. Its noise levels are those of a diffusion.
        network: architecture; a resumed run keeps the one it started with.
        optimizer: "muon" (AdamW for what is no inner convolution) or "adamw".
        learning_rate: peak learning rate.
        weight_decay: decoupled weight decay of the inner convolutions.
        warmup: steps of linear warm-up.
        decay: share of the run over which the learning rate falls linearly to zero, in (0, 1].
        batch: crops a step while crops have side `crop`.
        crop: side of the crops in pixels.
        final_crop: side of the crops once the learning rate falls, `crop` if None; the batch shrinks to keep the number
            of pixels.
        clip: largest norm of the gradient.
        noise: law of the noise levels.
        validation: beginnings of the names of images to hold out; empty: every tenth.
        checkpoint_minutes: time between validations, each followed by a checkpoint.
        checkpoint_steps: steps between them instead, which makes the log reproducible.
        precision: "auto" (bfloat16 where the processor has it), "bf16" or "fp32".
        compiled: compile the network first: a minute or two, then some 15% faster on a CPU; needs a C++ compiler.
        workers: threads that share a batch on a CPU; None: as many as torch uses. Another number rounds differently.
        seed: seed of everything.
    """

    images: Path = option(help="folder of images, searched recursively", metavar="DIR")
    out: Path = option(help="weight file to write (.safetensors)", metavar="FILE")
    hours: float = option(1.0, "length of the run over all its parts", exclusive="length")
    steps: int | None = option(None, "length of the run in steps, for a reproducible run", exclusive="length")
    init: Path | None = option(None, "weights of an earlier training to start from", metavar="FILE")
    resume: bool = option(False, "continue the run whose state lies beside FILE", exclusive="start")
    overwrite: bool = option(False, "start anew although FILE exists", exclusive="start")
    labels: bool = option(False, "sub-folders of DIR are classes of small images of one size")
    network: DenoiserConfig = field(default_factory=DenoiserConfig)
    optimizer: Literal["muon", "adamw"] = option("muon", "muon or adamw")
    learning_rate: float = option(2e-3, "peak learning rate")
    weight_decay: float = 0.01
    warmup: int = option(100, "steps over which the learning rate rises")
    decay: float = option(0.6, "share of the run in which the rate falls")
    batch: int = option(32, "crops a step")
    crop: int = option(64, "side of the crops in pixels")
    final_crop: int | None = option(None, "side of the crops while the rate falls (default: --crop)")
    clip: float = 1.0
    noise: NoiseLaw = field(default_factory=NoiseLaw)
    validation: tuple[str, ...] = option((), "images to hold out, by first letters", metavar="NAME")
    checkpoint_minutes: float = option(5.0, "time between checkpoints")
    checkpoint_steps: int | None = None
    precision: Literal["auto", "bf16", "fp32"] = option("auto", "auto, bf16 or fp32")
    compiled: bool = option(False, "compile the network first; needs a C++ compiler", flag="--compile")
    workers: int | None = option(None, "threads that share a batch on a CPU (default: as torch uses)")
    seed: int = option(0, "of everything random")

    def __post_init__(self) -> None:
        if self.optimizer not in ("muon", "adamw") or self.precision not in ("auto", "bf16", "fp32"):
            raise InputError(
                f"optimizer is muon or adamw, precision auto, bf16 or fp32; got {self.optimizer}, {self.precision}"
            )
        sizes = (
            self.batch,
            self.crop,
            self.last_crop,
            self.warmup,
            self.checkpoint_minutes,
            self.learning_rate,
            self.clip,
        )
        if min(sizes) <= 0 or self.hours <= 0 or (self.steps is not None and self.steps < 1):
            raise InputError("batch, crop, final_crop, warmup, hours, steps, learning_rate and clip must be positive")
        if not 0 < self.decay <= 1:
            raise InputError(f"decay is a share of the run in (0, 1], got {self.decay}")

    @property
    def last_crop(self) -> int:
        """Side of the crops once the learning rate falls."""
        return self.crop if self.final_crop is None else self.final_crop

    @property
    def state_path(self) -> Path:
        """File from which a run is resumed."""
        return self.out.with_suffix(".state.pt")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, in [0, 1]: by steps where they are given, else by the time trained."""
        return min(1.0, step / self.steps if self.steps is not None else seconds / (3600 * self.hours))


def learning_rate_factor(step: int, progress: float, *, warmup: int, decay: float) -> float:
    """Linear warm-up over `warmup` steps, constant, then linear to zero over the last `decay` of the run.

    The constant part makes a run extensible: resumed with more hours before the fall, nothing is lost.
    """
    return min(1.0, (step + 1) / warmup) * min(1.0, (1 - progress) / decay)
