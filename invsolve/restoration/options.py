"""The options of a restoration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from invsolve.core.checks import InputError, nearest, plain_integer, whole_seed
from invsolve.core.options import filled, option, options_of
from invsolve.core.settings import check_settings
from invsolve.priors import check_known
from invsolve.restoration.settings import QUALITIES
from invsolve.solvers import SOLVERS
from invsolve.tasks import TASKS, Task

if TYPE_CHECKING:
    from invsolve.core.prior import Prior
    from invsolve.core.solver import Solver

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """The options of a restoration; see `restore`. `Options.of` also accepts the options of the task."""

    task: str = option("auto", "what is wrong with the image; auto inspects it and chooses")
    noise: float | Literal["auto"] = option(
        "auto", "standard deviation of the noise, where black is 0 and white is 1 (default auto: estimated)"
    )
    samples: int | None = option(
        None, "also write N posterior samples and, if N is 2 or more, a map of the pixels' interval widths", metavar="N"
    )
    seed: int = option(0, "random seed")
    simulate: bool = option(False, "IMAGE is clean: degrade it first, then report PSNR and SSIM")
    quality: str = option("balanced", "fast, balanced or best")
    time_limit: float | None = option(None, "choose the best quality that finishes in this time", metavar="SECONDS")
    solver: str | Solver | None = option(None, "method (default: the best for the task)")
    preset: str | None = option(None, "published settings by name, for example ffhq256/superres4", metavar="NAME")
    presets: str | Path | None = option(None, "table of settings that invsolve tune wrote", metavar="FILE")
    calibration: str | Path | None = option(
        None, "intervals measured by invsolve calibrate (default: those in the package)", metavar="FILE"
    )
    prior: str | Prior = option("natural", "a prior's name, file, folder or module:function")
    label: int | None = option(None, "class of the image, for class-conditional priors", metavar="N")
    prompt: str | None = option(None, "what the image shows, for priors that accept text", metavar="TEXT")
    negative_prompt: str | None = option(None, "what it does not show", metavar="TEXT")
    device: str = option("auto", "cpu, cuda, ...")
    precision: str = option("auto", "precision of the network: auto, float32 or bfloat16")
    memory: float | None = option(None, "memory limit (default: half of the machine's)", metavar="GIB")
    tile: int | None = option(None, "side of the network's tiles (default: chosen from --memory)", metavar="PIXELS")
    checkpoint: str | Path | None = option(
        None, "save the run's state to this file, or continue from it if it exists", metavar="FILE"
    )
    checkpoint_seconds: float = 10.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    prior_options: Mapping[str, Any] = field(default_factory=dict)
    about: Any = None
    """The options of the task: its `option_type`, with defaults for options that are not given."""

    def __post_init__(self) -> None:
        if self.about is None:
            object.__setattr__(self, "about", filled(TASKS[self.task].option_type(), {}, self.task))
        object.__setattr__(self, "seed", whole_seed(self.seed))
        for name in ("samples", "label", "tile"):
            object.__setattr__(self, name, plain_integer(getattr(self, name)))
        _check_noise(self.noise)
        check_settings(self)
        _check_pace(self.quality, self.time_limit, self.checkpoint)
        named = isinstance(self.prior, str | Path)
        if isinstance(self.prior, str | Path):
            check_known(self.prior)
        own = self.solver is not None and not isinstance(self.solver, str)
        if isinstance(self.solver, str):
            SOLVERS.check(self.solver)
        if own and self.settings:
            raise InputError("settings apply to a solver given by name: set them on the Solver object instead")
        if not named and self.device != "auto":
            raise InputError("a Prior object uses the device it is on: move the object, and omit device")
        if not named and self.prior_options:
            raise InputError("prior options apply to a prior given by name: pass them when you create the Prior object")
        if own and (self.preset or self.presets):
            raise InputError("presets apply to a solver given by name: a Solver object already has its settings")
        if self.samples is not None and self.samples < 1:
            raise InputError(f"samples must be at least 1, got {self.samples}")
        if self.calibration is not None and (self.samples or 1) < 2:
            raise InputError("a calibration needs posterior samples: add --samples 6, or omit --calibration")

    @classmethod
    def of(cls, task: str = "auto", **keywords: Any) -> Options:
        """Create options from keywords: fields of the dataclass and options of the task.

        If the task is "auto" and task options are given, their task is selected: with `factor`, superres.

        Raises:
            InputError: unknown option, option of another task, or invalid value.
        """
        task = _told_by(keywords) if task == "auto" else task
        kind = TASKS[task]
        own = options_of(kind.option_type())
        common = [name for name in cls.__dataclass_fields__ if name not in ("task", "about")]
        told = {name: value for name, value in keywords.items() if name in own}
        for name in keywords:
            if name not in own and name not in common:
                _foreign(name, keywords[name], task, [*common, *own])
        about = filled(kind.option_type(), told, task)
        return cls(task=task, about=about, **{name: v for name, v in keywords.items() if name in common})

    @property
    def kind(self) -> type[Task]:
        """The class of the task."""
        return TASKS[self.task]

    @property
    def prior_name(self) -> str:
        """The name of the prior; "own" for a Prior object."""
        return str(self.prior) if isinstance(self.prior, str | Path) else "own"

    @property
    def files(self) -> dict[str, str]:
        """The files named by the options of the task, by flag."""
        told = {name.replace("_", "-"): value for name, value in self.sources.items()}
        return {flag: str(value) for flag, value in told.items() if isinstance(value, str | Path)}

    @property
    def sources(self) -> dict[str, Any]:
        """The inputs beside the image that the options of the task name, such as a mask: files or arrays."""
        names = [name for name, known in options_of(type(self.about)).items() if known.is_file]
        return {name: value for name in names if (value := getattr(self.about, name)) is not None}

    def without_samples(self) -> Options:
        """Return the options without samples and without their calibration."""
        return replace(self, samples=None, calibration=None)

    @property
    def section(self) -> str:
        """The section of the preset tables."""
        return self.kind.section(self.about)


def _told_by(keywords: Mapping[str, Any]) -> str:
    """The task that has all given task options and the fewest other options; else auto."""
    options = {name: options_of(TASKS[name].option_type()) for name in TASKS}
    told = {name for name, value in keywords.items() if value is not None and any(name in o for o in options.values())}
    fitting = [name for name in options if told <= options[name].keys()]
    return min(fitting, key=lambda name: len(options[name])) if told and fitting else "auto"


def _foreign(name: str, value: Any, task: str, known: list[str]) -> None:
    """Raise an error for an option that the task does not have; a known option with the value None is ignored."""
    owners = [other for other in TASKS if name in options_of(TASKS[other].option_type())]
    if not owners:
        raise InputError(f"restore has no option {name!r}; {nearest(name, known)}")
    if value is not None:
        raise InputError(f"--{name.replace('_', '-')} belongs to the task {' or '.join(owners)}, not to {task}")


def _check_noise(noise: Any) -> None:
    if noise == "auto":
        return
    if not isinstance(noise, Real) or not 0 <= float(noise) <= 1:
        raise InputError(
            f"noise must be 'auto' or a standard deviation from 0 to 1 (black is 0, white is 1), got {noise!r}"
        )


def _check_pace(quality: str, limit: float | None, checkpoint: object) -> None:
    if quality not in QUALITIES:
        raise InputError(f"quality must be one of {', '.join(QUALITIES)}; got {quality!r}")
    if limit is not None and not limit > 0:
        raise InputError(f"the time limit must be above 0 seconds, got {limit}")
    if limit is not None and checkpoint is not None:
        raise InputError(
            "--time-limit measures the machine's speed in every run, so it cannot be combined with --checkpoint"
        )
