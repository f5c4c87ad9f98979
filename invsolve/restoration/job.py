"""Prepare a restoration: read the image, check the options and decide everything that does not need the prior."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.core.boundary import MAX_IMAGE_BYTES, read_bytes
from invsolve.core.checks import InputError
from invsolve.core.operator import Operator
from invsolve.core.options import options_of
from invsolve.core.prior import Prior
from invsolve.core.rng import Rng
from invsolve.core.solver import Solver
from invsolve.core.traits import Traits
from invsolve.io import Image, read_header
from invsolve.io.inputs import Source, as_image, describe, without_hidden_colours
from invsolve.io.jpeg import JPEGTables
from invsolve.noise.estimate import noise_of
from invsolve.noise.estimated import NoiseEstimate, given_noise
from invsolve.noise.sensor import SensorNoise
from invsolve.noise.stabilise import stabiliser_of
from invsolve.noise.white import QUANTISATION
from invsolve.restoration.calibration import Calibration, packaged_calibration
from invsolve.restoration.choice import PUBLISHED_NOISE, Choice, chosen
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

__all__ = ["Job", "check_options", "paced", "prepare"]

EQUAL_CHANNELS = 1.06
"""Noise level factor in denoising for noise that is equal in all channels, which a colour prior does not expect."""

logger = logging.getLogger(__name__)

ASSUMED_NOISE = 0.01
"""Assumed noise level of images with holes if too few pixels are known to estimate it."""


@dataclass(frozen=True, eq=False)
class Job:
    """An image that has been read, with all decisions that do not need the prior.

    Attributes:
        options, task, plan: what to do, and how.
        choice: the solver, and how its settings were chosen.
        traits: traits of the prior.
        image: the input image: the degraded image, or the clean image of a simulation.
        y: the measurement [C, h, w].
        noise: the given or estimated noise.
        operator: forward operator from the solver's image to y; three channels, or one with a grey prior.
        truth: the clean image [C, H, W] of a simulation.
        record: information about the inputs.
        content: content of the image file, if the image is left unchanged.
    """

    options: Options
    task: Task
    choice: Choice
    traits: Traits
    plan: Plan
    image: Image
    y: Tensor
    noise: NoiseEstimate
    operator: Operator
    truth: Tensor | None
    record: Mapping[str, Any]
    content: bytes | None = None

    @property
    def solver(self) -> Solver:
        """The solver with its settings."""
        return self.choice.solver

    @cached_property
    def point(self) -> Solver | None:
        """The solver for the restored image, in addition to that for the samples; None if the sample mean is used.

        It is the prior's best solver for point estimates. It is used if the library chooses both solvers.
        """
        own = self.options
        left = own.solver is None and own.preset is None and own.presets is None
        if (own.samples or 1) < 2 or not left or self.traits.scope != "local":
            return None
        told = {"noise": self.likelihood_sigma, "conditions": self.task.conditions, "quality": own.quality}
        return chosen(own.section, self.traits, **told).solver

    @cached_property
    def calibration(self) -> tuple[Calibration | None, str]:
        """The calibration table for the intervals and its source; see `restoration.calibration`."""
        own = self.options
        name = own.prior_name
        solver = own.solver if isinstance(own.solver, str) else "" if own.solver is None else own.solver.name
        if own.calibration is not None:
            table = Calibration.read(own.calibration)
            if not table.matches(name, solver, own.settings):
                logger.warning(
                    "%s was calibrated with the prior %s%s: its intervals may be wrong here",
                    own.calibration,
                    table.prior,
                    f" and the solver {table.solver}" if table.solver else "",
                )
            return table, str(own.calibration)
        table = packaged_calibration(name, self.task.name)
        fits = table is not None and own.preset is None and own.presets is None and own.quality == "balanced"
        if not fits or table is None or not table.matches(name, solver, own.settings):
            return None, ""
        return table, "packaged"

    @property
    def measured(self) -> tuple[int, int]:
        """(height, width) of the measurement."""
        return self.y.shape[1], self.y.shape[2]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the solver's image."""
        return self.operator.in_shape[1], self.operator.in_shape[2]

    @cached_property
    def stabiliser(self) -> SensorNoise | None:
        """The variance-stabilising transform for denoising, if the noise grows with brightness; else None."""
        return stabiliser_of(self.noise) if self.task.name == Denoise.name else None

    def measurement(self, image: Tensor, channels: int) -> Tensor:
        """Convert a measured image to the form that the operator's output for `channels` is compared with."""
        return self.task.measurement(image if self.stabiliser is None else self.stabiliser.encode(image), channels)

    def seen(self, drawn: Tensor) -> Tensor:
        """Extract the restored images in [0, 1] from the solver's images, [..., C, H, W]."""
        shown = self.task.visible(drawn, self.measured)
        return self.noise.unbiased(shown if self.stabiliser is None else self.stabiliser.decode(shown)).clamp(0, 1)

    @property
    def _stabilised(self) -> float:
        """Noise level after stabilisation, in units of the level before."""
        return 1.0 if self.stabiliser is None else self.stabiliser.level / self.noise.unclipped

    @property
    def sigma(self) -> float:
        """Root mean square of the noise in `measurement`."""
        return self.noise.sigma * self._stabilised

    @property
    def channel_sigma(self) -> float:
        """Noise level in the likelihood of the solver's channels; at least that of rounding to 8 bits.

        The known level is for three channels; for one channel, it is the noise level of their mean.
        """
        careful = self.task.cautious or self.task.spares_detail
        level = self.noise.cautious if careful else self.noise.effective
        if self.task.spares_detail and not self.noise.sure:
            level = min(level, self.noise.low)
        equal = self.task.cautious and self.channels == 3 and self.noise.equal_channels
        level *= (EQUAL_CHANNELS if equal else 1.0) * self._stabilised
        return max(level * (self.channels / 3) ** 0.5, QUANTISATION)

    @property
    def channels(self) -> int:
        """Channels of the solver's image; with a colour prior, a grey image has three equal channels."""
        return self.operator.in_shape[0]

    @property
    def likelihood_sigma(self) -> float:
        """`channel_sigma` with an allowance for errors of the operator."""
        return self.task.noise_inflation * self.channel_sigma

    def identified(self, prior: Prior) -> Job:
        """Return the job with the parameters that its task estimates from y; the job itself if none are unknown."""
        task = self.task.identified(self.y, self.channel_sigma, prior)
        if task is self.task:
            return self
        return replace(self, task=task, operator=task.operator(self.channels, self.measured))


def both(known: Tensor | None, seen: Tensor | None) -> Tensor | None:
    """Return the mask of the pixels that are both measured and visible; None if all pixels are."""
    if known is None or seen is None:
        return seen if known is None else known
    return known & seen


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
    files = [name for name, option in options_of(type(options.about)).items() if option.is_file]
    record |= {name: describe(v) for name in files if (v := getattr(options.about, name)) is not None}
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
