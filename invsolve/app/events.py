"""How the buttons of a tab start and stop its run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from invsolve.app.following import Sessions, shown
from invsolve.app.words import note

__all__ = ["QUICK", "wire_run"]

QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Options of an event whose handler answers at once."""


def wire_run(
    run: Callable[..., Iterator[list[Any]]], inputs: Sequence[Any], outputs: Sequence[Any], *, sessions: Sessions,
    places: int, failed: str, line: str = "computing",
) -> None:  # fmt: skip
    """Connect the buttons of a tab with its run.

    Args:
        run: generator that takes the values of `inputs` and yields those of `outputs`.
        inputs: components.
        outputs: components; the first are the progress, the start button and the stop button.
        sessions: the runs of the visitors.
        places: number of runs at the same time, the same for all tabs of one `line`.
        failed: status after an error.
        line: name of the queue.
    """
    progress, go, stop = outputs[:3]
    _scroll_to(progress, go)
    event = go.click(
        run, list(inputs), list(outputs), concurrency_limit=places, concurrency_id=line, show_progress="minimal",
        show_progress_on=progress, api_visibility="private",
    )  # fmt: skip
    event.failure(lambda: [note(failed), shown(True), shown(False)], None, [progress, go, stop], **QUICK)
    stop.click(sessions.stop, None, progress, **QUICK)


def _scroll_to(output: gr.HTML, button: gr.Button) -> None:
    """Scroll to the output when a button is pressed, on narrow screens, where the output is below the button."""
    script = f"""() => {{
      const place = document.getElementById({output.elem_id!r});
      if (window.matchMedia("(max-width: 800px)").matches) place.scrollIntoView({{ behavior: "smooth" }});
    }}"""
    button.click(None, None, None, js=script, api_visibility="private")
