"""The base classes of metrics, their input, and the error for missing weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeAlias

from torch import Tensor

from invsolve.core.checks import InputError, InvsolveError
from invsolve.core.registry import load_attribute

__all__ = ["Case", "Described", "Direction", "ImageScore", "IntervalScore", "Metric", "SampleScore", "WeightsMissing"]

Direction: TypeAlias = Literal["high", "low", "target"]


class WeightsMissing(InvsolveError):
    """A metric needs a weight file that is neither in the usual caches nor under INVSOLVE_WEIGHTS."""


@dataclass(frozen=True, eq=False)
class Case:
    """One restored image and the data it is compared with.

    Attributes:
        image: restored image [3, H, W] in [0, 1]; the caller must clip it.
        truth: ground truth in the same form.
        residual: (y - A(x)) / sigma for the unclipped restoration x and noise level sigma, any shape; None without a
            measurement.
    """

    image: Tensor
    truth: Tensor
    residual: Tensor | None = None


ImageScore: TypeAlias = Callable[[Case], float]
SampleScore: TypeAlias = Callable[[Tensor, Tensor], float]
"""Maps samples [S, 3, H, W] and the truth [3, H, W] to a number."""
IntervalScore: TypeAlias = Callable[[Tensor, Tensor, Tensor], float]
"""Maps both ends of 90 % intervals and the truth, [3, H, W] each, to a number."""


def _version(package: str) -> str | None:
    """The version of a distribution; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Described:
    """The description of a metric.

    Attributes:
        name: name in suites and tables.
        title: column heading.
        better: "high", "low", or "target" (values nearer to `target` are better).
        package: the distribution that implements the metric; "" for a user function.
        detail: details besides the package name and version.
        loader: "module:function" that returns the score function; without a package, the score function itself.
        target: see `better`.
    """

    name: str
    title: str
    better: Direction
    package: str
    detail: str
    loader: str
    target: float = 0.0

    def implementation(self) -> str:
        """Return the package, its version and other details that determine the value."""
        if not self.package:
            return self.loader
        return f"{self.package} {_version(self.package) or '(not installed)'} {self.detail}".strip()

    def load(self) -> Callable[..., Any]:
        """Load the score function.

        Raises:
            WeightsMissing: a weight file is not on this machine.
            InputError: the package that implements it is not installed.
        """
        if not self.package:
            return load_attribute(self.loader)
        if self.package != "invsolve" and _version(self.package) is None:
            raise InputError(f"the metric {self.name} needs the package {self.package}: pip install {self.package}")
        return load_attribute(self.loader)()

    def loss(self, value: float) -> float:
        """Convert a value to a loss: smaller is better."""
        if self.better == "target":
            return abs(value - self.target)
        return -value if self.better == "high" else value


@dataclass(frozen=True)
class Metric(Described):
    """A metric of one image (`per` "image": an `ImageScore`), of the samples of one item ("samples": a `SampleScore`),
    or of the calibrated intervals of one item ("interval": an `IntervalScore`)."""

    per: Literal["image", "samples", "interval"] = "image"
    least_samples: int = 1

    def values(self, score: Callable[..., float], cases: Sequence[Case], samples: Tensor) -> list[float]:
        """Return one value per image, or a single value for all samples; empty if there are too few samples."""
        if self.per == "image":
            return [score(case) for case in cases]
        return [score(samples, cases[0].truth)] if len(samples) >= self.least_samples else []
