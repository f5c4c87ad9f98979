"""Train a denoising prior on a folder of photographs, or of small images with labels.

The loss and the step are in `invsolve.train.trainer`. All random draws of a step are a function of (seed, step), so an
interrupted run whose length is given by `steps` continues with exactly the losses of an uninterrupted run.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from invsolve.core.boundary import load_torch
from invsolve.core.checkpoint import atomic_save
from invsolve.core.checks import InputError, InvsolveError
from invsolve.priors.networks.unet import Denoiser, LabelledDenoiser, load_denoiser, save_denoiser
from invsolve.priors.networks.unet_config import DenoiserConfig
from invsolve.train.data import PhotoSet, find_images, split_images
from invsolve.train.labelled import LabelledSet, read_labelled
from invsolve.train.noise import NoiseLaw
from invsolve.train.report import RunLog
from invsolve.train.runtime import Runtime, stop_on_signal, without_denormals
from invsolve.train.settings import DenoiserTraining, check_output
from invsolve.train.trainer import Trainer
from invsolve.train.validation import Validation

__all__ = ["train_denoiser"]

logger = logging.getLogger(__name__)


def train_denoiser(config: DenoiserTraining) -> None:
    """Train until the planned end, or until SIGINT or SIGTERM, and write checkpoints regularly.

    Raises:
        InputError: if there are no images or unreadable ones, if `out` exists and neither `resume` nor `overwrite` is
            set, or if there is nothing to resume.
    """
    state = _starting_state(config)
    if state is not None:
        _check_settings(config, state["settings"])
    initial = None if config.init is None or state is not None else _initial(config)
    if state is not None:
        config = replace(config, network=DenoiserConfig.from_json(json.dumps(state["network"])))
    elif initial is not None:
        config = replace(config, network=_grown(initial.config, config.network.blocks))
    runtime = Runtime.detect(config.precision, compiled=config.compiled, workers=config.workers)
    config, photos, validation = _images(config, runtime)
    if initial is not None and config.labels:
        _check_start(config, initial.config)
    trainer = Trainer(config, photos, runtime)
    if state is not None:
        trainer.load_state_dict(state)
        if trainer.progress >= 1:
            logger.warning(
                "nothing is left to train: %d steps in %.2f hours are done; give more --hours or --steps",
                trainer.step, trainer.seconds / 3600,
            )  # fmt: skip
    elif initial is not None:
        trainer.start_from(initial)
    if state is None:
        config.state_path.unlink(missing_ok=True)  # state of an earlier run, which can no longer be resumed
    with RunLog(config.out, resume=state is not None) as log, stop_on_signal() as stopped, without_denormals():
        _loop(trainer, validation, log, stopped)


def _check_settings(config: DenoiserTraining, saved: dict[str, str]) -> None:
    """Check that a resumed run keeps its labels and optimizer; log a warning if its length changes.

    Raises:
        InputError: if `labels` or `optimizer` differ from those of the run.
    """
    for name in ("labels", "optimizer"):
        if str(getattr(config, name)) != saved[name]:
            flag = "--labels" if name == "labels" else f"--optimizer {saved[name]}"
            how = "without" if saved[name] == "False" else "with"
            raise InputError(f"{config.state_path} is from a run {how} {flag}: give the settings it was started with")
    planned, now = ({n: str(v) for n, v in each.items()} for each in (saved, asdict(config)))
    if (planned["steps"], planned["hours"]) != (now["steps"], now["hours"]):
        told = [f"{a['hours']} hours" if a["steps"] == "None" else f"{a['steps']} steps" for a in (planned, now)]
        logger.warning("the run was planned for %s, and continues to %s", *told)


def _check_start(config: DenoiserTraining, initial: DenoiserConfig) -> None:
    """Raise `InputError` if the initial network has another number of classes or channels than the images."""
    own, theirs = ((each.classes, each.image_channels) for each in (config.network, initial))
    if own != theirs:
        raise InputError(
            f"--init: the network has {theirs[0]} classes of images with {theirs[1]} channels, the images in "
            f"{config.images} have {own[0]} with {own[1]}: start without --init"
        )


def _initial(config: DenoiserTraining) -> Denoiser:
    """Load the network to start from."""
    assert config.init is not None
    try:
        return load_denoiser(config.init, build=LabelledDenoiser if config.labels else None)
    except InputError as error:
        raise InputError(f"--init: {error}") from error


def _grown(initial: DenoiserConfig, blocks: tuple[int, ...]) -> DenoiserConfig:
    """Return the architecture of the network to start from, with the requested numbers of blocks."""
    if blocks == DenoiserConfig().blocks:  # the default: no change requested
        return initial
    if len(blocks) != len(initial.blocks) or any(b < a for a, b in zip(initial.blocks, blocks, strict=True)):
        raise InputError(
            f"--blocks {','.join(map(str, blocks))}: the network of --init has {','.join(map(str, initial.blocks))}; "
            "give as many or more for each stage"
        )
    return replace(initial, blocks=blocks)


def _images(config: DenoiserTraining, runtime: Runtime) -> tuple[DenoiserTraining, PhotoSet | LabelledSet, Validation]:
    """Return the settings completed from the images, the training images and the validation set."""
    if config.labels:
        train, held = read_labelled(config.images).split(0.1)
        channels, classes = train.images.shape[1], len(train.classes)
        network = replace(config.network, image_channels=channels, classes=classes)
        law = NoiseLaw(wide=(-0.8, 1.6), wide_share=1.0)
        logger.info("%d images of %d classes, %d held out", len(train.labels), classes, len(held.labels))
        validation = Validation.of(held.images, runtime, np.random.default_rng(20240501), held.labels)
        return replace(config, network=network, noise=law), train, validation
    plot = config.out.with_suffix(".png").resolve()
    found = [path for path in find_images(config.images) if path.resolve() != plot]
    train_paths, validation_paths = split_images(found, config.validation)
    logger.info("held out for validation: %s", ", ".join(p.name for p in validation_paths))
    photos = PhotoSet(train_paths, max(config.crop, config.last_crop))
    return config, photos, Validation.of_photographs(validation_paths, runtime)


def _loop(trainer: Trainer, validation: Validation, log: RunLog, stopped: list[int]) -> None:
    config = trainer.config
    losses: list[float] = []
    images = 0
    last, since = time.perf_counter(), 0.0
    while trainer.progress < 1:
        losses.append(trainer.train_step())
        images += trainer.runtime.processes * config.batch
        now = time.perf_counter()
        trainer.seconds, since, last = trainer.seconds + now - last, since + now - last, now
        if not math.isfinite(losses[-1]):
            raise InvsolveError(
                f"the loss became {losses[-1]} at step {trainer.step}; resume with a lower --learning-rate"
            )
        due = (
            trainer.step % config.checkpoint_steps == 0
            if config.checkpoint_steps
            else since > 60 * config.checkpoint_minutes
        )
        if due or stopped or trainer.progress >= 1:
            _checkpoint(trainer, validation, log, losses, images / since)
            now = time.perf_counter()
            trainer.seconds, last = trainer.seconds + now - last, now
            losses, images, since = [], 0, 0.0
            if stopped:
                logger.info("stopped at step %d; continue with --resume", trainer.step)
                return


def _checkpoint(trainer: Trainer, validation: Validation, log: RunLog, losses: list[float], speed: float) -> None:
    """Validate the raw and averaged weights, write the state and the best weights, and add a line to the log."""
    if trainer.runtime.rank != 0:
        return
    scores: dict[str, dict[float, float]] = {}
    best, best_name, best_score = trainer.denoiser, "raw", -math.inf
    for name, candidate in {"raw": trainer.denoiser, **{k: a.module for k, a in trainer.averages.items()}}.items():
        scores[name] = validation.psnr(candidate)
        score = sum(scores[name].values())
        if score > best_score:
            best, best_name, best_score = candidate, name, score
    config = trainer.config
    config.out.parent.mkdir(parents=True, exist_ok=True)
    atomic_save(trainer.state_dict(), config.state_path)
    notes = {"step": str(trainer.step), "hours": f"{trainer.seconds / 3600:.2f}", "average": best_name}
    save_denoiser(best, config.out, notes=notes)
    log.add(trainer.step, trainer.seconds / 3600, float(np.mean(losses)), speed, best_name, scores)


def _starting_state(config: DenoiserTraining) -> dict[str, Any] | None:
    if config.resume:
        if not config.state_path.is_file():
            raise InputError(f"nothing to resume: no {config.state_path}; start without --resume")
        return load_torch(config.state_path, "training state")
    resumable = config.state_path.exists()
    for path in (config.out, config.state_path, config.out.with_suffix(".csv"), config.out.with_suffix(".png")):
        check_output(path, overwrite=config.overwrite, resumable=resumable)
    return None
