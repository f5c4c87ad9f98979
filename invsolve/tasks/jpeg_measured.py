"""Tasks whose measurement may be a JPEG file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invsolve.tasks.base import Task
from invsolve.tasks.jpeg import JPEG  # needed at run time: settings of subclasses are checked by their annotations

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import LinearOperator
    from invsolve.core.prior import Prior

__all__ = ["JPEGMeasured"]


class JPEGMeasured(Task):
    """A task that compares DCT coefficients for a JPEG file, and pixels for other files.

    Attributes:
        codec: how the measurement was compressed, if it is or was a JPEG file.
    """

    codec: JPEG | None

    @property
    def noise_level(self) -> float | None:
        return None if self.codec is None else self.codec.level

    def measurement(self, y: Tensor, channels: int) -> Tensor:
        return super().measurement(y, channels) if self.codec is None else self.codec.measurement(y, channels)

    def compressed(self, operator: LinearOperator) -> LinearOperator:
        """Return `operator` followed by the JPEG compression, if there is one."""
        return operator if self.codec is None else self.codec.after(operator)

    def compression(self, prior: Prior) -> dict[str, Any]:
        """The codec's part of `record`."""
        return {} if self.codec is None else {"compression": self.codec.record(prior)}
