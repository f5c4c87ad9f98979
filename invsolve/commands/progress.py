"""Progress of a batch on standard error: bars on a terminal, otherwise a line from time to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from invsolve.commands.terminal import one_line

if TYPE_CHECKING:
    from invsolve.core.driver import Progress

__all__ = ["Shown"]

EVERY = 30.0
"""Seconds between two lines without a terminal."""


class Shown:
    """One bar for the current image, in solver steps, and one for the batch with the remaining time.

    Args:
        total: number of images.
        quiet: show nothing.
    """

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        console = Console(stderr=True)
        self._total, self._finished, self._skipped = total, 0, 0
        self._lines = not quiet and not console.is_terminal and total > 1
        self._began = self._last = time.monotonic()
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"), TimeRemainingColumn(), TextColumn("left"),
        )  # fmt: skip
        self._bars = Bars(*columns, console=console, disable=quiet or not console.is_terminal, transient=True)
        self._batch: Any = self._bars.add_task("images", total=total, unit="images") if total > 1 else None
        self._image: Any = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def step(self, name: str) -> Callable[[Progress], None]:
        """Return a solver callback for the image of this name."""

        def callback(progress: Progress) -> None:
            if self._image is None:
                self._image = self._bars.add_task(one_line(name), total=None, unit="steps")
            done = progress.chunk * progress.n_steps + progress.step
            self._bars.update(
                self._image, description=one_line(name), completed=done, total=progress.n_chunks * progress.n_steps
            )
            self._line()

        return callback

    def done(self, status: str) -> None:
        """Count an image that was restored, skipped, or failed."""
        self._finished += 1
        self._skipped += status == "skipped"
        if self._batch is not None:
            self._bars.update(self._batch, completed=self._finished)
        if self._image is not None:
            self._bars.remove_task(self._image)
            self._image = None
        self._line()

    def _line(self) -> None:
        now = time.monotonic()
        if not self._lines or now - self._last < EVERY:
            return
        self._last = now
        left = ""
        if computed := self._finished - self._skipped:
            left = f", about {_span((now - self._began) / computed * (self._total - self._finished))} left"
        sys.stderr.write(f"invsolve: {self._finished} of {self._total} images{left}\n")
        sys.stderr.flush()


def _span(seconds: float) -> str:
    for unit, size, least in (("h", 3600, 7200), ("min", 60, 90)):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
