"""Restorations in threads that report their progress and can be stopped; only a few run at the same time."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.core.checks import InputError, enough_memory
from invsolve.io import read_header
from invsolve.restoration.options import Options

if TYPE_CHECKING:
    from invsolve.core.driver import Progress
    from invsolve.core.prior import Prior
    from invsolve.restoration.restored import Restoration

__all__ = ["Engine", "Run", "Stopped"]


MAX_SAMPLES = 32
"""Largest number of samples of an image."""


class Stopped(BaseException):
    """A visitor stopped a run. Like KeyboardInterrupt, it is not an `Exception`, so error handlers do not catch it."""


class _Heard(logging.Handler):
    """Collects the warnings of one thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.texts.append(record.getMessage())


@dataclass(eq=False)
class Run:
    """A computation in its own thread.

    Attributes:
        share: completed share of the steps, from 0 to 1.
        part, parts: index of the current image or method, from 0, and their number.
        began: time at which computing began; None while it waits or prepares.
        result, error: the result of the computation, or its exception.
        warnings: warnings of the library.
        deadline: time limit, by the monotonic clock.
    """

    work: Callable[[Run], Any]
    share: float = 0.0
    part: int = 0
    parts: int = 1
    began: float | None = None
    result: Any = None
    error: BaseException | None = None
    warnings: list[str] = field(default_factory=list)
    deadline: float = math.inf
    _stop: threading.Event = field(default_factory=threading.Event)
    _done: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Stop the computation before its next step."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end, at most `seconds`; return whether the computation has ended."""
        return self._done.wait(seconds)

    def step(self, progress: Progress) -> None:
        """Update the progress; a callback of the solver.

        Raises:
            Stopped: if `stop` was called.
            InputError: after the deadline.
        """
        self.check()
        self.begin()
        own = (progress.chunk * progress.n_steps + progress.step) / (progress.n_chunks * progress.n_steps)
        self.share = (self.part + own) / self.parts

    def begin(self) -> None:
        """Record the time at which computing begins, if not yet recorded."""
        self.began = self.began or time.monotonic()

    def check(self) -> None:
        """Raise `Stopped` if `stop` was called, and `InputError` after the deadline."""
        if self._stop.is_set():
            raise Stopped
        if time.monotonic() > self.deadline:
            raise InputError("this takes longer than the page allows: cut the image, ask for less, or use the command")

    def _run(self) -> None:
        heard, logger = _Heard(), logging.getLogger("invsolve")
        logger.addHandler(heard)
        try:
            self.result = self.work(self)
        except BaseException as error:  # raised again in the thread of the page
            self.error = error
        finally:
            logger.removeHandler(heard)
            self.warnings = heard.texts
            self._done.set()


class Engine:
    """Holds the prior, loaded once, and limits how many runs compute at the same time; the others wait.

    Args:
        prior: name of the prior; see `invsolve.priors.load`.
        device: see `restore`.
        max_pixels: largest number of pixels of a restored image.
        places: number of runs that compute at the same time.
        seconds: time limit for one image.
    """

    def __init__(self, prior: str, device: str, max_pixels: int, places: int = 1, seconds: float = math.inf) -> None:
        self.prior, self.device, self.max_pixels, self.places = prior, device, max_pixels, places
        self._seconds = seconds
        self._place, self._loading = threading.BoundedSemaphore(places), threading.Lock()

    def options(self, task: str, **told: Any) -> Options:
        """Return the options of a restoration with the prior of the page.

        Raises:
            InputError: if the options are invalid, or ask for more samples than the page allows.
        """
        samples = told.get("samples")
        if isinstance(samples, int) and samples > MAX_SAMPLES:
            raise InputError(f"this page draws at most {MAX_SAMPLES} samples, got {samples}")
        return Options.of(task, prior=self.prior, device=self.device, **told)

    @contextmanager
    def computing(self, own: Run) -> Iterator[None]:
        """Wait until a run may compute, and hold its place inside the `with` block.

        Raises:
            Stopped: if the visitor stopped the run.
        """
        with self._place, enough_memory():
            self.start_clock(own)
            own.check()
            yield

    def start_clock(self, own: Run) -> None:
        """Start the time limit for the next image of a run."""
        own.deadline = time.monotonic() + self._seconds

    def restore(self, own: Run, path: Path, options: Options) -> Restoration:
        """Restore a file within a `Run`.

        Raises:
            InputError: if the restoration is not possible.
            Stopped: if the visitor stopped the run.
        """
        from invsolve.restoration.prepare import prepare
        from invsolve.restoration.run import run

        self.check_size(path, options)
        with self.computing(own):
            job = prepare(path, options)
            self.check_pixels(*job.task.restored_size(job.measured))
            prior = self.loaded(options)
            own.check()
            own.begin()
            return run(job, prior, callbacks=[own.step])

    def look(self, path: Path) -> dict[str, Any]:
        """Analyse a file and suggest a task: return the record of `invsolve.tasks.auto.Findings`.

        Raises:
            InputError: if the file is not an image, or too large.
        """
        from invsolve.restoration.prepare import prepare

        self.check_size(path)
        return dict(prepare(path, self.options("auto")).record["auto"])

    def loaded(self, options: Options) -> Prior:
        """Return the prior of the page, loaded on first use."""
        from invsolve.restoration.loading import kept_prior

        with self._loading:
            return kept_prior(options)

    @property
    def told(self) -> dict[str, Any]:
        """Options of the page that a command for the same restoration needs as well."""
        return {} if self.prior == "natural" else {"prior": self.prior}

    def check_size(self, path: Path, options: Options | None = None) -> None:
        """Raise `InputError` if a file is not an image or has too many pixels, after enlargement by the options."""
        header = read_header(path)
        factor = getattr(None if options is None else options.about, "factor", 1)
        self.check_pixels(factor * header.height, factor * header.width)

    def check_pixels(self, height: int, width: int) -> None:
        """Raise `InputError` if a restored image of this size is too large."""
        if height * width > self.max_pixels:
            raise InputError(
                f"the image has {width} x {height} pixels, and this page takes {self.max_pixels}: cut it, or start the "
                "page with a larger --max-pixels"
            )
