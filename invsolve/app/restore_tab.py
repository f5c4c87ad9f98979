"""The tab that restores one image."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from invsolve.app import viewer
from invsolve.app.asking import Damage, named, step
from invsolve.app.events import QUICK, wire_run
from invsolve.app.examples import EXAMPLES, Example, Examples
from invsolve.app.fields import offered_tasks
from invsolve.app.following import Sessions, sentences, shown, state, without_folders
from invsolve.app.pictures import chosen_image
from invsolve.app.running import Engine, Run, Stopped
from invsolve.app.uncertainty import SAMPLES, certainty, left_open
from invsolve.app.words import bar, command_line, found, note, python_lines, suggestion
from invsolve.core.checks import InputError
from invsolve.io import Image, Metadata, write_image
from invsolve.restoration.options import Options
from invsolve.restoration.sources import cut
from invsolve.tasks.resizing import resized

if TYPE_CHECKING:
    from invsolve.restoration.restored import Restoration

__all__ = ["RestoreTab", "before_image"]

COMMON = ("noise", "samples", "time_limit", "seed")
"""Common options that the tab shows, in addition to the quality."""

EMPTY = '<div class="iv-empty"><p>The restored image appears here,<br>with a slider between before and after.</p></div>'


@dataclass(frozen=True)
class Wanted:
    """The request of a visitor: the file, the options for the run, and the options for the shown command."""

    path: Path
    task: str
    options: Options
    told: Mapping[str, Any]
    mask: Path | None

    @property
    def output(self) -> str:
        """The name of the restored file."""
        return f"{cut(self.path.stem, 80)}-restored.png"


class RestoreTab:
    """Layout and event handlers of the tab.

    Args:
        engine: computes the restorations.
        examples: the files of the examples.
        folder: for the files of a run, which are deleted afterwards.
    """

    def __init__(self, engine: Engine, examples: Examples, folder: Path) -> None:
        self._engine, self._examples, self._folder = engine, examples, folder
        self._sessions = Sessions()
        self._damage = Damage("iv", painter=True, common=COMMON)

    def build(self) -> None:
        """Create the components in the current layout."""
        with gr.Row(elem_classes="iv-columns"):
            with gr.Column(scale=5, min_width=300):
                self._inputs()
            with gr.Column(scale=7, min_width=300):
                self._outputs()
        self._wire_image()
        self._wire_run()

    def _inputs(self) -> None:
        step(1, "Choose an image")
        self.image = chosen_image("iv-image", height=240, check=self._engine.check_size)
        gr.HTML('<p class="iv-hint">or try an example:</p>', padding=False)
        with gr.Row(elem_classes="iv-examples"):
            self.buttons = {
                each.name: gr.Button(each.name, size="sm", min_width=40, elem_classes="iv-example") for each in EXAMPLES
            }
        step(2, "What is wrong with it?")
        self.looked = gr.HTML(elem_id="iv-looked", padding=False)
        self._damage.build()
        self.chosen, self.finding = gr.State(False), gr.State(None)
        step(3, "Restore it")
        self.certain = gr.Checkbox(
            label="Show how certain each pixel is", info="Draws six samples at balanced quality: takes longer",
            elem_id="iv-certain",
        )  # fmt: skip
        self._damage.build_common()
        with gr.Row(elem_classes="iv-action"):
            self.go = gr.Button("Restore", variant="primary", size="lg", elem_id="iv-go")
            self.stop = gr.Button("Stop", variant="stop", size="lg", visible=False, elem_id="iv-stop")

    def _outputs(self) -> None:
        self.progress = gr.HTML(EMPTY, elem_id="iv-progress", label="Progress", show_label=False, padding=False)
        self.slider = viewer.viewer("iv-slider")
        self.download = gr.DownloadButton(
            "Download the restored image", variant="primary", visible=False, elem_id="iv-download"
        )
        self.words = gr.HTML(elem_id="iv-found", padding=False)
        with gr.Column(visible=False, elem_id="iv-certainty") as self.certainty:
            gr.HTML('<h2 class="iv-step">How certain is it?</h2>', padding=False)
            self.samples = viewer.viewer("iv-samples")
            self.open = gr.HTML(elem_id="iv-open", padding=False)
        with gr.Accordion("All files", open=False, visible=False) as self.more:
            self.files = gr.File(label="Download", file_count="multiple", interactive=False, elem_id="iv-files")
        with gr.Accordion("Make it again", open=False, visible=False) as self.again:
            self.shell = gr.Code(language="shell", label="On the command line", interactive=False, elem_id="iv-shell")
            self.python = gr.Code(language="python", label="In Python", interactive=False, elem_id="iv-python")

    def _wire_image(self) -> None:
        task = self._damage.task
        self._damage.show_under_brush(self.image, self._engine)
        task.input(lambda: (True, ""), None, [self.chosen, self.looked], **QUICK)
        looking = self.image.upload(
            self._look, self.image, self.finding, show_progress="minimal", show_progress_on=self.looked,
            concurrency_id="looking", concurrency_limit=1, api_visibility="private",
        )  # fmt: skip
        looking.success(_suggested, [self.finding, self.chosen], [task, self.looked], **QUICK)
        self.image.clear(lambda: (False, "auto", ""), None, [self.chosen, task, self.looked], **QUICK)
        for each in EXAMPLES:
            extra = [self._damage.component(each.task, name) for name in each.told]
            self.buttons[each.name].click(
                partial(self._example, each), None, [self.image, task, self.chosen, self.looked, *extra], **QUICK
            )

    def pictures(self) -> list[Any]:
        """Return updates that add pictures to the example buttons; the pictures are made while the page opens."""
        return [gr.update(icon=str(self._examples.paths[name])) for name in self.buttons]

    def _example(self, each: Example) -> list[Any]:
        return [str(self._examples.paths[each.name]), each.task, False, "", *map(str, each.told.values())]

    def _wire_run(self) -> None:
        inputs = [self.image, self._damage.painter, self.certain, *self._damage.components]
        self._changed = [
            self.slider, self.download, self.words, self.certainty, self.samples, self.open, self.more, self.files,
            self.again, self.shell, self.python,
        ]  # fmt: skip
        outputs = [self.progress, self.go, self.stop, *self._changed]
        wire_run(
            self.restore, inputs, outputs, sessions=self._sessions, places=self._engine.places,
            failed="Nothing was restored.",
        )  # fmt: skip

    def _look(self, image: str | None) -> dict[str, Any] | None:
        """Analyse a new image and return the findings."""
        if image is None:
            return None
        with sentences():
            return self._engine.look(Path(image))

    def restore(
        self, request: gr.Request, image: str | None, painted: Any, certain: bool, *values: Any
    ) -> Iterator[list[Any]]:
        """Restore an image; regularly yield the values of all outputs, at the end with the files, deleted afterwards.

        Raises:
            gradio.Error: with the message of the library's error.
        """
        kept = [gr.skip()] * len(self._changed)
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            with sentences():
                wanted = self._wanted(Path(name), image, painted, certain, values)
            yield [note("Preparing ..."), shown(False), shown(True), *kept]
            run = None
            for run in self._sessions.follow(
                request, lambda own: self._engine.restore(own, wanted.path, wanted.options)
            ):
                yield [state(run, "Restoring"), gr.skip(), gr.skip(), *kept]
            assert run is not None
            if isinstance(run.error, Stopped):
                yield [note("Stopped. Nothing was restored."), shown(True), shown(False), *kept]
                return
            with sentences():
                if run.error is not None:
                    raise run.error
                done = self._done(Path(name), wanted, run)
            yield done

    def _wanted(self, folder: Path, image: str | None, painted: Any, certain: bool, values: tuple[Any, ...]) -> Wanted:
        if image is None:
            raise InputError("choose an image first: drop a file on the page, or click an example")
        path = Path(image)
        task, given = self._damage.told(values)
        if certain:
            given.setdefault("samples", SAMPLES)
        if given.get("samples", 1) > 1:  # intervals were calibrated at the default quality
            given.pop("quality", None)
        self._engine.check_size(path)
        mask = self._damage.painted(painted, task, given, path, folder)
        return Wanted(path, task, self._engine.options(task, **given), named(given) | self._engine.told, mask)

    def _done(self, folder: Path, wanted: Wanted, run: Run) -> list[Any]:
        restoration: Restoration = run.result
        command = command_line(wanted.path.name, wanted.task, wanted.told, wanted.output)
        restoration.record["command"] = command
        restoration.record.update(without_folders(restoration.record))
        files = [path for path in restoration.save(folder / wanted.output, overwrite=True) if path.parent == folder]
        files += [] if wanted.mask is None else [wanted.mask]
        before = before_image(restoration, folder / "before.png")
        uncertain = restoration.uncertainty is not None
        (folder / "view").mkdir()
        return [
            bar(1, f"Done in {restoration.record['stats']['seconds']:.1f} s"),
            shown(True),
            shown(False),
            viewer.slider(before, folder / wanted.output, restoration.image.size),
            gr.update(value=str(folder / wanted.output), visible=True),
            found(restoration, run.warnings),
            shown(uncertain),
            certainty(restoration, folder / "view") if uncertain else None,
            left_open(restoration) if uncertain else "",
            shown(True),
            [str(path) for path in files],
            shown(True),
            command,
            python_lines(wanted.path.name, wanted.task, wanted.told, wanted.output),
        ]


def before_image(restoration: Restoration, path: Path) -> Path:
    """Write the degraded image in the size of the restored one."""
    size = restoration.image.size
    seen = restoration.degraded.clamp(0, 1)
    pixels = seen if seen.shape[1:] == size else resized(seen, size).clamp(0, 1)
    like = restoration.image  # the same declared colours, so that the slider shows what was changed
    return write_image(path, Image(pixels, None, 8, icc=like.icc, metadata=Metadata(colours=like.metadata.colours)))


def _suggested(found: Mapping[str, Any] | None, chosen: bool) -> tuple[Any, Any]:
    """Return the suggested task and a line about it; no update if the visitor has chosen a task in the meantime."""
    return (gr.skip(), gr.skip()) if found is None or chosen else suggestion(found, offered_tasks())
