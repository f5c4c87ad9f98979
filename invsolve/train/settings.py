"""Settings of training runs, and the learning rate schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from invsolve.core.checks import InputError, check_positive
from invsolve.core.options import option
from invsolve.io import check_target
from invsolve.priors.networks.unet_config import DenoiserConfig
from invsolve.train.noise import NoiseLaw

__all__ = [
    "ClassifierTraining", "DenoiserTraining", "KernelTraining", "NoiseTraining", "check_output", "learning_rate_factor",
]  # fmt: skip


@dataclass(frozen=True)
class DenoiserTraining:
    """All settings of a training run.

    Args:
        images: folder of images, searched recursively.
        out: weight file to write; the run's state, CSV and plot are written beside it.
        hours: length of the run in hours of training, over all resumed parts. Ignored if `steps` is given.
        steps: length of the run in optimiser steps; makes the run reproducible, since nothing then depends on speed.
        init: weight file of `train denoiser` to start from, instead of random weights. The architecture is that of the
            file, deeper if `network` has other blocks than its default (new blocks begin as the identity). Give more
            `warmup` steps in this case: a sudden large learning rate destroys part of what was learnt.
        resume: continue from the state beside `out`.
        overwrite: start a new run even if `out` exists.
        labels: the sub-folders of `images` are classes of small images of one size, which are not cropped. The network
            learns to denoise with a class label and without one, at the noise levels of a diffusion.
        network: architecture; a resumed run keeps the one it started with.
        optimizer: "muon" (with AdamW for all weights except the inner convolutions) or "adamw".
        learning_rate: peak learning rate.
        weight_decay: decoupled weight decay of the inner convolutions.
        warmup: steps of linear warm-up.
        decay: share of the run over which the learning rate falls linearly to zero, in (0, 1].
        batch: crops per step while crops have side `crop`.
        crop: side of the crops in pixels.
        final_crop: side of the crops once the learning rate falls, `crop` if None; the batch shrinks to keep the number
            of pixels.
        clip: largest norm of the gradient.
        noise: distribution of the noise levels.
        validation: prefixes of the names of images to hold out; every tenth image if empty.
        checkpoint_minutes: time between validations, each followed by a checkpoint.
        checkpoint_steps: steps between validations, instead of minutes; makes the log reproducible.
        precision: "auto" (bfloat16 if the processor supports it), "bf16" or "fp32".
        compiled: compile the network first: a minute or two, then some 15% faster on a CPU; needs a C++ compiler.
        workers: threads that share a batch on a CPU; as many as torch uses if None. Another number of threads gives
            different rounding errors.
        seed: seed of everything random.
    """

    images: Path = option(help="folder of images, searched recursively", metavar="DIR")
    out: Path = option(help="weight file to write (.safetensors)", metavar="FILE")
    hours: float = option(1.0, "length of the run over all its parts", exclusive="length")
    steps: int | None = option(None, "length of the run in steps, for a reproducible run", exclusive="length")
    init: Path | None = option(None, "weights of an earlier training to start from", metavar="FILE")
    resume: bool = option(False, "continue the run whose state is beside FILE", exclusive="start")
    overwrite: bool = option(False, "start again even if FILE exists", exclusive="start")
    labels: bool = option(False, "sub-folders of DIR are classes of small images of one size")
    network: DenoiserConfig = field(default_factory=DenoiserConfig)
    optimizer: Literal["muon", "adamw"] = option("muon", "muon or adamw")
    learning_rate: float = option(2e-3, "peak learning rate")
    weight_decay: float = 0.01
    warmup: int = option(100, "steps over which the learning rate rises")
    decay: float = option(0.6, "share of the run in which the rate falls")
    batch: int = option(32, "crops per step")
    crop: int = option(64, "side of the crops in pixels")
    final_crop: int | None = option(None, "side of the crops while the rate falls (default: --crop)")
    clip: float = 1.0
    noise: NoiseLaw = field(default_factory=NoiseLaw)
    validation: tuple[str, ...] = option((), "images to hold out, by the start of their names", metavar="NAME")
    checkpoint_minutes: float = option(5.0, "time between checkpoints")
    checkpoint_steps: int | None = None
    precision: Literal["auto", "bf16", "fp32"] = option("auto", "auto, bf16 or fp32")
    compiled: bool = option(False, "compile the network first; needs a C++ compiler", flag="--compile")
    workers: int | None = option(None, "threads that share a batch on a CPU (default: as torch uses)")
    seed: int = option(0, "random seed")

    def __post_init__(self) -> None:
        if self.optimizer not in ("muon", "adamw") or self.precision not in ("auto", "bf16", "fp32"):
            raise InputError(
                f"optimizer must be muon or adamw, precision auto, bf16 or fp32; got {self.optimizer}, {self.precision}"
            )
        if self.out.suffix != ".safetensors":
            raise InputError(f"the weight file must end in .safetensors, got {self.out}")
        sizes = (self.batch, self.crop, self.last_crop, self.warmup)
        amounts = (self.checkpoint_minutes, self.hours, self.learning_rate, self.clip)
        if min(*sizes, *amounts) <= 0 or (self.steps is not None and self.steps < 1):
            raise InputError(
                "batch, crop, final_crop, warmup, checkpoint_minutes, hours, steps, learning_rate and clip must be "
                "positive"
            )
        if not 0 < self.decay <= 1:
            raise InputError(f"decay must be a share of the run in (0, 1], got {self.decay}")

    @property
    def last_crop(self) -> int:
        """Side of the crops once the learning rate falls."""
        return self.crop if self.final_crop is None else self.final_crop

    @property
    def state_path(self) -> Path:
        """File from which a run is resumed."""
        return self.out.with_suffix(".state.pt")

    def progress(self, step: int, seconds: float) -> float:
        """Return the completed share of the run, in [0, 1]: by steps if they are given, else by training time."""
        return min(1.0, step / self.steps if self.steps is not None else seconds / (3600 * self.hours))


@dataclass(frozen=True)
class ClassifierTraining:
    """Settings of `train classifier`.

    Args:
        images: a folder with one sub-folder per class.
        out: weight file to write.
        steps, batch, learning_rate: settings of AdamW; the learning rate falls to zero along a half cosine.
        gradient_penalty: the weight w_grad.
        score_matching: the weight w_dlsm; needs `prior`.
        prior: a weight file of `train denoiser --labels` on the same images.
        label_smoothing: share of the label spread over all classes, in [0, 1).
        weight_decay: decoupled weight decay.
        sigma: smallest and largest noise level, in [-1, 1] units.
        width: features of the network.
        overwrite: replace an existing `out`.
        seed: seed of everything random.
    """

    images: Path = option(help="folder with one sub-folder for each class", metavar="DIR")
    out: Path = option(help="weight file to write (.safetensors)", metavar="FILE")
    steps: int = option(1500, "length of the run")
    batch: int = option(128, "images per step")
    learning_rate: float = option(2e-3, "peak learning rate")
    gradient_penalty: float = option(0.01, "smoothness of the guidance")
    score_matching: float = option(0.0, "weight of score matching; needs --prior")
    prior: Path | None = option(None, "weight file of train denoiser --labels on the same images", metavar="FILE")
    label_smoothing: float = option(0.0, "share of the label spread over all classes")
    weight_decay: float = 0.01
    sigma: tuple[float, float] = (0.02, 40.0)
    width: int = option(24, "features of the network")
    overwrite: bool = option(False, "start again even if FILE exists")
    seed: int = option(0, "random seed")

    def __post_init__(self) -> None:
        check_positive(self.gradient_penalty, "the gradient penalty", zero=True)
        check_positive(self.score_matching, "the weight of score matching", zero=True)
        if min(self.steps, self.batch, self.width) < 1 or self.learning_rate <= 0:
            raise InputError("steps, batch, width and learning rate must be positive")
        if not 0 <= self.label_smoothing < 1 or not 0 < self.sigma[0] < self.sigma[1]:
            raise InputError("label smoothing must lie in [0, 1), and 0 < sigma low < sigma high")
        if self.score_matching > 0 and self.prior is None:
            raise InputError("score matching needs the score: give --prior, a weight file of train denoiser --labels")


@dataclass(frozen=True)
class NoiseTraining:
    """Settings of `train noise`.

    Args:
        images: a folder of photographs, searched recursively.
        out: weight file to write.
        minutes: length of the run over all resumed parts, if `steps` is not given.
        steps: length of the run in steps; makes the run reproducible.
        batch: tiles per step.
        learning_rate: peak learning rate of AdamW; it falls along a half cosine.
        validation: prefixes of the names of images to hold out; every tenth image if empty.
        resume: continue from the state beside `out`.
        overwrite: replace an existing `out`.
        seed: seed of everything random.
    """

    images: Path = option(help="folder of photographs, searched recursively", metavar="DIR")
    out: Path = option(help="weight file to write (.safetensors)", metavar="FILE")
    minutes: float = option(30.0, "length of the run", exclusive="length")
    steps: int | None = option(None, "length of the run in steps, for a reproducible run", exclusive="length")
    batch: int = option(32, "tiles per step")
    learning_rate: float = option(2e-3, "peak learning rate")
    validation: tuple[str, ...] = option((), "images to hold out, by the start of their names", metavar="NAME")
    resume: bool = option(False, "continue the run whose state is beside FILE", exclusive="start")
    overwrite: bool = option(False, "start again even if FILE exists", exclusive="start")
    seed: int = option(0, "random seed")

    def __post_init__(self) -> None:
        if self.batch < 1 or self.learning_rate <= 0 or self.minutes <= 0 or (self.steps or 1) < 1:
            raise InputError("batch, learning rate, minutes and steps must be positive")

    @property
    def state(self) -> Path:
        """The file from which an interrupted run is resumed."""
        return self.out.with_suffix(".state")


@dataclass(frozen=True)
class KernelTraining:
    """Settings of `train kernels`.

    Args:
        images: a folder of photographs, searched recursively.
        out: weight file to write; examples are stored in a folder beside it, and reused by the next run.
        examples: number of blurred files to train on; each takes about two seconds to make.
        steps, batch, learning_rate, weight_decay: settings of AdamW; the learning rate falls along a half cosine.
        validation: prefixes of the names of images to hold out; every tenth image if empty.
        workers: number of processes that make examples.
        overwrite: replace an existing `out`.
        seed: seed of everything random.
    """

    images: Path = option(help="folder of photographs, searched recursively", metavar="DIR")
    out: Path = option(help="weight file to write (.safetensors)", metavar="FILE")
    examples: int = option(1600, "blurred files to make and to learn from")
    steps: int = option(5000, "length of the training")
    batch: int = option(16, "examples per step")
    learning_rate: float = option(1.5e-3, "peak learning rate")
    weight_decay: float = 0.05
    validation: tuple[str, ...] = option((), "images to hold out, by the start of their names", metavar="NAME")
    workers: int = option(2, "processes that make examples")
    overwrite: bool = option(False, "replace FILE if it exists")
    seed: int = option(0, "random seed")

    def __post_init__(self) -> None:
        check_positive(self.learning_rate, "the learning rate")
        if min(self.examples, self.steps, self.batch, self.workers) < 1:
            raise InputError("examples, steps, batch and workers must be at least 1")

    @property
    def examples_folder(self) -> Path:
        """The folder in which examples are stored."""
        return self.out.with_suffix(".examples")


def check_output(path: Path, *, overwrite: bool, resumable: bool = False) -> None:
    """Check that a new run may and can write a file; its folder is created.

    Args:
        path: the file.
        overwrite: whether the run may replace it.
        resumable: whether the run that wrote it can be resumed.

    Raises:
        InputError: if the file exists and must not be replaced, or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path.parent} cannot be created: {error.strerror}") from error
    if path.exists() and not overwrite:
        ways = "continue it with --resume, name another --out" if resumable else "name another --out"
        raise InputError(f"{path} already exists, and the run would write it: {ways}, or use --overwrite")
    check_target(path, overwrite=True)


def learning_rate_factor(step: int, progress: float, *, warmup: int, decay: float) -> float:
    """Learning rate schedule: linear warm-up over `warmup` steps, constant, linear to zero over the last `decay`.

    The constant part makes a run extensible: it can be resumed with more hours before the rate falls, without any loss.
    """
    return min(1.0, (step + 1) / warmup) * min(1.0, (1 - progress) / decay)
