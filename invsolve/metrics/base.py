"""What a metric is, what it is given, and what is said where its weights are missing."""

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
    """One restored image and what it is compared with.

    Attributes:
        image: [3, H, W] in [0, 1], clipped by whoever makes it.
        truth: the same of the true image.
        residual: y - A(x) of the unclipped restoration over the noise's standard deviation, any shape; None where no
            measurement is at hand.
    """

    image: Tensor
    truth: Tensor
    residual: Tensor | None = None


ImageScore: TypeAlias = Callable[[Case], float]
SampleScore: TypeAlias = Callable[[Tensor, Tensor], float]
"""From samples [S, 3, H, W] and the truth [3, H, W] to a number."""
IntervalScore: TypeAlias = Callable[[Tensor, Tensor, Tensor], float]
"""From both ends of 90 % intervals and the truth, [3, H, W] each, to a number."""


def _version(package: str) -> str | None:
    """The version of a distribution, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Described:
    """What the tables say about a metric.

    Attributes:
        name: in suites and tables.
        title: the column's head.
        better: "high", "low", or "target": the nearer to `target`, the better.
        package: the distribution that implements it; "" for a function of the user's.
        detail: what is not said by the package's name and version.
        loader: "module:function" that returns the score function, or is it if there is no package.
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
        """Package, version and what else decides the number."""
        if not self.package:
            return self.loader
        return f"{self.package} {_version(self.package) or '(not installed)'} {self.detail}".strip()

    def load(self) -> Callable[..., Any]:
        """The score function.

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
        """A number that is the smaller, the better."""
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
        """One value for each image, or a single one for the samples together; none where these are too few."""
        if self.per == "image":
            return [score(case) for case in cases]
        return [score(samples, cases[0].truth)] if len(samples) >= self.least_samples else []
