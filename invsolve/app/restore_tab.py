"""The tab that restores one image."""

from __future__ import annotations

import html
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from invsolve.app.examples import EXAMPLES
from invsolve.app.fields import Field, common_fields, offered_tasks, task_fields, values_of
from invsolve.app.masks import painted_mask
from invsolve.app.running import Engine, Run, Stopped
from invsolve.app.words import bar, command_line, found, note, python_lines, seconds_left, title
from invsolve.core.checks import InputError, InvsolveError
from invsolve.io import Image, write_image
from invsolve.restoration.options import Options
from invsolve.restoration.run import Restoration
from invsolve.restoration.settings import QUALITIES
from invsolve.restoration.sources import cut
from invsolve.tasks.resizing import resized

__all__ = ["RestoreTab"]

FIRST = "denoise"
"""The task that is chosen when the page opens."""

EVERY = 0.2
"""Seconds between two looks at a run."""


EMPTY = '<div class="iv-empty"><p>The restored image appears here,<br>with a slider between before and after.</p></div>'


@dataclass(frozen=True)
class Wanted:
    """What a visitor asked for: the file, the options as they are run, and as they are told to others."""

    path: Path
    task: str
    options: Options
    told: Mapping[str, Any]
    mask: Path | None

    @property
    def output(self) -> str:
        """Name of the restored file."""
        return f"{cut(self.path.stem, 80)}-restored.png"


