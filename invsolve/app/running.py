"""One restoration at a time, in a thread that tells how far it is and can be stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from invsolve.core.checks import InputError, enough_memory
from invsolve.core.driver import Progress
from invsolve.core.prior import Prior
from invsolve.io import read_header
from invsolve.restoration.job import prepare
from invsolve.restoration.loading import load_prior
from invsolve.restoration.options import Options
from invsolve.restoration.run import Restoration, run

__all__ = ["Engine", "Run", "Stopped"]


class Stopped(Exception):
    """A visitor has stopped a run."""


class _Heard(logging.Handler):
    """Keeps the warnings of one thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.texts.append(record.getMessage())


@dataclass(eq=False)
class Run:
    """A computation in a thread of its own.

    Attributes:
        share: of its steps that have been made, from 0 to 1.
        began: when computing began; None while it waits or prepares.
        result, error: what came of it.
        warnings: of the library, in words.
    """

    work: Callable[[Run], Any]
    share: float = 0.0
    began: float | None = None
    result: Any = None
    error: BaseException | None = None
    warnings: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _done: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """End it before the next step."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, at the latest after so many seconds."""
        return self._done.wait(seconds)

    def step(self, progress: Progress) -> None:
        """A callback of the solver.

        Raises:
            Stopped: `stop` was called.
        """
        self.check()
        self.began = self.began or time.monotonic()
        self.share = (progress.chunk * progress.n_steps + progress.step) / (progress.n_chunks * progress.n_steps)

    def check(self) -> None:
        """Raise `Stopped` if `stop` was called."""
        if self._stop.is_set():
            raise Stopped

    def _run(self) -> None:
        heard, logger = _Heard(), logging.getLogger("invsolve")
        logger.addHandler(heard)
        try:
            self.result = self.work(self)
        except BaseException as error:  # the page's thread raises it
            self.error = error
        finally:
            logger.removeHandler(heard)
            self.warnings = heard.texts
            self._done.set()


class Engine:
    """The prior, loaded once, and a lock, so that one run computes while others wait.

    Args:
        prior: its name; see `invsolve.priors.load`.
        device: see `restore`.
        max_pixels: of a restored image.
    """

    def __init__(self, prior: str, device: str, max_pixels: int) -> None:
        self.prior, self.device, self.max_pixels = prior, device, max_pixels
        self._busy = threading.Lock()
        self._loaded: Prior | None = None

    def options(self, task: str, **told: Any) -> Options:
        """Options of a restoration with the prior of the page."""
        return Options.of(task, prior=self.prior, device=self.device, **told)

    def restore(self, own: Run, path: Path, options: Options) -> Restoration:
        """Restore a file; for a `Run`.

        Raises:
            InputError: anything that cannot be done.
            Stopped: the visitor stopped it.
        """
        self.check_size(path)
        with self._busy, enough_memory(), torch.inference_mode(False):
            own.check()
            job = prepare(path, options)
            self._fits(*job.task.restored_size(job.measured))
            if self._loaded is None:
                self._loaded = load_prior(options)
            own.check()
            return run(job, self._loaded, callbacks=[own.step])

    @property
    def told(self) -> dict[str, Any]:
        """Options of the page that a command needs, too."""
        return {} if self.prior == "natural" else {"prior": self.prior}

    def check_size(self, path: Path) -> None:
        """Raise `InputError` if a file is no image or has too many pixels."""
        header = read_header(path)
        self._fits(header.height, header.width)

    def _fits(self, height: int, width: int) -> None:
        if height * width > self.max_pixels:
            raise InputError(
                f"the image has {width} x {height} pixels, and this page takes {self.max_pixels}: cut it, or start the "
                "page with a larger --max-pixels"
            )
