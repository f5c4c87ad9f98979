"""Limits of the page."""

from __future__ import annotations

from dataclasses import dataclass

from invsolve.core.checks import InputError
from invsolve.core.options import option, options_of

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits of the page.

    Args:
        max_pixels: largest number of pixels of a restored image.
        max_megabytes: largest size of a file.
        max_minutes: longest time for one image.
        at_once: number of restorations computed at the same time.
        queue: number of visitors that may wait.

    Raises:
        InputError: a limit is below 1.
    """

    max_pixels: int = option(4_000_000, "largest restored image, in pixels", metavar="N")
    max_megabytes: int = option(50, "largest file", metavar="N")
    max_minutes: int = option(15, "longest time for one image", metavar="N")
    at_once: int = option(1, "restorations computed at the same time", metavar="N")
    queue: int = option(8, "visitors that may wait", metavar="N")

    def __post_init__(self) -> None:
        for name in options_of(Limits):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
