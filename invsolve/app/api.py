"""The API of the page for programs, by `gradio_client` or plain HTTP; see docs/app.md."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from invsolve.app.fields import offered_tasks
from invsolve.app.following import Sessions, sentences, without_folders
from invsolve.app.running import Engine
from invsolve.core.checks import InputError, nearest
from invsolve.core.options import options_of
from invsolve.restoration.sources import cut
from invsolve.tasks import TASKS

if TYPE_CHECKING:
    from invsolve.restoration.restored import Restoration

__all__ = ["add_api"]

COMMON = ("noise", "samples", "quality", "time_limit", "seed")
"""Common options of all tasks that a program may give."""


def add_api(engine: Engine, folder: Path) -> None:
    """Add the endpoint `/restore` to the current page; its components are hidden."""

    sessions = Sessions()

    def restore(
        request: gr.Request,
        image: str | None,
        task: str,
        options: Mapping[str, Any] | None,
        mask: str | None,
        kernel: str | None,
    ) -> Iterator[list[str] | None]:
        """Restore an image: yield None during the run, then the files: the image, the record and any others."""
        with tempfile.TemporaryDirectory(dir=folder) as name, sentences():
            if image is None:
                raise InputError("an image file is needed")
            path = Path(image)
            wanted = engine.options(task, **_told(task, options or {}, {"mask": mask, "kernel": kernel}))
            run = None
            for run in sessions.follow(request, lambda own: engine.restore(own, path, wanted)):  # noqa: B007
                yield None
            assert run is not None
            if run.error is not None:
                raise run.error
            done: Restoration = run.result
            done.record.update(without_folders(done.record))
            saved = done.save(Path(name) / f"{cut(path.stem, 80)}-restored.png", comparison=False)
            yield [str(each) for each in saved if each.parent == Path(name)]

    inputs = [
        gr.File(visible=False, label="image", type="filepath"),
        gr.Textbox("auto", visible=False, label="task"),
        gr.JSON({}, visible=False, label="options"),
        gr.File(visible=False, label="mask", type="filepath"),
        gr.File(visible=False, label="kernel", type="filepath"),
    ]
    outputs = gr.File(visible=False, label="files", file_count="multiple")
    gr.Button(visible=False).click(
        restore, inputs, outputs, api_name="restore", concurrency_limit=engine.places, concurrency_id="computing"
    )


def _told(task: str, options: Mapping[str, Any], files: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the given options combined with the given files; file options cannot be given as text.

    Raises:
        InputError: if the page does not have the task or an option.
    """
    if task not in offered_tasks():
        raise InputError(f"the page has no task {task!r}; {nearest(task, offered_tasks())}")
    own = options_of(TASKS[task].option_type())
    known = [*COMMON, *(name for name, each in own.items() if not each.is_file)]
    for name in options:
        if name not in known:
            raise InputError(f"the page has no option {name!r} for {task}; {nearest(str(name), known)}")
    told: dict[str, Any] = dict(options)
    for name, value in files.items():
        if value is not None and name not in own:
            raise InputError(f"a {name} does not belong to {task}")
        if value is not None:
            told[name] = Path(value)
    return told
