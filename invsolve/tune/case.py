"""A restoration with a known ground truth, used to calibrate intervals."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invsolve.metrics.intervals import pixel_scale

__all__ = ["Case"]


@dataclass(frozen=True, eq=False)
class Case:
    """One restoration with a known ground truth.

    Attributes:
        centre, truth: [C, H, W] in [0, 1].
        samples: [S, C, H, W] in [0, 1].
        kind, severity: see `Task.severity`.
        known: bool mask [H, W] of measured pixels, if the task distinguishes them; else None.
        seconds: time of the samples, and of the point estimate.
    """

    centre: Tensor
    samples: Tensor
    truth: Tensor
    kind: str
    severity: float
    known: Tensor | None
    seconds: tuple[float, float] = (0.0, 0.0)

    @property
    def error(self) -> Tensor:
        """The absolute error |truth - centre|."""
        return (self.truth - self.centre).abs()

    @property
    def scale(self) -> Tensor:
        """The scale s of each pixel, see `pixel_scale`."""
        return pixel_scale(self.samples, self.known)
