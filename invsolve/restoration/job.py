"""A restoration before the prior is needed: options, the image read, everything checked and decided."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError, nearest, usable_device
from invsolve.core.operator import LinearOperator
from invsolve.core.prior import Prior
from invsolve.core.rng import Rng
from invsolve.core.solver import Solver
from invsolve.io import Image, read_header
from invsolve.io.inputs import Source, as_image, describe, read_kernel, read_mask
from invsolve.restoration.memory import Plan, budget
from invsolve.restoration.memory import plan as make_plan
from invsolve.restoration.pace import check_pace, quality_within
from invsolve.restoration.settings import build, choose, offered
from invsolve.tasks.base import TASKS, BlindDeblur, Deblur, Denoise, Inpaint, Superres, Task
from invsolve.tasks.blind.edges import check_size
from invsolve.tasks.noise_level import QUANTISATION, estimate_sigma

__all__ = ["Job", "Options", "device_of", "paced", "prepare"]

logger = logging.getLogger(__name__)

KEEP = 0.5
"""Share of the pixels that a simulated random mask keeps."""

KERNEL_SIZE = 33
"""Side of the kernel that is looked for where none is given; made smaller to fit into small images."""

_OWNERS = {"mask": "inpaint", "kernel": "deblur", "blur_sigma": "deblur", "kernel_size": "blind-deblur"}


@dataclass(frozen=True)
class Options:
    """What is wanted; see `restore`."""

    task: str = "superres"
    factor: int = 4
    mask: Source | None = None
    kernel: Source | None = None
    blur_sigma: float | None = None
    kernel_size: int | None = None
    noise: float | str = "auto"
    prior: str | Prior = "natural"
    solver: str | Solver | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    samples: int | None = None
    seed: int = 0
    device: str = "auto"
    simulate: bool = False
    memory: float | None = None
    tile: int | None = None
    checkpoint: str | Path | None = None
    checkpoint_seconds: float = 10.0
    quality: str = "balanced"
    time_limit: float | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"unknown task {self.task!r}; {nearest(self.task, TASKS)}")
        for option, owner in _OWNERS.items():
            if getattr(self, option) is not None and not self._owns(option):
                raise InputError(f"--{option.replace('_', '-')} belongs to the task {owner}, not to {self.task}")
        if self.noise != "auto":
            _check_noise(self.noise)
        check_pace(self.quality, self.time_limit, self.checkpoint)
        if isinstance(self.solver, Solver) and self.settings:
            raise InputError("settings belong to a solver that is named: change the solver object instead")
        if isinstance(self.prior, Prior) and self.device != "auto":
            raise InputError("a Prior object computes on its own device: move it there, and leave device away")
        if self.samples is not None and self.samples < 1:
            raise InputError(f"samples must be at least 1, got {self.samples}")

    def _owns(self, option: str) -> bool:
        """A simulation of a blind task is told the truth, too."""
        simulated = self.task == BlindDeblur.name and self.simulate and _OWNERS[option] == Deblur.name
        return self.task == _OWNERS[option] or simulated

    @property
    def preset(self) -> str:
        """The name under which the prior's settings are looked up."""
        return self.prior if isinstance(self.prior, str) else "natural"


@dataclass(frozen=True, eq=False)
class Job:
    """An image that has been read, and everything decided that can be before the prior is needed.

    Attributes:
        options, task, solver, plan: what is done, and how.
        image: the measurement as an image: degraded, or the clean one of a simulation.
        y: the measurement [C, h, w].
        sigma: standard deviation of its noise.
        sigma_source: "given", "estimated".
        operator: of three channels, from the solver's image to y.
        truth: the clean image [C, H, W] of a simulation.
        record: what is known about the inputs.
    """

    options: Options
    task: Task
    solver: Solver
    plan: Plan
    image: Image
    y: Tensor
    sigma: float
    sigma_source: str
    operator: LinearOperator
    truth: Tensor | None
    record: Mapping[str, Any]

    @property
    def measured(self) -> tuple[int, int]:
        """(height, width) of the measurement."""
        return self.y.shape[1], self.y.shape[2]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the solver's image."""
        return self.operator.in_shape[1], self.operator.in_shape[2]

    @property
    def channel_sigma(self) -> float:
        """The noise for three equal channels in place of a grey one, or just the noise; at least that of rounding."""
        return max(self.sigma, QUANTISATION) * (1.0 if len(self.y) == 3 else 3**0.5)

    def identified(self, prior: Prior) -> Job:
        """The job with what its task estimates from the measurement; itself where nothing is unknown."""
        task = self.task.identified(self.y, self.channel_sigma, prior)
        return self if task is self.task else replace(self, task=task, operator=task.operator(3, self.measured))


def paced(job: Job, prior: Prior, spent: float = 0.0) -> Job:
    """The job with the best quality that its time limit allows on this machine; the fastest where none does.

    Args:
        spent: seconds of the limit that have gone by.
    """
    limit = job.options.time_limit
    if limit is None or isinstance(job.options.solver, Solver):
        return job
    names = offered(job.solver.name, _section(job.options))
    solvers = {name: _solver(replace(job.options, quality=name)) for name in names}
    pixels = job.plan.pixels(job.size) * (job.options.samples or 1)
    quality, seconds = quality_within(limit - spent, solvers, prior, pixels)
    if seconds + spent > limit:
        logger.warning("about %.0f s are needed, more than the limit of %.0f s", seconds + spent, limit)
    return replace(job, options=replace(job.options, quality=quality), solver=solvers[quality])


