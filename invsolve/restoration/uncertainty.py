"""Uncertainty of a restoration: intervals of pixels and of functions of the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.metrics.intervals import pixel_deviation, pixel_scale, student
from invsolve.restoration.calibration import UNRELATED, Calibration, Factor
from invsolve.restoration.conformal import PROMISES, SHARE_OF_IMAGES, blended, groups
from invsolve.restoration.job import Job
from invsolve.tasks.blind_deblur import BlindDeblur

__all__ = ["Promise", "Uncertainty", "uncertainty_of"]

Promise = Literal["average", "image"]

UNCALIBRATED = 2.0
"""Factor applied to the Student intervals of samples without a calibration."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """The samples of a restoration and the calibration of their spread.

    Attributes:
        centre: centre of the intervals, [C, H, W]: the restored image.
        samples: [S, C, H, W], S at least 2.
        kind, severity, noise: the degradation, see `Task.severity`; the noise level in [0, 1] units.
        known: bool [H, W], true for measured pixels; None if the task does not distinguish them.
        calibration: the calibration table; None if there is none for this prior and solver.
        source: source of the table: "packaged", a file, or "".
    """

    centre: Tensor
    samples: Tensor
    kind: str
    severity: float
    noise: float
    known: Tensor | None
    calibration: Calibration | None
    source: str

    def interval(self, level: float = 0.9, promise: Promise = "average") -> tuple[Tensor, Tensor]:
        """Return images (low, high) [C, H, W]: centre -+ q s, clipped to [0, 1]; see `Restoration.interval`."""
        q = {group: self.factor(level, promise, group).q for group in groups(self.centre, self.known)}
        scale = pixel_deviation if self.calibration is None else pixel_scale
        half = blended(q, self.centre, self.known) * scale(self.samples, self.known)
        return (self.centre - half).clamp(0, 1), (self.centre + half).clamp(0, 1)

    def interval_of(self, function: Callable[[Tensor], Any], level: float = 0.9) -> tuple[float, float]:
        """Return (low, high) for a function of the image; see `Restoration.interval_of`."""
        middle = _number(function, self.centre)
        values = torch.tensor([_number(function, sample) for sample in self.samples], dtype=torch.float64)
        half = self.factor(level, "functional").q * float(values.std())
        return middle - half, middle + half

    def factor(self, level: float, promise: str, group: str = "") -> Factor:
        """Return q for a level and promise, and what is outside the calibrated range."""
        count = len(self.samples)
        if self.calibration is None:
            if promise not in (*PROMISES, "functional"):
                raise InputError(f"promise must be one of {', '.join(PROMISES)}, got {promise!r}")
            return Factor(UNCALIBRATED * student(level, count), "this prior and solver were not calibrated")
        found = self.calibration.factor(self.kind, self.severity, self.noise, level, promise, group)
        fewer = student(level, count) / student(level, self.calibration.samples)
        return Factor(found.q * max(1.0, fewer), found.outside)

    def record(self) -> dict[str, Any]:
        """Return method, calibration and promise as plain values."""
        outside = self.factor(0.9, "average").outside
        table = self.calibration
        return {
            "method": "centre -+ q s, s from the samples' standard deviation (its means over 1, 6 and 12 pixels)",
            "centre": "restored image",
            "samples": len(self.samples),
            "kind": self.kind,
            "severity": self.severity,
            "calibration": self.source or "none",
            "photographs": "none" if table is None else table.described,
            "q": {
                promise: {group: self.factor(0.9, promise, group).q for group in groups(self.centre, self.known)}
                for promise in PROMISES
            },
            "level": 0.9,
            "promise": self.promise,
            "outside": outside,
        }

    @property
    def promise(self) -> str:
        """A text description of what the 90 % intervals promise."""
        if self.calibration is None:
            return (
                "none: intervals of this prior and solver were never compared with the truth, and are twice as wide as "
                "the samples say; invsolve calibrate measures them"
            )
        if outside := self.factor(0.9, "average").outside:
            return f"none: {outside}; intervals are 1.5 times as wide as the nearest that were measured"
        what = "blurred photographs" if self.kind == BlindDeblur.name else "photographs"
        return (
            f"average: 90 % of the pixels of {what} like those of the calibration set lie inside; image: on "
            f"{100 * SHARE_OF_IMAGES:.0f} % of such photographs at least 90 % of the pixels do"
        )


def _number(function: Callable[[Tensor], Any], image: Tensor) -> float:
    value = torch.as_tensor(function(image))
    if value.numel() != 1:
        raise InputError(f"the function must return one number for an image [C, H, W], got {list(value.shape)}")
    return float(value)


def uncertainty_of(job: Job, centre: Tensor, samples: Tensor) -> Uncertainty:
    """Return the uncertainty of the restored image `centre`, from its samples and the calibration."""
    table, source = job.calibration
    kind, severity = job.task.severity
    known = job.task.known(job.y)
    if known is not None and tuple(known.shape) != tuple(centre.shape[1:]):
        known = None
    noise = UNRELATED if job.task.noise_level is not None else job.noise.effective
    return Uncertainty(centre, samples, kind, severity, noise, known, table, source)
