"""`restore`: restore an image with one call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError, InvsolveError, enough_memory
from invsolve.core.context import own_context
from invsolve.core.counting import Calls
from invsolve.core.driver import Progress, solve
from invsolve.core.operator import Params
from invsolve.core.prior import Prior
from invsolve.core.problem import Problem
from invsolve.core.result import Result, Stats
from invsolve.execution.memory import freed_memory_kept
from invsolve.io.inputs import Source
from invsolve.priors.channelwise import ChannelwisePrior
from invsolve.priors.network import weights_of
from invsolve.priors.traits import traits_of
from invsolve.restoration.doubts import doubts_of
from invsolve.restoration.job import Job
from invsolve.restoration.loading import known_traits, load_prior
from invsolve.restoration.options import Options
from invsolve.restoration.prepare import paced, prepare
from invsolve.restoration.record import make_record
from invsolve.restoration.restored import Restoration
from invsolve.restoration.scores import score
from invsolve.restoration.told import Doubts
from invsolve.restoration.uncertainty import uncertainty_of
from invsolve.tasks.auto import Unchanged
from invsolve.tasks.resizing import resized

__all__ = ["restore", "run"]

logger = logging.getLogger(__name__)


def restore(
    image: Source, task: str = "auto", *, callbacks: Sequence[Callable[[Progress], None]] = (), **options: Any
) -> Restoration:
    """Restore a photograph.

    Args:
        image: the degraded image: a file, an `Image`, a tensor [C, H, W] in [0, 1] or an array [H, W, C]
            (with `simulate`: a clean image, which is degraded first).
        task: a name from `invsolve.tasks.TASKS`: "denoise", "superres", "inpaint", "deblur", "blind-deblur",
            "jpeg" or "demosaic"; "auto" selects the task whose options are given, or else inspects the image: see
            `invsolve.tasks.auto.look`.
        callbacks: functions called after every step of the solver.
        options: any of the following, and the options of additionally installed tasks; some belong to one task only.
            factor: super-resolution factor, an integer of at least 2 (4).
            mask: mask of the image's size, white for missing pixels; by default, transparent pixels are missing.
            kernel: the blur kernel (point spread function): an image, a .npy or text file, or an array.
            blur_sigma: instead of a kernel, the standard deviation of a Gaussian blur in pixels.
            kernel_size: side in pixels of the kernel that blind deblurring estimates, odd (33, or less if needed).
            compression: JPEG quality if the file does not contain it, and the quality for a simulation (30).
            noise: standard deviation of the noise in [0, 1] units, or "auto": estimated from the image.
            prior: a Prior, or any value that `invsolve.priors.load` accepts ("natural").
            prior_options: options of `invsolve.priors.load`, for example {"vae": FOLDER} or {"compile": True}.
            label: class of the image, for class-conditional priors.
            prompt, negative_prompt: what the image shows and does not show, for text-conditional priors.
            preset: name of published settings, such as "ffhq256/superres4".
            presets: a table of settings written by `invsolve tune`.
            solver: a name from `invsolve.solvers.SOLVERS`, or a Solver; by default the best known solver for the prior
                and the task (`invsolve.restoration.choice`). The record says which one, and why.
            settings: hyperparameters of the solver that replace the chosen ones.
            samples: number of posterior samples. They define the intervals of the restored image. The restored image
                is the point estimate; it is the sample mean if a solver or a preset is named, and for priors of whole
                images.
            calibration: file with intervals measured by `invsolve calibrate`; by default the packaged calibration.
            seed: seed for all random numbers (0).
            device: "cpu", "cuda", ..., or "auto".
            simulate: degrade a clean image first, and report PSNR and SSIM against it.
            memory: memory limit in GiB; by default half of the machine's memory.
            tile: side in pixels of the network's tiles; by default chosen from `memory`.
            checkpoint: a checkpoint file; an interrupted run continues from it.
            checkpoint_seconds: seconds between checkpoints (10).
            quality: "fast", "balanced" or "best" ("balanced"): settings for few or many network calls.
            time_limit: time limit in seconds. The best quality within the limit is chosen, based on network calls timed
                on this machine.
            precision: precision of the network's matrix products, "float32", "bfloat16" or "auto": bfloat16 for
                `natural` and `natural-deep` if it is faster. States are always float32.

    Raises:
        InputError: a request that cannot be fulfilled; raised before the computation starts.
    """
    with enough_memory():
        told = Options.of(task, **options)
        traits, prior = known_traits(told), None
        if traits is None:
            prior = load_prior(told)
            traits = traits_of(prior)
        job = prepare(image, told, traits)
    return run(job, prior, callbacks=callbacks)


def run(job: Job, prior: Prior | None = None, *, callbacks: Sequence[Callable[[Progress], None]] = ()) -> Restoration:
    """Restore a prepared image.

    Args:
        job: see `prepare`.
        prior: the prior, if it is already loaded; see `load_prior`.
        callbacks: functions called after every step of the solver.

    Raises:
        InvsolveError: no sample has a finite estimate, or the memory is exhausted.
    """
    with enough_memory(), freed_memory_kept(), own_context():
        return _run(job, prior, callbacks)


def _run(job: Job, prior: Prior | None, callbacks: Sequence[Callable[[Progress], None]]) -> Restoration:
    from invsolve.costs import GaussianLikelihood

    prior = load_prior(job.options) if prior is None else prior
    _check_calibration(job, prior)
    job, prior = _matched(job, prior)
    if isinstance(job.task, Unchanged):
        return _unchanged(job, prior)
    calls, began = Calls(), time.perf_counter()
    if job.task.unknowns is None:
        job = job.identified(prior.counted(calls))
    spent = time.perf_counter() - began
    job = paced(job, prior, spent)
    prior = job.plan.apply(prior, job.size)
    sigma = job.likelihood_sigma
    cost = GaussianLikelihood(job.operator, job.measurement(job.y, job.channels)[None], sigma)
    problem = Problem(prior, cost, job.task.unknowns)
    if job.task.interpolates:
        job = replace(job, options=job.options.without_samples())
        return _restoration(job, prior, _without_solver(job, problem.to_image(problem.smooth_estimate)[None]), None)
    result = solve(
        problem,
        job.solver,
        samples=job.options.samples or 1,
        seed=job.options.seed,
        callbacks=callbacks,
        microbatch=job.plan.microbatch,
        checkpoint=job.options.checkpoint,
        checkpoint_seconds=job.options.checkpoint_seconds,
        antithetic=True,
    )
    if not job.choice.own:
        logger.warning("%s", job.choice.reason)
    point = None if job.point is None else solve(problem, job.point, seed=job.options.seed)
    searched = spent if job.task.estimates_kernel else 0.0
    shared = [Stats(calls.forward_rows, calls.backward_rows, searched, 0), *([] if point is None else [point.stats])]
    return _restoration(job, prior, _with_shared(result, shared), point)


def _check_calibration(job: Job, prior: Prior) -> None:
    """Log a warning if the calibration of the intervals was measured with other weights."""
    table, source = (None, "") if (job.options.samples or 1) < 2 else job.calibration
    if table is not None and table.weights != weights_of(prior):
        logger.warning("%s was calibrated with other weights of this prior: its intervals may be wrong here", source)


def _with_shared(result: Result, shared: Sequence[Stats]) -> Result:
    """Add costs that all samples share to the result: the estimation before the solver run, the point estimate."""
    stats, samples = result.stats, result.samples.shape[1]
    return replace(
        result,
        stats=Stats(
            stats.network_forwards + sum(each.network_forwards for each in shared) / samples,
            stats.network_backwards + sum(each.network_backwards for each in shared) / samples,
            stats.seconds + sum(each.seconds for each in shared),
            max(stats.peak_memory, *(each.peak_memory for each in shared)),
        ),
    )


def _matched(job: Job, prior: Prior) -> tuple[Job, Prior]:
    """Match the channels of the job and the prior.

    A grey prior restores a grey image directly, and a colour image channel by channel.

    Raises:
        InputError: the prior is not for grey or colour images.
    """
    channels = prior.image_channels or 3
    if channels not in (1, 3):
        raise InputError(f"a prior of grey or colour images is needed, this one has {channels} channels")
    if channels == 3 or len(job.y) == 3:
        return job, prior if channels == 3 else ChannelwisePrior(prior)
    return replace(job, operator=job.task.operator(1, job.measured)), prior


def _restoration(job: Job, prior: Prior, result: Result, point: Result | None) -> Restoration:
    drawn = _finite(job, result)
    theta = {name: value[0].to(drawn) for name, value in result.theta.items()}
    best = None if point is None else _finite(job, point)
    doubts = doubts_of(job, drawn, theta, best)
    if point is not None and (sentence := point.status[0][0]) != "ok":
        doubts.failures.append(f"failed: point estimate: {sentence}")
    result = replace(result, status=(tuple(doubts.status(sentence) for sentence in result.status[0]),))
    record = make_record(job, prior, result, _misfits(job, drawn, theta), doubts)
    drawn = job.seen(drawn)
    samples = None if job.options.samples is None or doubts.nothing_found else drawn
    estimate = drawn.mean(0) if best is None else job.seen(best)[0]
    estimate = job.task.consistent(estimate, job.y, job.noise).clamp(0, 1)
    uncertainty = None if samples is None or len(samples) < 2 else uncertainty_of(job, estimate, samples)
    if uncertainty is not None:
        record["uncertainty"] = uncertainty.record()
    if doubts.nothing_found:
        estimate = job.y.clamp(0, 1)
    elif job.task.interpolates:
        estimate = job.task.interpolated(job.y).clamp(0, 1)
    alpha = None if job.image.alpha is None else job.task.opacity(_measured(job.image.alpha, job))
    image = replace(job.image, pixels=estimate, alpha=alpha, jpeg=None, mosaic=None)
    if job.truth is not None:
        name, baseline = job.task.baseline(job.y)
        restored = score(*job.task.aligned(estimate, job.truth))
        record["scores"] = {"restored": restored, name: score(*job.task.aligned(baseline, job.truth))}
    kernel = job.task.estimated_kernel
    if kernel is None and "kernel" in result.theta:
        kernel = result.theta["kernel"][0].mean(0).cpu()
    shown = job.task.shown(job.y)
    return Restoration(image, samples, shown, job.truth, record, result, kernel, uncertainty)


def _finite(job: Job, result: Result) -> Tensor:
    """Return the solver's images [S, C, H, W], with the channels of the measurement.

    Raises:
        InvsolveError: an image is not finite.
    """
    drawn = result.samples[0].float()
    if not bool(torch.isfinite(drawn).all()):
        raise InvsolveError(f"no finite estimate was found ({result.status[0][0]}): choose other settings")
    return drawn if len(job.y) == job.channels else drawn.mean(1, keepdim=True)


def _unchanged(job: Job, prior: Prior) -> Restoration:
    """Return the image unchanged, without a network call and without samples."""
    job = replace(job, options=job.options.without_samples())
    pixels = job.image.pixels
    result = _without_solver(job, pixels[None, None])
    record = make_record(job, prior, result, [0.0], Doubts())
    return Restoration(job.image, None, pixels, None, record, result, content=job.content)


def _without_solver(job: Job, samples: Tensor) -> Result:
    """A result [1, 1, C, H, W] computed without a solver."""
    nothing = Stats(network_forwards=0.0, network_backwards=0.0, seconds=0.0, peak_memory=0)
    return Result(samples, (("ok",),), torch.full((1, 1), torch.nan), {}, nothing, job.options.seed, {})


def _measured(alpha: Tensor, job: Job) -> Tensor:
    """The opacity of the measurement; in a simulation, that of the clean image, cropped and resized to match."""
    if job.truth is None:
        return alpha
    shown = job.task.degrade(alpha.expand(len(job.image.pixels), -1, -1))[1][:1]
    return shown if tuple(shown.shape[1:]) == job.measured else resized(shown, job.measured).clamp(0, 1)


def _misfits(job: Job, drawn: Tensor, theta: Params) -> list[float]:
    """Root mean square of y - A(x) in units of the noise, for each sample; 1 if it equals the noise."""
    measured = job.measurement(job.y, len(job.y))
    residual = measured - job.task.operator(len(job.y), job.measured)(drawn, theta)
    known = job.task.known(job.y)
    kept = residual.flatten(1) if known is None else residual[..., known].flatten(1)
    return (kept.square().mean(1).sqrt() / job.sigma).tolist()
