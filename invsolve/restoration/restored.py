"""A restored image, its uncertainty, and its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.result import Result
from invsolve.io import Image
from invsolve.restoration.uncertainty import Promise, Uncertainty

__all__ = ["Restoration"]


@dataclass(frozen=True, eq=False)
class Restoration:
    """A restored image and information about how it was made.

    Attributes:
        image: the restored image: the point estimate, or the sample mean if a solver was named; in [0, 1].
        samples: [S, C, H, W] in [0, 1], clipped; None if a point estimate was requested.
        degraded: the degraded image as displayed, [C, H, W].
        truth: the clean image of a simulation.
        record: everything needed to repeat the restoration, and its cost; the content of the JSON file.
        result: the solver's result (three channels, not clipped), with the same status as the record.
        kernel: the estimated blur kernel, [size, size], if the task estimates one.
        uncertainty: the uncertainty estimated from the samples; None with fewer than two samples.
        content: content of the image file, if the image is unchanged.
        further: restorations of the other pages of a TIFF file; all are written into one file.
    """

    image: Image
    samples: Tensor | None
    degraded: Tensor
    truth: Tensor | None
    record: dict[str, Any]
    result: Result
    kernel: Tensor | None = None
    uncertainty: Uncertainty | None = None
    content: bytes | None = None
    further: tuple[Restoration, ...] = ()

    def interval(self, level: float = 0.9, promise: Promise = "average") -> tuple[Tensor, Tensor]:
        """Return images (low, high) [C, H, W] in [0, 1]; the truth is between them with probability `level`.

        The interval is the restored image -+ q s. s is the uncertainty of each pixel, see
        `invsolve.metrics.intervals.pixel_scale`. q was measured on photographs with known ground truth, for similar
        degradations and noise levels. `record["uncertainty"]` names the photographs and the promise, if there is one.

        Args:
            level: from 0.5 to 0.95.
            promise: "average": a share `level` of the pixels of many photographs is inside; "image": on 90 % of the
                photographs, at least this share is inside, so these intervals are wider.

        Raises:
            InputError: fewer than two samples, or an unknown level or promise.
        """
        return self._uncertain().interval(level, promise)

    def interval_of(self, function: Callable[[Tensor], Any], level: float = 0.9) -> tuple[float, float]:
        """Return (low, high) for a number computed from the image: the mean of a box, the difference of two pixels, ...

        The interval is function(image) -+ q (standard deviation of the function over the samples). This q is measured
        separately, on box means and pixel differences of photographs.

        Args:
            function: maps an image [C, H, W] in [0, 1] to one number.
            level: from 0.5 to 0.95.

        Raises:
            InputError: fewer than two samples, a level outside this range, or a function that returns several numbers.
        """
        return self._uncertain().interval_of(function, level)

    def _uncertain(self) -> Uncertainty:
        if self.uncertainty is None:
            raise InputError("an interval needs posterior samples: restore with samples=6")
        return self.uncertainty

    @property
    def std(self) -> Tensor | None:
        """Standard deviation of the samples at each pixel, [C, H, W]; None with fewer than two samples."""
        return None if self.samples is None or len(self.samples) < 2 else self.samples.std(0)

    @property
    def untouched(self) -> bool:
        """Whether the image and all further pages are unchanged."""
        return all(page.content is not None for page in (self, *self.further))

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        comparison: bool = True,
        record: bool = True,
        quality: int | None = None,
    ) -> list[Path]:
        """Write the image and, beside it, the comparison, the record, and the samples with their interval map.

        An unchanged image file is copied byte for byte if the format stays the same and no quality is given.

        Args:
            path: path of the image; its extension determines the format. The other file names extend its name.
            overwrite: whether existing files may be replaced.
            comparison, record: whether to write these two files.
            quality: quality of JPEG, WebP and AVIF files, 1 to 100; see `invsolve.io.write_image` for the default.

        Raises:
            InputError: a file exists, the folder does not exist, or the format cannot hold the image. Nothing is
                written.
        """
        from invsolve.restoration.outputs import save

        return save(
            self, Path(path), overwrite=overwrite, comparison_too=comparison, record_too=record, quality=quality
        )
