"""Measurements: drawn once from an item's seed, stored, and shared by all solvers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.suite import TaskSpec
from invsolve.core.checks import InputError
from invsolve.core.operator import LinearOperator, Operator
from invsolve.core.prior import Prior
from invsolve.core.problem import Problem
from invsolve.core.rng import Rng
from invsolve.core.unknowns import Unknown, Unknowns
from invsolve.tasks.base import Deblur, Denoise, Inpaint, Superres, Task

__all__ = ["KINDS", "Measurement", "check_options", "measure", "section"]

KINDS: Mapping[str, tuple[str, ...]] = {
    "denoise": (),
    "superres": ("factor",),
    "inpaint": ("missing", "box"),
    "deblur": ("std", "length", "intensity"),
    "blind-deblur": ("side", "std", "length", "intensity"),
    "operator": ("operator", "options"),
}
"""Kinds of degradation and their options: factor of the bicubic reduction; share of missing pixels, or side of a
missing square in the middle; standard deviation of a Gaussian blur, or length and intensity of a camera shake (drawn
anew for each item and seed); side of the unknown kernel's grid; a name of `invsolve.operators.OPERATORS` and its
options."""

KERNEL_LR = 0.01
"""Step size of the unknown kernel's logits, as published for NDTM."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """y = A(x) + noise, and all that was drawn for it.

    Attributes:
        spec: the degradation.
        truth: the part of the image that a restoration shows, [3, H, W].
        y: without the batch dimension.
        drawn: "mask" (bool [H, W], true where pixels are missing), "kernel" [h, w]: what the task has of them.
    """

    spec: TaskSpec
    truth: Tensor
    y: Tensor
    drawn: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def task(self) -> Task | None:
        """The restoration task, where there is one for this kind."""
        return _task(self.spec, self.drawn)

    @property
    def operator(self) -> Operator:
        """A, from the solver's image to y."""
        task = self.task
        if task is not None:
            return task.operator(3, (self.y.shape[1], self.y.shape[2]))
        return _operator(self.spec, (3, *self.truth.shape[1:]))

    @property
    def unknowns(self) -> Unknowns | None:
        """The kernel's logits of a blind task, from N(0, 1), as softmax; None otherwise."""
        if self.spec.kind != "blind-deblur":
            return None
        side = _side(self.spec)
        return Unknowns({"kernel": Unknown((side, side), "softmax", lr=KERNEL_LR)})

    def problem(self, prior: Prior) -> Problem:
        """What a solver is given."""
        from invsolve.costs import GaussianLikelihood

        return Problem(prior, GaussianLikelihood(self.operator, self.y[None], self.spec.noise), self.unknowns)

    def visible(self, samples: Tensor) -> Tensor:
        """The restored images [..., 3, H, W] in the solver's ones."""
        task = self.task
        return samples if task is None else task.visible(samples, (self.y.shape[1], self.y.shape[2]))

    def residual(self, samples: Tensor, theta: Mapping[str, Tensor]) -> Tensor:
        """(y - A(x)) / sigma of solver's images [S, ...], at measured entries alone."""
        operator = self.operator
        image = operator(samples, theta) if theta else operator(samples)
        residual = (self.y - image) / self.spec.noise
        if "mask" in self.drawn:
            residual = residual[..., ~self.drawn["mask"]]
        return residual.flatten(1)

    def baseline(self) -> Tensor:
        """What one has without a prior, as a solver's image or the visible part: [3, H, W] of the truth's size."""
        task = self.task
        if task is not None:
            return task.baseline(self.y)[1]
        operator = self.operator
        if self.spec.kind != "blind-deblur" and isinstance(operator, LinearOperator):
            return operator.pinv(self.y[None])[0]
        if self.y.shape == self.truth.shape:
            return self.y
        raise InputError("this measurement is no image, and its operator has no inverse: there is no baseline")

    def shown(self) -> Tensor:
        """The measurement as an image of the truth's size, where it is one; else mid-grey."""
        task = self.task
        if task is not None:
            return task.shown(self.y)
        return self.y if self.y.shape == self.truth.shape else torch.full_like(self.truth, 0.5)

    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored."""
        drawn = {f"drawn.{key}": value.contiguous() for key, value in self.drawn.items()}
        return {"truth": self.truth.contiguous(), "y": self.y.contiguous(), **drawn}

    @classmethod
    def from_tensors(cls, spec: TaskSpec, tensors: Mapping[str, Tensor]) -> Measurement:
        """The measurement that `tensors` stored."""
        drawn = {k.removeprefix("drawn."): v for k, v in tensors.items() if k.startswith("drawn.")}
        return cls(spec, tensors["truth"], tensors["y"], drawn)


def section(task: TaskSpec) -> str:
    """The section of the preset tables that a task belongs to; "" for kinds without one."""
    if task.kind == "superres":
        return Superres(task.options.get("factor", 4)).preset
    return task.kind if task.kind in ("denoise", "inpaint", "deblur") else ""


def check_options(where: str, kind: str, options: Mapping[str, Any]) -> None:
    """Raise `InputError` for options that make no degradation."""
    for key, value in options.items():
        if key in ("operator", "options"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise InputError(f"{where} of the suite: {key} is a number above 0, got {value!r}")
    if kind == "superres":
        Superres(options.get("factor", 4))
    if kind == "inpaint" and ("box" in options) == ("missing" in options):
        raise InputError(f"{where} of the suite: give missing (a share of the pixels) or box (a side in pixels)")
    if kind == "inpaint" and not options.get("missing", 0.5) < 1:
        raise InputError(f"{where} of the suite: missing is a share below 1, got {options['missing']}")
    if kind in ("deblur", "blind-deblur") and ("std" in options) == ("length" in options):
        raise InputError(f"{where} of the suite: give std (a Gaussian) or length and intensity (camera shake)")
    if kind == "operator":
        from invsolve.core.checks import nearest
        from invsolve.operators import OPERATORS

        name = str(options.get("operator", ""))
        if not OPERATORS.accepts(name):
            raise InputError(f"{where} of the suite: unknown operator {name!r}; {nearest(name, OPERATORS)}")


def measure(spec: TaskSpec, image: Tensor, digest: str, seed: int) -> Measurement:
    """Degrade an image; what is random comes from (seed, digest) alone, so that every solver and run has the same.

    Args:
        spec: the degradation.
        image: [3, H, W] in [0, 1].
        digest: of the item.
        seed: of the suite.
    """
    drawn = _draw(spec, image, digest, seed)
    task = _task(spec, drawn)
    if task is not None:
        clean, truth = task.degrade(image)
    else:
        operator = _operator(spec, tuple(image.shape))
        theta = {"kernel": drawn["kernel"][None]} if spec.kind == "blind-deblur" else None
        clean, truth = (operator(image[None], theta) if theta else operator(image[None]))[0], image
    y = clean + spec.noise * Rng(seed, [(f"noise {digest}", 0)]).normal(clean[None])[0]
    if "mask" in drawn:
        y = torch.where(drawn["mask"], 0.0, y)
    return Measurement(spec, truth, y, drawn)


def _draw(spec: TaskSpec, image: Tensor, digest: str, seed: int) -> dict[str, Tensor]:
    """The mask or kernel of an item."""
    options, (height, width) = spec.options, image.shape[1:]
    if spec.kind == "inpaint":
        if "box" in options:
            side = int(options["box"])
            if side >= min(height, width):
                raise InputError(f"a missing square of {side} pixels leaves nothing of a {height} x {width} image")
            mask = torch.zeros(height, width, dtype=torch.bool)
            top, left = (height - side) // 2, (width - side) // 2
            mask[top : top + side, left : left + side] = True
            return {"mask": mask}
        uniform = Rng(seed, [(f"mask {digest}", 0)]).uniform(torch.empty(1, height, width))[0]
        return {"mask": uniform < options["missing"]}
    if spec.kind in ("deblur", "blind-deblur"):
        from invsolve.operators.kernels import camera_shake_kernel, gaussian_kernel

        if "std" in options:
            kernel = gaussian_kernel(float(options["std"]))
        else:
            rng = Rng(seed, [(f"kernel {digest}", 0)])
            kernel = camera_shake_kernel(float(options["length"]), float(options.get("intensity", 0.5)), rng)
        return {"kernel": _on_grid(kernel.float(), _side(spec)) if spec.kind == "blind-deblur" else kernel.float()}
    return {}


def _side(spec: TaskSpec) -> int:
    return int(spec.options.get("side", 64))


def _on_grid(kernel: Tensor, side: int) -> Tensor:
    """The kernel on a grid of `side`, its middle where `BlindBlur` has its origin."""
    grid = torch.zeros(side, side)
    rows, columns = kernel.shape
    if max(rows, columns) > side:
        raise InputError(f"a kernel of {rows} x {columns} pixels does not fit on a grid of {side}: enlarge side")
    top, left = (side - 1) // 2 - rows // 2, (side - 1) // 2 - columns // 2
    grid[top : top + rows, left : left + columns] = kernel
    return grid


def _task(spec: TaskSpec, drawn: Mapping[str, Tensor]) -> Task | None:
    match spec.kind:
        case "denoise":
            return Denoise()
        case "superres":
            return Superres(spec.options.get("factor", 4))
        case "inpaint":
            return Inpaint(drawn["mask"])
        case "deblur":
            return Deblur(drawn["kernel"])
    return None


def _operator(spec: TaskSpec, in_shape: tuple[int, ...]) -> Operator:
    from invsolve.operators import OPERATORS, BlindBlur

    if spec.kind == "blind-deblur":
        return BlindBlur(in_shape, (_side(spec), _side(spec)))
    return OPERATORS[spec.options["operator"]](in_shape, **spec.options.get("options", {}))
