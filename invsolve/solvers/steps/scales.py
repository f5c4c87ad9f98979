"""Guidance strength: rules for lambda in the guidance lambda g, with g = grad log r, for all gradient-based solvers.

A rule uses only the gradient norm of each sample. Its memory is kept in the state of the run, not in the rule.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from invsolve.core.checks import InputError, nearest
from invsolve.core.linalg import column
from invsolve.core.registry import Registry
from invsolve.core.settings import AtLeastZero, Positive, Range, check_settings

__all__ = [
    "SCALES",
    "SHAPES",
    "AdaptiveScale",
    "At",
    "ClippedScale",
    "FixedScale",
    "ScaleRule",
    "SoftScale",
    "ThresholdScale",
    "check_length_rule",
    "em_stability_limit",
    "geoguide",
    "parse_scale",
]

Memory = Mapping[str, Tensor]
Shape = str | Callable[[float], float]

SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda u: 1.0,
    "sin2": lambda u: math.sin(math.pi * u) ** 2,
    "gauss": lambda u: math.exp(-((u - 0.5) ** 2) / (2 * 0.15**2)),
    "sin": lambda u: math.sin(math.pi * u),
    "parabola": lambda u: 4 * u * (1 - u),
}
"""Shapes f(u) with maximum 1, where u = 1 is noise: "constant", or bells that decrease to both ends."""


class At(NamedTuple):
    """The position of a run: time t, step k of n."""

    t: float
    k: int
    n: int


class ScaleRule(ABC):
    """Compute lambda [N] from gradient norms; concrete rules are frozen dataclasses of settings."""

    def __post_init__(self) -> None:
        """Check the settings by their annotations; rules with further checks call this first."""
        check_settings(self)

    @property
    def off(self) -> bool:
        """Whether the rule is always zero, so that no gradient is needed."""
        return False

    def start(self, n: int, like: Tensor) -> dict[str, Tensor]:
        """The memory of the rule before the first step: tensors [n] by name."""
        return {}

    @abstractmethod
    def __call__(self, norm: Tensor, at: At, memory: Memory) -> tuple[Tensor, dict[str, Tensor]]:
        """Return lambda [N] for gradient norms [N], and the new memory."""

    def limit(self, x0: Tensor) -> Tensor:
        """Limit the guided clean estimate; the default returns it unchanged."""
        return x0


@dataclass(frozen=True)
class FixedScale(ScaleRule):
    """A fixed scale, lambda f(u).

    Args:
        lam: lambda, at least 0; with 0 there is no guidance.
        shape: f, a name of `SHAPES` or a function of u = t.
    """

    lam: AtLeastZero = 1.0
    shape: Shape = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        _shape(self.shape)

    @property
    def off(self) -> bool:
        return self.lam == 0.0

    def __call__(self, norm: Tensor, at: At, memory: Memory) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.full_like(norm, self.lam * _shape(self.shape)(at.t)), {}


@dataclass(frozen=True)
class AdaptiveScale(ScaleRule):
    """lambda = f(u) lam / (m + eps), m = ema_decay m + (1 - ema_decay) |g|: guidance of length about f lam.

    Roy and Roy, "When guidance breaks". Each sample has its own average over its own path. Because the length does not
    decrease near the optimum, a constant f collapses harder than a fixed scale; a bell does not.

    Args:
        lam: lambda_0, at least 0.
        shape: f, a name of `SHAPES` or a function of u.
        ema_decay: decay of the running average of the norm, in [0, 1); 0 uses the current norm.
        eps: keeps the scale finite where the gradient vanishes.
        ema_init: first average: "first" (the first norm), "zero" or "debiased" (zero, divided by 1 - ema_decay^k).
        lam_max: upper bound of the scale; no bound if None.
        clock: definition of u: "time" t, or "step" 1 - k / (n - 1).
    """

    lam: AtLeastZero = 30.0
    shape: Shape = "sin2"
    ema_decay: Annotated[float, Range(0, 1, below=True)] = 0.9
    eps: AtLeastZero = 1e-3
    ema_init: Literal["first", "zero", "debiased"] = "first"
    lam_max: AtLeastZero | None = None
    clock: Literal["time", "step"] = "time"

    def __post_init__(self) -> None:
        super().__post_init__()
        _shape(self.shape)

    @property
    def off(self) -> bool:
        return self.lam == 0.0

    def start(self, n: int, like: Tensor) -> dict[str, Tensor]:
        return {"scale.average": like.new_zeros(n), "scale.count": like.new_zeros(n)}

    def __call__(self, norm: Tensor, at: At, memory: Memory) -> tuple[Tensor, dict[str, Tensor]]:
        average, count = memory["scale.average"], memory["scale.count"] + 1
        average = torch.lerp(norm, average, self.ema_decay)
        if self.ema_init == "first":
            average = torch.where(count == 1, norm, average)
        level = average / (1 - self.ema_decay**count) if self.ema_init == "debiased" else average
        u = at.t if self.clock == "time" else 1 - at.k / max(at.n - 1, 1)
        floor = torch.finfo(norm.dtype).tiny ** 0.5  # a gradient of exactly zero gives zero guidance
        lam = self.lam * _shape(self.shape)(u) / (level + self.eps).clamp_min(floor)
        if self.lam_max is not None:
            lam = lam.clamp_max(self.lam_max)
        return lam, {"scale.average": average, "scale.count": count}


def geoguide(lam: float) -> AdaptiveScale:
    """A rule with guidance of a fixed length, lambda_0 g / |g|."""
    return AdaptiveScale(lam, "constant", ema_decay=0.0, eps=0.0)


@dataclass(frozen=True)
class ClippedScale(ScaleRule):
    """Gradient clipping: lambda g min(1, limit / |g|), or with on="total" v min(1, limit / |v|), v = lambda g."""

    lam: AtLeastZero = 1.0
    limit_norm: Positive = 1.0
    on: Literal["gradient", "total"] = "gradient"

    @property
    def off(self) -> bool:
        return self.lam == 0.0

    def __call__(self, norm: Tensor, at: At, memory: Memory) -> tuple[Tensor, dict[str, Tensor]]:
        length = norm if self.on == "gradient" else self.lam * norm
        return self.lam * (self.limit_norm / length.clamp_min(self.limit_norm)), {}


@dataclass(frozen=True)
class SoftScale(ScaleRule):
    """Soft guidance: lambda limit tanh(|g| / limit) g / |g|."""

    lam: AtLeastZero = 1.0
    limit_norm: Positive = 1.0

    @property
    def off(self) -> bool:
        return self.lam == 0.0

    def __call__(self, norm: Tensor, at: At, memory: Memory) -> tuple[Tensor, dict[str, Tensor]]:
        ratio = (norm / self.limit_norm).clamp_min(torch.finfo(norm.dtype).tiny ** 0.5)
        return self.lam * torch.tanh(ratio) / ratio, {}


@dataclass(frozen=True)
class ThresholdScale(ScaleRule):
    """Fixed guidance with dynamic thresholding of the guided estimate: x0 <- clamp(x0, -q, q) floor / q.

    q is the sample's own quantile of |x0|, at least floor (Saharia et al. 2022, arXiv 2205.11487). It is meant for
    priors whose clean samples lie in [-floor, floor].
    """

    lam: AtLeastZero = 1.0
    quantile: Annotated[float, Range(0, 1, above=True)] = 0.995
    floor: Positive = 1.0

    def __call__(self, norm: Tensor, at: At, memory: Memory) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.full_like(norm, self.lam), {}

    def limit(self, x0: Tensor) -> Tensor:
        q = column(torch.quantile(x0.abs().flatten(1), self.quantile, dim=1).clamp_min(self.floor), x0)
        return x0.clamp(-q, q) * (self.floor / q)


def check_length_rule(rule: ScaleRule | None) -> None:
    """Raise `InputError` unless the rule only sets lengths, as gradient-based solvers other than Guidance require."""
    if rule is not None and (not isinstance(rule, ScaleRule) or type(rule).limit is not ScaleRule.limit):
        raise InputError(f"scale must be a rule for lengths here, such as AdaptiveScale(1.0), got {rule!r}")


def em_stability_limit(beta_max: float, dt: float, curvature: float) -> float:
    """The fixed scale above which Euler-Maruyama steps diverge at first: (2 / (beta_max dt) - 1/2) / curvature.

    Args:
        beta_max: noise rate beta at t = 1.
        dt: step size in time.
        curvature: largest eigenvalue of -grad^2 log r.
    """
    return (2 / (beta_max * dt) - 0.5) / curvature


SCALES = Registry(
    "scale",
    {
        "adaptive": "invsolve.solvers.steps.scales:AdaptiveScale",
        "clip": "invsolve.solvers.steps.scales:ClippedScale",
        "fixed": "invsolve.solvers.steps.scales:FixedScale",
        "soft": "invsolve.solvers.steps.scales:SoftScale",
        "threshold": "invsolve.solvers.steps.scales:ThresholdScale",
    },
    "invsolve.solvers.steps.scales:ScaleRule",
)
"""The scale rules by name. The first setting of a rule is lambda; the others have defaults."""


def parse_scale(text: str) -> ScaleRule:
    """Parse a rule "name:lambda", for example "adaptive:30"; rules with a shape accept one, "adaptive:30,constant".

    Raises:
        InputError: unknown name, lambda not a number or negative, or unknown shape.
    """
    name, _, rest = text.partition(":")
    if name not in SCALES:
        raise InputError(f"a guidance scale must be name:lambda, got {text!r}; {nearest(name, SCALES)}")
    number, _, shape = rest.partition(",")
    try:
        lam = float(number)
    except ValueError as error:
        raise InputError(f"a guidance scale must be name:lambda, for example {name}:30; got {text!r}") from error
    kind = SCALES[name]
    if not shape:
        return kind(lam)
    if "shape" not in [field.name for field in fields(kind)]:
        raise InputError(f"{name} takes no shape, got {text!r}")
    return kind(lam, shape=shape)


def _shape(shape: Shape) -> Callable[[float], float]:
    if callable(shape):
        return shape
    if shape not in SHAPES:
        raise InputError(f"unknown guidance shape {shape!r}; {nearest(shape, SHAPES)}")
    return SHAPES[shape]
