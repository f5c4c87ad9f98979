"""The inputs of methods that are not samplers: the image, the noise level, and the kind of degradation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.bench.peers.classical import METHODS, Array, Measured, Method
from invsolve.bench.peers.task import Sampler, Task, Unable
from invsolve.core.operator import LinearOperator
from invsolve.operators import Denoising, Inpainting, SuperResolution
from invsolve.operators.blur_kinds import CircularBlur, SpatialBlur, SymmetricBlur
from invsolve.tasks.observed_blur import ObservedBlur

__all__ = ["CLASSICAL", "classical", "kind_of", "physics_of"]

CLASSICAL: dict[str, tuple[str, Method]] = {
    method.name: (task, method) for task, methods in reversed(list(METHODS.items())) for method in methods
}
"""The classical methods by name, each with the first task that it is for."""

_THEIRS = {"Denoising": "denoise", "Inpainting": "inpaint", "Downsampling": "superres", "Blur": "deblur"}


def physics_of(operator: LinearOperator) -> Any:
    """Return the deepinv physics behind an operator; None if there is none."""
    return getattr(getattr(operator, "physics", None), "original", None)


def kind_of(operator: LinearOperator) -> str:
    """Return "denoise", "inpaint", "superres", "deblur", or "" for anything else."""
    ours = ((Denoising, "denoise"), (Inpainting, "inpaint"), (SuperResolution, "superres"))
    blurs = tuple((kind, "deblur") for kind in (CircularBlur, SymmetricBlur, SpatialBlur, ObservedBlur))
    for kind, name in (*ours, *blurs):
        if isinstance(operator, kind):
            return name
    return _THEIRS.get(type(physics_of(operator)).__name__, "")


def classical(name: str) -> Sampler:
    """Return a classical method of `CLASSICAL` as a peer, with its usual parameter."""
    wanted, method = CLASSICAL[name]

    def sample(task: Task) -> Tensor:
        if kind_of(task.operator) != wanted:
            raise Unable(f"it is a method for {wanted} only")
        return torch.stack([_restored(method, task, y) for y in task.measured])

    return sample


def _restored(method: Method, task: Task, y: Tensor) -> Tensor:
    image = method.make(_measured(task.operator, y, task.sigma), method.usual)
    restored = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).to(y)
    return F.pad(restored[None], _frame(task.operator), mode="replicate")[0] if wider(task) else restored


def wider(task: Task) -> bool:
    """Whether the image of the operator is larger than its measurement, at the same scale."""
    return kind_of(task.operator) == "deblur" and task.operator.in_shape != task.operator.out_shape


def _measured(operator: LinearOperator, y: Tensor, sigma: float) -> Measured:
    image: Array = y.permute(1, 2, 0).double().numpy()
    kind = kind_of(operator)
    if kind == "superres":
        return Measured(image, sigma, factor=operator.in_shape[-1] // operator.out_shape[-1])
    if kind == "inpaint":
        mask = operator(torch.ones(1, *operator.in_shape))[0].amax(0)
        return Measured(image, sigma, missing=(mask == 0).numpy())
    if kind == "deblur":
        return Measured(image, sigma, kernel=_spread(operator))
    return Measured(image, sigma)


def _frame(operator: LinearOperator) -> tuple[int, int, int, int]:
    """Return how many pixels the image extends beyond the measurement: left, right, top, bottom."""
    down, across = (a - b for a, b in zip(operator.in_shape[-2:], operator.out_shape[-2:], strict=True))
    top, left = down // 2, across // 2
    if isinstance(operator, ObservedBlur):
        top, left = (part.start for part in operator.window)
    return left, across - left, top, down - top


def _spread(operator: LinearOperator) -> Array:
    """Return the response of the operator to a single pixel, centred on that pixel."""
    left, _, top, _ = _frame(operator)
    _, height, width = operator.out_shape
    point = torch.zeros(1, *operator.in_shape)
    point[..., top + height // 2, left + width // 2] = 1
    seen = operator(point)[0, 0]
    rows, columns = (seen.abs() > 1e-6 * seen.abs().max()).nonzero(as_tuple=True)
    reach = int(max((rows - height // 2).abs().max(), (columns - width // 2).abs().max()))
    middle = (slice(height // 2 - reach, height // 2 + reach + 1), slice(width // 2 - reach, width // 2 + reach + 1))
    return seen[middle].double().numpy()
