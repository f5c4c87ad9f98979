"""A restored image, what is known about it, and how it came about."""

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
    """A restored image and how it came about.

    Attributes:
        image: the restoration: the point estimate, or the mean of the samples where a solver was named; in [0, 1].
        samples: [S, C, H, W] in [0, 1], clipped; None where a point estimate was asked for.
        degraded: the degraded image as it is seen, [C, H, W].
        truth: the clean image of a simulation.
        record: everything needed to repeat it, and what it cost: what the JSON file beside the image holds.
        result: the solver's own result (three channels, not clipped), its status as in the record.
        kernel: the blur that was found, [size, size], where it was looked for.
        uncertainty: what the samples say about the error; None without two of them.
        content: of the image's file, where nothing was done to it.
        further: restorations of the pages that follow in a TIFF file; they are written into one file with this one.
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
        """(low, high): images [C, H, W] in [0, 1] between which the truth lies with probability `level`.

        The restored image -+ q s, with s how uncertain each pixel is, see `invsolve.metrics.intervals.pixel_scale`.
        q was measured on photographs of which the truth is known, for degradations and noise like this one's;
        `record["uncertainty"]` says on which, what is promised, and where nothing is.

        Args:
            level: from 0.5 to 0.95.
            promise: "average": of the pixels of many photographs a share `level` lies inside; "image": on 90 % of
                photographs at least this share does, for which intervals are wider.

        Raises:
            InputError: fewer than two samples, or a level or promise that there is not.
        """
        return self._uncertain().interval(level, promise)

    def interval_of(self, function: Callable[[Tensor], Any], level: float = 0.9) -> tuple[float, float]:
        """(low, high) of a number that follows from the image: the mean of a box, the difference of two pixels, ...

        function(image) -+ q (standard deviation of the function over the samples), with a q of its own, measured on
        means of boxes and differences of pixels of photographs.

        Args:
            function: of an image [C, H, W] in [0, 1].
            level: from 0.5 to 0.95.

        Raises:
            InputError: fewer than two samples, another level, or a function of more than a number.
        """
        return self._uncertain().interval_of(function, level)

    def _uncertain(self) -> Uncertainty:
        if self.uncertainty is None:
            raise InputError("an interval needs posterior samples: restore with samples=6")
        return self.uncertainty

    @property
    def std(self) -> Tensor | None:
        """Standard deviation of the samples at each pixel, [C, H, W]; None without two samples."""
        return None if self.samples is None or len(self.samples) < 2 else self.samples.std(0)

    @property
    def untouched(self) -> bool:
        """Whether nothing was done to the image, and to no page of its file."""
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
        """Write the image and, beside it, the comparison, the record, and samples with their deviation.

        A file to which nothing was done is copied byte for byte where the format stays and no quality is asked for.

        Args:
            path: of the image; its ending decides the format. The other files take its name and add to it.
            overwrite: whether files that exist may be replaced.
            comparison, record: whether these two files are written.
            quality: of JPEG, WebP and AVIF files, 1 to 100; see `invsolve.io.write_image` for what it is by default.

        Raises:
            InputError: a file exists, the folder does not, or the format cannot hold the image; nothing is written.
        """
        from invsolve.restoration.outputs import save

        return save(
            self, Path(path), overwrite=overwrite, comparison_too=comparison, record_too=record, quality=quality
        )