class RestoreTab:
    """Layout and handlers.

    Args:
        engine: restores.
        examples: files by the names of `EXAMPLES`.
        folder: for files of a run, which are deleted after it.
    """

    def __init__(self, engine: Engine, examples: Mapping[str, Path], folder: Path) -> None:
        self._engine, self._examples, self._folder = engine, examples, folder
        self._runs: dict[str, Run] = {}
        self._fields: list[Field] = []

    def build(self) -> None:
        """Make the components in the layout that is being made."""
        with gr.Row(elem_classes="iv-columns"):
            with gr.Column(scale=5, min_width=320):
                self._inputs()
            with gr.Column(scale=7, min_width=320):
                self._outputs()
        self._wire()

    def _inputs(self) -> None:
        gr.HTML(_step(1, "Choose an image"), padding=False)
        self.image = gr.Image(
            type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Image", height=260,
            elem_id="iv-image", buttons=[], format="png",
        )  # fmt: skip
        gr.HTML('<p class="iv-hint">or try an example</p>', padding=False)
        with gr.Row(elem_classes="iv-examples"):
            self.buttons = {
                each.name: gr.Button(
                    each.name, icon=str(self._examples[each.name]), size="sm", min_width=90, elem_classes="iv-example"
                )
                for each in EXAMPLES
            }
        gr.HTML(_step(2, "What is wrong with it?"), padding=False)
        names = [(title(name), name) for name in offered_tasks()]
        self.task = gr.Radio(names, value=FIRST, show_label=False, label="What is wrong with it?", elem_id="iv-task")
        self.groups: dict[str, Any] = {}
        for name in offered_tasks():
            with gr.Column(visible=name == FIRST, elem_classes="iv-options") as self.groups[name]:
                if name == "inpaint":
                    self._painter()
                self._fields += task_fields(name)
        gr.HTML(_step(3, "Restore"), padding=False)
        qualities = [(name.capitalize(), name) for name in QUALITIES]
        self.quality = gr.Radio(qualities, value="balanced", label="Quality", info="Better takes longer")
        with gr.Accordion("More settings", open=False):
            self._fields += common_fields()
        self.go = gr.Button("Restore", variant="primary", size="lg", elem_id="iv-go")
        self.stop = gr.Button("Stop", variant="stop", size="lg", visible=False, elem_id="iv-stop")

    def _painter(self) -> None:
        gr.HTML(
            '<p class="iv-hint">Paint over what is to be filled in. What is transparent in the image is filled in, '
            "too.</p>",
            padding=False,
        )
        brush = gr.Brush(default_size=14, colors=["#ff2d6f"], default_color="#ff2d6f", color_mode="fixed")
        self.editor = gr.ImageEditor(
            type="numpy", label="Mask", sources=(), transforms=(), brush=brush, layers=False, height=360, format="png",
            elem_id="iv-mask", buttons=[],
        )  # fmt: skip

    def _outputs(self) -> None:
        self.progress = gr.HTML(EMPTY, elem_id="iv-progress", label="Progress", show_label=False, padding=False)
        self.slider = gr.ImageSlider(
            label="Before and after", type="filepath", format="png", height=440, interactive=False, elem_id="iv-slider",
            visible=False, max_height=640,
        )  # fmt: skip
        self.words = gr.HTML(elem_id="iv-found", padding=False)
        self.spread = gr.Image(
            label="How uncertain each pixel is (brighter is less certain)", format="png", visible=False,
            interactive=False, elem_id="iv-spread",
        )  # fmt: skip
        self.files = gr.File(
            label="Download", file_count="multiple", visible=False, interactive=False, elem_id="iv-files"
        )
        with gr.Accordion("Make it again", open=False, visible=False) as self.again:
            self.shell = gr.Code(language="shell", label="On the command line", interactive=False, elem_id="iv-shell")
            self.python = gr.Code(language="python", label="In Python", interactive=False, elem_id="iv-python")

    def _wire(self) -> None:
        shown = [self.task, *self.groups.values(), self.editor]
        self.task.change(self._show_task, [self.task, self.image], shown[1:], queue=False, show_progress="hidden")
        self.image.change(self._show_mask, [self.task, self.image], self.editor, queue=False, show_progress="hidden")
        by_name = {(field.task, field.option.name): field.component for field in self._fields}
        for each in EXAMPLES:
            extra = [by_name[each.task, name] for name in each.told]
            values = (str(self._examples[each.name]), each.task, *map(str, each.told.values()))
            self.buttons[each.name].click(
                lambda values=values: list(values), None, [self.image, self.task, *extra], queue=False,
                show_progress="hidden", api_visibility="private",
            )  # fmt: skip
        inputs = [self.image, self.task, self.editor, self.quality, *(field.component for field in self._fields)]
        outputs = [
            self.progress, self.slider, self.words, self.spread, self.files, self.again, self.shell, self.python,
            self.go, self.stop,
        ]  # fmt: skip
        event = self.go.click(
            self.restore, inputs, outputs, concurrency_limit=1, concurrency_id="computing", api_name="restore",
            show_progress="minimal", show_progress_on=self.progress,
        )  # fmt: skip
        event.failure(self._failed, None, [self.progress, self.go, self.stop], queue=False, show_progress="hidden")
        self.stop.click(self._stop, None, self.progress, queue=False, show_progress="hidden")

    def _show_task(self, task: str, image: str | None) -> list[Any]:
        return [*(gr.update(visible=name == task) for name in self.groups), self._show_mask(task, image)]

    def _show_mask(self, task: str, image: str | None) -> Any:
        if task != "inpaint" or image is None:
            return gr.skip()
        return {"background": image, "layers": [], "composite": None}

    def _failed(self) -> list[Any]:
        return [note("Nothing was restored."), gr.update(visible=True), gr.update(visible=False)]

    def _stop(self, request: gr.Request) -> str:
        if run := self._runs.get(str(request.session_hash)):
            run.stop()
        return note("Stopping ...")

    def restore(
        self, request: gr.Request, image: str | None, task: str, editor: Any, quality: str, *values: Any
    ) -> Iterator[list[Any]]:
        """Restore: values of all outputs now and then, at the end with the files, which are deleted afterwards.

        Raises:
            gradio.Error: the library's sentence.
        """
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder, session = Path(name), str(request.session_hash)
            with _sentences():
                wanted = self._wanted(folder, image, task, editor, quality, values)
            run = self._runs[session] = Run(lambda own: self._engine.restore(own, wanted.path, wanted.options))
            run.start()
            try:
                yield self._going(note("Preparing ..."))
                while not run.wait(EVERY):
                    yield self._going(_state(run))
            finally:
                run.stop()  # the visitor may have left
                if self._runs.get(session) is run:
                    del self._runs[session]
            if isinstance(run.error, Stopped):
                yield [note("Stopped. Nothing was restored."), *[gr.skip()] * 7, _seen(True), _seen(False)]
                return
            with _sentences():
                if run.error is not None:
                    raise run.error
                done = self._done(folder, wanted, run)
            yield done

    def _wanted(
        self, folder: Path, image: str | None, task: str, editor: Any, quality: str, values: tuple[Any, ...]
    ) -> Wanted:
        if image is None:
            raise InputError("choose an image first: drop a file on the page, or click an example")
        path = Path(image)
        given = values_of(self._fields, values, task)
        mask = None
        if task == "inpaint" and "mask" not in given:
            self._engine.check_size(path)
            mask = painted_mask(editor, path, folder / f"{cut(path.stem, 80)}-mask.png")
            if mask is not None:
                given["mask"] = mask
        if quality != "balanced":
            given["quality"] = quality
        options = self._engine.options(task, **given)
        told = {name: value.name if isinstance(value, Path) else value for name, value in given.items()}
        return Wanted(path, task, options, told | self._engine.told, mask)

    def _going(self, progress: str) -> list[Any]:
        return [progress, *[gr.skip()] * 7, _seen(False), _seen(True)]

    def _done(self, folder: Path, wanted: Wanted, run: Run) -> list[Any]:
        restoration: Restoration = run.result
        command = command_line(wanted.path.name, wanted.task, wanted.told, wanted.output)
        restoration.record["command"] = command
        files = [path for path in restoration.save(folder / wanted.output, overwrite=True) if path.parent == folder]
        files += [] if wanted.mask is None else [wanted.mask]
        size = (restoration.image.pixels.shape[1], restoration.image.pixels.shape[2])
        before = folder / "before.png"
        seen = restoration.degraded.clamp(0, 1)
        write_image(before, Image(seen if seen.shape[1:] == size else resized(seen, size).clamp(0, 1), None, 8))
        spread = next((path for path in files if path.stem.endswith("-interval")), None)
        seconds = restoration.record["stats"]["seconds"]
        return [
            bar(1, f"Done in {seconds:.1f} s"),
            gr.update(value=(str(before), str(folder / wanted.output)), visible=True),
            found(restoration, run.warnings),
            gr.update(value=None if spread is None else str(spread), visible=spread is not None),
            gr.update(value=[str(path) for path in files], visible=True),
            _seen(True),
            command,
            python_lines(wanted.path.name, wanted.task, wanted.told, wanted.output),
            _seen(True),
            _seen(False),
        ]


def _step(number: int, text: str) -> str:
    return f'<h2 class="iv-step"><span>{number}</span>{text}</h2>'


def _seen(visible: bool) -> Any:
    return gr.update(visible=visible)


def _state(run: Run) -> str:
    """How far a run is."""
    if run.began is None:
        return note("Preparing: reading the image, looking at its noise ...")
    left = seconds_left(time.monotonic() - run.began, run.share) if 0 < run.share < 1 else "almost done"
    return bar(run.share, f"Restoring, {left}")


@contextmanager
def _sentences() -> Iterator[None]:
    """Show the library's errors in a toast, with the names of files and without the folders of this machine."""
    try:
        yield
    except InvsolveError as error:
        text = re.sub(r"(?<![\w.])/(?:[^/\s]+/)+(?=[^/\s])", "", str(error))
        said = html.escape(text[:1].upper() + text[1:], quote=False)
        raise gr.Error(said, title="This cannot be done", print_exception=False) from error