def prepare(source: Source, options: Options) -> Job:
    """Read and check everything that does not need the prior.

    Raises:
        InputError: anything that cannot be done.
    """
    solver = _solver(options)
    if isinstance(source, str | Path):
        header = read_header(source)
        _plan((header.height, header.width), options, solver)
    image = as_image(source)
    task = _task(image, options)
    truth = None
    y = image.pixels
    if options.simulate:
        y, truth = task.degrade(y)
        y = _noisy(y, task, options)
    measured = (y.shape[1], y.shape[2])
    _plan(task.restored_size(measured), options, solver)
    operator = task.operator(3, measured)
    plan = _plan((operator.in_shape[1], operator.in_shape[2]), options, solver)
    if options.noise == "auto":
        # Three digits are more than an estimate has, and what differs between runs in the last place does not show.
        sigma = float(f"{max(estimate_sigma(y, task.known(y)), QUANTISATION):.3g}")
        told = "estimated"
    else:
        sigma, told = float(options.noise), "given"
    record = {"input": describe(source) | {"size": list(image.size), "depth": image.depth, "format": image.format}}
    record |= {name: describe(v) for name in ("mask", "kernel") if (v := getattr(options, name)) is not None}
    return Job(options, task, solver, plan, image, y, sigma, told, operator, truth, record)


def device_of(options: Options) -> torch.device:
    """The device of the options' prior, or the one they name.

    Raises:
        InputError: there is no such device.
    """
    if isinstance(options.prior, Prior):
        return options.prior.device
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return usable_device(options.device)


def _check_noise(noise: Any) -> None:
    if isinstance(noise, str) or not 0 <= noise <= 1:
        raise InputError(
            f"noise is 'auto' or a standard deviation from 0 to 1 (1 is the step from black to white), got {noise!r}"
        )


def _solver(options: Options) -> Solver:
    solver = options.solver if isinstance(options.solver, Solver) else _named_solver(options.solver, options)
    if solver.deterministic and (options.samples or 1) > 1:
        raise InputError(f"{solver.name} finds one point estimate: leave --samples away or choose a sampler")
    return solver


def _named_solver(name: str | None, options: Options) -> Solver:
    section = _section(options)
    name = name or choose(options.preset, section, sampling=options.samples is not None)
    return build(name, options.preset, section, options.settings, options.quality)


def _section(options: Options) -> str:
    """The task's section of the preset tables."""
    return Superres(options.factor).preset if options.task == "superres" else options.task.removeprefix("blind-")


def _plan(size: tuple[int, int], options: Options, solver: Solver) -> Plan:
    available = budget(options.memory, device_of(options))
    return make_plan(size, options.samples or 1, gradient=solver.differentiates, available=available, tile=options.tile)


def _task(image: Image, options: Options) -> Task:
    match options.task:
        case "denoise":
            return Denoise()
        case "superres":
            return Superres(options.factor)
        case "deblur":
            return _deblur(options)
        case "blind-deblur":
            return _blind(image, options)
        case _:
            return _inpaint(image, options)


def _deblur(options: Options) -> Deblur:
    if (options.kernel is None) == (options.blur_sigma is None):
        raise InputError("deblurring needs the blur: give --blur-sigma (a Gaussian, in pixels) or --kernel (a file)")
    if options.blur_sigma is not None:
        return Deblur.gaussian(options.blur_sigma)
    return Deblur(read_kernel(options.kernel))


def _blind(image: Image, options: Options) -> BlindDeblur:
    true = _deblur(options).kernel if options.simulate else None
    side = min(image.size) - (0 if true is None else max(true.shape) // 2 * 2)
    size = options.kernel_size or min(KERNEL_SIZE, (side // 3 - 1) // 2 * 2 + 1)
    check_size(size, (side, side))
    return BlindDeblur(torch.full((size, size), 1.0 / size**2, dtype=torch.float64), true)


def _inpaint(image: Image, options: Options) -> Inpaint:
    if options.mask is not None:
        return Inpaint(read_mask(options.mask, image.size))
    if options.simulate:
        shape = torch.empty(1, *image.size)
        return Inpaint(Rng(options.seed, [("mask", 0)]).uniform(shape)[0] >= KEEP)
    missing = torch.zeros(image.size, dtype=torch.bool) if image.alpha is None else image.alpha[0] < 1
    if not bool(missing.any()):
        raise InputError("inpainting needs to know what is missing: give --mask FILE (white is missing), or erase it")
    if bool(missing.all()):
        raise InputError("no pixel of the image is fully opaque, so that nothing is known: give --mask FILE")
    return Inpaint(missing, own=True)


def _noisy(clean: Tensor, task: Task, options: Options) -> Tensor:
    """The measurement with a simulation's noise, neither rounded nor clipped as a file would be."""
    level = task.simulated_noise if options.noise == "auto" else float(options.noise)
    y = clean + level * Rng(options.seed, [("noise", 0)]).normal(clean[None])[0]
    known = task.known(y)
    return y if known is None else torch.where(known, y, 0.0)
