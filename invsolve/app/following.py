"""The run of a visitor: start it, follow it, stop it, and show its errors."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from invsolve.app.running import Run
from invsolve.app.words import bar, note, seconds_left
from invsolve.core.checks import InvsolveError

__all__ = ["Sessions", "sentence", "sentences", "shown", "state", "without_folders"]

EVERY = 0.2
"""Seconds between two updates about a run."""

FOLDERS = re.compile(r"(?<![\w.])/(?:[^/\s]+/)+(?=[^/\s])")


class Sessions:
    """The current run of each visitor, by session hash."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def follow(self, request: gr.Request, work: Callable[[Run], Any]) -> Iterator[Run]:
        """Start a computation and regularly yield its run until it ends; stop it if the generator is closed."""
        session = str(request.session_hash)
        run = self._runs[session] = Run(work)
        run.start()
        try:
            while not run.wait(EVERY):
                yield run
        finally:
            run.stop()  # in case the visitor has left
            if self._runs.get(session) is run:
                del self._runs[session]
        yield run

    def stop(self, request: gr.Request) -> str:
        """Stop the run of the visitor before its next step."""
        if run := self._runs.get(str(request.session_hash)):
            run.stop()
        return note("Stopping ...")


def state(run: Run, doing: str) -> str:
    """Return the progress of a run as HTML."""
    if run.began is None:
        return note("Preparing: reading the image, looking at its noise ...")
    if run.share == 0:
        return bar(0, f"{doing} ...")
    left = seconds_left(time.monotonic() - run.began, run.share) if run.share < 1 else "almost done"
    return bar(run.share, f"{doing}, {left}")


def shown(visible: bool) -> Any:
    """Return an update that shows or hides a component."""
    return gr.update(visible=visible)


def sentence(error: Exception) -> str:
    """Return an error message of the library, with file names but without the folders of this machine."""
    text = FOLDERS.sub("", " ".join(str(error).split()))
    return text[:1].upper() + text[1:] if text.split(" ")[0].isalpha() else text  # do not change a file name


def without_folders(value: Any) -> Any:
    """Return a record with file names but without the folders of this machine."""
    if isinstance(value, Mapping):
        return {name: without_folders(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(each) for each in value]
    path = str(value) if isinstance(value, str | Path) else ""
    return Path(path).name if path.startswith("/") and "\n" not in path else value


@contextmanager
def sentences() -> Iterator[None]:
    """Show errors of the library in a pop-up message.

    Raises:
        gradio.Error: with the message.
    """
    try:
        yield
    except InvsolveError as error:
        said = html.escape(sentence(error), quote=False)
        raise gr.Error(said, title="This cannot be done", print_exception=False) from error
