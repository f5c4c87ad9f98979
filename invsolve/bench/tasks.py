"""Measurements: drawn once from an item's seed, stored, and shared by all solvers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.suite import TaskSpec
from invsolve.core.checks import InputError, nearest
from invsolve.core.operator import LinearOperator, Operator
from invsolve.core.options import filled, options_of
from invsolve.core.prior import Prior
from invsolve.core.problem import Problem
from invsolve.core.rng import Rng
from invsolve.core.unknowns import Unknowns
from invsolve.tasks import TASKS, Task

__all__ = ["Measurement", "check_options", "kinds", "level", "measure", "missing", "option_names", "section"]

OPERATOR = "operator"
"""The kind of a degradation that is not a restoration task: an operator of `invsolve.operators.OPERATORS`."""


@dataclass(frozen=True)
class OperatorDraw:
    """The options of the kind "operator" in a suite.

    Attributes:
        operator: name in `OPERATORS`, or "module:attribute".
        options: its arguments other than the image shape.
        assumed: noise level given to solvers, for measurements without noise; the actual noise level if 0.
        like: section of tuned settings to use, such as "deblur"; the defaults of each solver if empty.
    """

    operator: str
    options: Mapping[str, Any] = field(default_factory=dict)
    assumed: float = 0.0
    like: str = ""

    def __post_init__(self) -> None:
        from invsolve.operators import OPERATORS

        if not OPERATORS.accepts(self.operator):
            raise InputError(f"unknown operator {self.operator!r}; {nearest(self.operator, OPERATORS)}")


def kinds() -> list[str]:
    """Return the kinds of degradation: the restoration tasks, and "operator"."""
    return [*TASKS, OPERATOR]


def option_names(kind: str) -> list[str]:
    """Return the option names of a kind in a suite."""
    if kind == OPERATOR:
        return ["operator", "options", "assumed", "like"]
    return list(options_of(TASKS[kind].suite_type()))


def _options(spec: TaskSpec) -> Any:
    if spec.kind == OPERATOR:
        said = spec.options
        level = float(said.get("assumed", 0.0))
        return OperatorDraw(str(said.get("operator", "")), said.get("options", {}), level, str(said.get("like", "")))
    return filled(TASKS[spec.kind].suite_type(), spec.options, spec.kind)


def section(task: TaskSpec) -> str:
    """Return the section of the preset tables for a task; "" for kinds without one."""
    options = _options(task)
    return options.like if task.kind == OPERATOR else TASKS[task.kind].section(options)


def level(task: TaskSpec) -> float:
    """Return the noise level that is known before anything is drawn."""
    return task.noise or _options(task).assumed


def check_options(where: str, task: TaskSpec) -> None:
    """Raise `InputError` for options that do not define a degradation."""
    try:
        _options(task)
    except InputError as error:
        raise InputError(f"{where} of the suite: {error}") from error


def missing(task: TaskSpec) -> str:
    """Describe what this machine lacks to run a task; "" if it lacks nothing."""
    return "" if task.kind == OPERATOR else TASKS[task.kind].needs(_options(task))


@dataclass(frozen=True, eq=False)
class Measurement:
    """y = A(x) + noise, and everything that was drawn for it.

    Attributes:
        spec: the degradation.
        truth: the ground truth of the part of the image that a restoration shows, [3, H, W].
        y: the measurement, without the batch dimension.
        drawn: "mask" (bool [H, W], true where pixels are missing) and "kernel" [h, w], if the task draws them.
    """

    spec: TaskSpec
    truth: Tensor
    y: Tensor
    drawn: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def task(self) -> Task | None:
        """The restoration task; None for the kind "operator"."""
        if self.spec.kind == OPERATOR:
            return None
        return TASKS[self.spec.kind].from_draw(_options(self.spec), self.drawn)

    @property
    def operator(self) -> Operator:
        """The operator A, from the image of the solver to y."""
        task = self.task
        if task is not None:
            return task.operator(3, (self.y.shape[1], self.y.shape[2]))
        return _operator(self.spec, (3, *self.truth.shape[1:]))

    @property
    def noise(self) -> float:
        """Standard deviation of the noise in the likelihood."""
        if self.task is None:
            return _options(self.spec).assumed or self.spec.noise
        own = self.task.noise_level
        return self.spec.noise if own is None else own

    @property
    def _measured(self) -> Tensor:
        """The values that the output of the operator is compared with."""
        return self.y if self.task is None else self.task.measurement(self.y, 3)

    @property
    def unknowns(self) -> Unknowns | None:
        """Parameters of the operator that a solver estimates together with the image."""
        return None if self.task is None else self.task.unknowns

    def problem(self, prior: Prior) -> Problem:
        """Return the problem for a solver."""
        from invsolve.costs import GaussianLikelihood

        return Problem(prior, GaussianLikelihood(self.operator, self._measured[None], self.noise), self.unknowns)

    def visible(self, samples: Tensor) -> Tensor:
        """Return the visible part [..., 3, H, W] of images of a solver."""
        task = self.task
        return samples if task is None else task.visible(samples, (self.y.shape[1], self.y.shape[2]))

    def residual(self, samples: Tensor, theta: Mapping[str, Tensor]) -> Tensor:
        """Compute (y - A(x)) / sigma of images of a solver [S, ...], at measured entries only."""
        operator = self.operator
        image = operator(samples, theta) if theta else operator(samples)
        residual = (self._measured - image) / self.noise
        if self.task is None:
            return residual[..., operator.measures(self._measured[None])[0]].flatten(1)
        known = self.task.known(self.y)
        return residual.flatten(1) if known is None else residual[..., known].flatten(1)

    def baseline(self) -> Tensor:
        """Return a simple restoration without a prior, [3, H, W] in the size of the ground truth."""
        task = self.task
        if task is not None:
            return task.baseline(self.y)[1]
        operator = self.operator
        if isinstance(operator, LinearOperator):
            return operator.pinv(self.y[None])[0]
        if self.y.shape == self.truth.shape:
            return self.y
        raise InputError("this measurement is not an image, and its operator has no inverse: there is no baseline")

    def shown(self) -> Tensor:
        """Return the measurement as an image in the size of the ground truth; mid-grey if it is not an image."""
        task = self.task
        if task is not None:
            return task.shown(self.y)
        return self.y if self.y.shape == self.truth.shape else torch.full_like(self.truth, 0.5)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store."""
        drawn = {f"drawn.{key}": value.contiguous() for key, value in self.drawn.items()}
        return {"truth": self.truth.contiguous(), "y": self.y.contiguous(), **drawn}

    @classmethod
    def from_tensors(cls, spec: TaskSpec, tensors: Mapping[str, Tensor]) -> Measurement:
        """Make a measurement from the result of `tensors`."""
        drawn = {k.removeprefix("drawn."): v for k, v in tensors.items() if k.startswith("drawn.")}
        return cls(spec, tensors["truth"], tensors["y"], drawn)


def measure(spec: TaskSpec, image: Tensor, digest: str, seed: int) -> Measurement:
    """Degrade an image; random numbers depend only on (seed, digest), so every solver and run gets the same ones.

    Args:
        spec: the degradation.
        image: [3, H, W] in [0, 1].
        digest: digest of the item.
        seed: a seed of the suite.
    """

    def streams(what: str) -> Rng:
        return Rng(seed, [(f"{what} {digest}", 0)])

    if spec.kind == OPERATOR:
        operator = _operator(spec, tuple(image.shape))
        clean = operator(image[None])
        y = operator.observed(clean + spec.noise * streams("noise").normal(clean))
        return Measurement(spec, image, y[0])
    options = _options(spec)
    drawn = TASKS[spec.kind].draw(options, (image.shape[1], image.shape[2]), streams)
    task = TASKS[spec.kind].from_draw(options, drawn)
    clean, truth = task.degrade(image)
    return Measurement(spec, truth, task.noisy(clean, spec.noise, streams("noise")), drawn)


def _operator(spec: TaskSpec, in_shape: tuple[int, ...]) -> Operator:
    from invsolve.operators import OPERATORS

    options = _options(spec)
    return OPERATORS[options.operator](in_shape, **options.options)
