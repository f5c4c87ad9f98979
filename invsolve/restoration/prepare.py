"""Prepare a restoration: read the image, check the options and decide everything that does not need the prior."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.core.boundary import MAX_IMAGE_BYTES, read_bytes
from invsolve.core.checks import InputError
from invsolve.core.context import own_context
from invsolve.core.prior import Prior
from invsolve.core.rng import Rng
from invsolve.core.solver import Solver
from invsolve.core.traits import Traits
from invsolve.io import Image, read_header
from invsolve.io.inputs import Source, as_image, describe, without_hidden_colours
from invsolve.io.jpeg import JPEGTables
from invsolve.noise.estimate import noise_of
from invsolve.noise.estimated import NoiseEstimate, given_noise
from invsolve.restoration.calibration import Calibration
from invsolve.restoration.choice import PUBLISHED_NOISE, Choice, chosen
from invsolve.restoration.job import Job, both
from invsolve.restoration.loading import device_of, traits_for
from invsolve.restoration.memory import Plan, budget
from invsolve.restoration.memory import plan as make_plan
from invsolve.restoration.options import Options
from invsolve.restoration.pace import quality_within
from invsolve.restoration.settings import USUAL, offered
from invsolve.tasks.auto import Auto, Unchanged, look
from invsolve.tasks.base import Streams, Task
from invsolve.tasks.demosaic import Demosaic
from invsolve.tasks.denoise import Denoise

__all__ = ["check_options", "paced", "prepare"]

logger = logging.getLogger(__name__)

ASSUMED_NOISE = 0.01
"""Assumed noise level of images with holes if too few pixels are known to estimate it."""


def paced(job: Job, prior: Prior, spent: float = 0.0) -> Job:
    """Return the job with the best quality that its time limit allows on this machine; else with the fastest.

    Args:
        spent: seconds of the limit that have already passed.
    """
    limit = job.options.time_limit
    if limit is None or isinstance(job.options.solver, Solver):
        return job
    names = offered(job.solver.name, job.options.section)
    if job.traits.scope == "global":
        names = ("fast", "best") if job.task.unknowns is not None else ("balanced",)
    choices = {
        name: _choice(replace(job.options, quality=name), job.traits, job.likelihood_sigma, job.task.conditions)
        for name in names
    }
    pixels = job.plan.pixels(job.size) * (job.options.samples or 1)
    solvers = {name: choice.solver for name, choice in choices.items()}
    quality, seconds = quality_within(limit - spent, solvers, prior, pixels)
    if seconds + spent > limit:
        logger.warning("about %.0f s are needed, more than the limit of %.0f s", seconds + spent, limit)
    return replace(job, options=replace(job.options, quality=quality), choice=choices[quality])


def check_options(options: Options) -> None:
    """Check everything that does not need an image.

    Raises:
        InputError: a solver, settings, a device or a memory budget that cannot be used.
    """
    budget(options.memory, device_of(options))
    if options.calibration is not None:
        Calibration.read(options.calibration)
    _choice(options, traits_for(options))


@own_context()
def prepare(source: Source, options: Options, traits: Traits | None = None, page: int | None = None) -> Job:
    """Read and check everything that does not need the prior.

    Args:
        source: the image.
        options: the restoration options.
        traits: traits of the prior, if known; if None, those of its card or of the loaded prior.
        page: page of a TIFF file, from 0; if None, the first page, with a warning if there are others.

    Raises:
        InputError: a request that cannot be fulfilled.
    """
    traits = traits or traits_for(options)
    if options.calibration is not None:
        Calibration.read(options.calibration)
    solver = _choice(options, traits).solver
    if isinstance(source, str | Path):
        header = read_header(source, page or 0)
        _plan((header.height, header.width), options, solver)
    image = as_image(source, holes=options.kind.fills_holes and not options.simulate, page=page)
    streams = _streams(options)
    findings = read = None
    if options.kind is Auto and streams is None:
        read = _noise_of_file(image, options)
        findings = look(image, read)
        if findings.task != Unchanged.name:
            options = replace(options, task=findings.task, about=None)
    elif options.kind is Denoise and image.mosaic is not None and streams is None:
        options = replace(options, task=Demosaic.name, about=None)  # noise is white before demosaicing, not after it
    done = findings is not None and findings.task == Unchanged.name
    task = Unchanged() if done else options.kind.from_options(options.about, image, streams)
    if _joint(options, traits):
        task = task.joint()
    truth = None
    y = task.observed(image)
    seen = image.seen
    known = task.known(y)
    if streams is None and known is not None:
        y = torch.where(known, y, 0.0)  # replaces any values in the holes, including NaN
    if streams is not None:
        seen = None
        y, truth = task.degrade(y)
        y = task.noisy(y, task.simulated_noise if options.noise == "auto" else float(options.noise), streams("noise"))
    measured = (y.shape[1], y.shape[2])
    _plan(task.restored_size(measured), options, solver)
    operator = task.operator(1 if traits.channels == len(y) == 1 else 3, measured)
    plan = _plan((operator.in_shape[1], operator.in_shape[2]), options, solver)
    noise = _noise(y, task, seen, options, None if options.simulate else image.jpeg, read)
    record: dict[str, Any] = {
        "input": describe(source) | {"size": list(image.size), "depth": image.depth, "format": image.format}
    }
    record |= {name: describe(value) for name, value in options.sources.items()}
    if page is not None:
        record["page"] = page + 1
    if findings is not None:
        record["auto"] = findings.record()
    content = read_bytes(source, "image", MAX_IMAGE_BYTES) if done and isinstance(source, str | Path) else None
    job = Job(options, task, _choice(options, traits), traits, plan, image, y, noise, operator, truth, record, content)
    return replace(job, choice=_choice(options, traits, job.likelihood_sigma, task.conditions))


def _noise(
    y: Tensor,
    task: Task,
    seen: Tensor | None,
    options: Options,
    tables: JPEGTables | None,
    read: NoiseEstimate | None,
) -> NoiseEstimate:
    """The noise of the measurement: given, defined by the task, `read` earlier from the file, or estimated."""
    if options.noise != "auto":
        told = given_noise(float(options.noise), y)
        return replace(told, clipped=0.0) if isinstance(task, Demosaic) else told  # sensor noise is not clipped
    if task.noise_level is not None:
        return replace(given_noise(task.noise_level, y), method="task", clipped=0.0)
    known = both(task.known(y), seen)
    if read is not None and known is None:
        return read
    assumed = ASSUMED_NOISE if task.fills_holes or isinstance(task, Unchanged) else None
    return noise_of(y if known is not None else task.noise_sample(y), known, assumed, tables)


def _noise_of_file(image: Image, options: Options) -> NoiseEstimate:
    """The noise of an image that may have holes: given, or estimated."""
    known = ~torch.isnan(image.pixels).any(0)
    y = torch.where(known, without_hidden_colours(image), 0.0)
    if options.noise != "auto":
        return given_noise(float(options.noise), y)
    return noise_of(y, both(None if bool(known.all()) else known, image.seen), ASSUMED_NOISE, image.jpeg)


def _streams(options: Options) -> Streams | None:
    """The random number streams of a simulation; None for a real measurement."""
    return (lambda what: Rng(options.seed, [(what, 0)])) if options.simulate else None


def _joint(options: Options, traits: Traits) -> bool:
    """Whether the solver estimates an unknown blur jointly with the image, as published for global priors."""
    if not options.kind.estimates_kernel or traits.scope == "local":
        return False
    if isinstance(options.solver, Solver):
        return options.solver.needs.blind
    from invsolve.solvers import SOLVERS

    return options.solver is None or SOLVERS[options.solver].needs.blind


def _choice(
    options: Options, traits: Traits, noise: float = PUBLISHED_NOISE, conditions: Mapping[str, float] = USUAL
) -> Choice:
    """Choose the solver for a noise level; the choices that are needed earlier are the same for all levels."""
    found = chosen(
        options.kind.name if _joint(options, traits) else options.section,
        traits,
        solver=options.solver,
        sampling=options.samples is not None,
        noise=noise,
        conditions=conditions,
        quality=options.quality,
        changes=options.settings,
        preset=options.preset,
        presets=options.presets,
    )
    if found.solver.deterministic and (options.samples or 1) > 1:
        raise InputError(f"{found.solver.name} computes one point estimate: omit --samples or choose a sampler")
    return found


def _plan(size: tuple[int, int], options: Options, solver: Solver) -> Plan:
    available = budget(options.memory, device_of(options))
    return make_plan(size, options.samples or 1, gradient=solver.differentiates, available=available, tile=options.tile)
