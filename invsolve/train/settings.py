"""Settings of a training run, and its learning rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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
        final_crop: side of the crops once the learning rate falls; the batch shrinks to keep the number of pixels.
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

    images: Path
    out: Path
    hours: float = 1.0
    steps: int | None = None
    init: Path | None = None
    resume: bool = False
    overwrite: bool = False
    labels: bool = False
    network: DenoiserConfig = field(default_factory=DenoiserConfig)
    optimizer: str = "muon"
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 100
    decay: float = 0.6
    batch: int = 32
    crop: int = 64
    final_crop: int = 64
    clip: float = 1.0
    noise: NoiseLaw = field(default_factory=NoiseLaw)
    validation: tuple[str, ...] = ()
    checkpoint_minutes: float = 5.0
    checkpoint_steps: int | None = None
    precision: str = "auto"
    compiled: bool = False
    workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in ("muon", "adamw") or self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(
                f"optimizer is muon or adamw, precision auto, bf16 or fp32; got {self.optimizer}, {self.precision}"
            )
        sizes = (
            self.batch,
            self.crop,
            self.final_crop,
            self.warmup,
            self.checkpoint_minutes,
            self.learning_rate,
            self.clip,
        )
        if min(sizes) <= 0 or self.hours <= 0 or (self.steps is not None and self.steps < 1):
            raise ValueError("batch, crop, final_crop, warmup, hours, steps, learning_rate and clip must be positive")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is a share of the run in (0, 1], got {self.decay}")

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
