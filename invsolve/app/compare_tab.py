"""The tab that compares up to four methods or settings on one image."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from invsolve.app import viewer
from invsolve.app.asking import Damage, named, step
from invsolve.app.compared import before_caption, caption, scores_table
from invsolve.app.events import QUICK, wire_run
from invsolve.app.examples import Examples
from invsolve.app.following import Sessions, sentence, sentences, shown, state, without_folders
from invsolve.app.pictures import chosen_image
from invsolve.app.restore_tab import before_image
from invsolve.app.running import Engine, Run, Stopped
from invsolve.app.words import bar, command_line, note
from invsolve.core.checks import InputError, InvsolveError
from invsolve.core.settings import read_setting
from invsolve.io import Image, write_image
from invsolve.restoration.options import Options
from invsolve.restoration.settings import QUALITIES, table
from invsolve.solvers import SOLVERS

if TYPE_CHECKING:
    from invsolve.restoration.restored import Restoration

__all__ = ["CompareTab", "read_settings"]

ROWS = 4
BEST, NONE = "best", "none"
FIRST = ((BEST, "balanced"), (BEST, "fast"), (NONE, "balanced"), (NONE, "balanced"))
"""The methods and qualities selected when the page opens."""

COMMON = ("noise", "seed")
EMPTY = (
    '<div class="iv-empty"><p>The images appear here side by side.<br>Zoom into one, and the others follow.</p></div>'
)


@dataclass(frozen=True)
class Entry:
    """One method or setting in the comparison.

    Attributes:
        name: the name to show.
        told: the options of this entry.
        options: all options.
    """

    name: str
    told: Mapping[str, Any]
    options: Options


class CompareTab:
    """Layout and event handlers of the tab.

    Args:
        engine: computes the restorations.
        examples: the example images, one of which is undamaged.
        folder: for the files of a run, which are deleted afterwards.
    """

    def __init__(self, engine: Engine, examples: Examples, folder: Path) -> None:
        self._engine, self._examples, self._folder = engine, examples, folder
        self._sessions = Sessions()
        self._damage = Damage("iv-compare", first="denoise", painter=True, common=COMMON, qualities=False)

    def build(self) -> None:
        """Create the components in the current layout."""
        with gr.Row(elem_classes="iv-columns"):
            with gr.Column(scale=5, min_width=300):
                self._inputs()
            with gr.Column(scale=7, min_width=300):
                self.progress = gr.HTML(EMPTY, padding=False, elem_id="iv-compare-progress")
                self.grid = viewer.viewer("iv-grid")
                self.table = gr.HTML(padding=False, elem_id="iv-table")
                with gr.Accordion("All files", open=False, visible=False) as self.more:
                    self.files = gr.File(file_count="multiple", interactive=False, elem_id="iv-compare-files")
        self._wire()

    def _inputs(self) -> None:
        step(1, "Choose an image")
        self.image = chosen_image("iv-compare-image", height=200, check=self._engine.check_size)
        self.simulate = gr.Checkbox(
            label="My image is undamaged", elem_id="iv-simulate",
            info="It is first damaged as you choose below, so each result can be compared with it",
        )  # fmt: skip
        self.example = gr.Button("Try it with an undamaged example", size="sm", elem_id="iv-compare-example")
        step(2, "What is wrong with it?")
        self._damage.build()
        step(3, "What is compared?")
        gr.HTML(
            '<p class="iv-hint">“best” is what the other tabs use; every other name is a method.</p>', padding=False
        )
        self.rows: list[Any] = []
        for i in range(2):
            self._entry(i)
        with gr.Accordion("Two more", open=False):
            for i in range(2, ROWS):
                self._entry(i)
        self._damage.build_common()
        with gr.Row(elem_classes="iv-action"):
            self.go = gr.Button("Compare", variant="primary", size="lg", elem_id="iv-compare-go")
            self.stop = gr.Button("Stop", variant="stop", size="lg", visible=False, elem_id="iv-compare-stop")

    def _entry(self, i: int) -> None:
        method, quality = FIRST[i]
        choices = [*([] if i == 0 else [NONE]), BEST, *_methods()]
        with gr.Row(elem_classes="iv-entry"):
            self.rows += [
                gr.Dropdown(
                    choices, value=method, label=f"Method {i + 1}", min_width=290, elem_id=f"iv-method-{i + 1}"
                ),
                gr.Dropdown(list(QUALITIES), value=quality, label="Quality", min_width=120),
                gr.Textbox(label="Settings", placeholder="n_steps=20", min_width=120),
            ]

    def _wire(self) -> None:
        self.example.click(lambda: (str(self._examples.clean), True), None, [self.image, self.simulate], **QUICK)
        self._damage.show_under_brush(self.image, self._engine)
        outputs = [self.progress, self.go, self.stop, self.grid, self.table, self.more, self.files]
        inputs = [self.image, self.simulate, self._damage.painter, *self.rows, *self._damage.components]
        wire_run(
            self.compare, inputs, outputs, sessions=self._sessions, places=self._engine.places,
            failed="Nothing was compared.",
        )  # fmt: skip

    def compare(
        self, request: gr.Request, image: str | None, simulate: bool, painted: Any, *values: Any
    ) -> Iterator[list[Any]]:
        """Restore with every entry; regularly yield the values of all outputs, at the end with the files.

        Raises:
            gradio.Error: with the message of the library's error.
        """
        kept = [gr.skip()] * 4
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            with sentences():
                path, task, told, entries = self._wanted(Path(name), image, simulate, painted, values)
            yield [note("Preparing ..."), shown(False), shown(True), *kept]
            run = None
            for run in self._sessions.follow(request, lambda own: self._computed(own, path, entries)):
                yield [state(run, "Comparing"), gr.skip(), gr.skip(), *kept]
            assert run is not None
            if isinstance(run.error, Stopped):
                yield [note("Stopped. Nothing was compared."), shown(True), shown(False), *kept]
                return
            with sentences():
                if run.error is not None:
                    raise run.error
                outcomes: list[Restoration | str] = run.result
                if not any(not isinstance(each, str) for each in outcomes):
                    raise InputError(str(outcomes[0]))
                done = self._done(Path(name), path, task, told, entries, outcomes)
            yield [done[0], shown(True), shown(False), *done[1:]]

    def _wanted(
        self, folder: Path, image: str | None, simulate: bool, painted: Any, values: Sequence[Any]
    ) -> tuple[Path, str, dict[str, Any], list[Entry]]:
        if image is None:
            raise InputError("choose an image first: drop a file on the page, or take the undamaged example")
        task, told = self._damage.told(values[3 * ROWS :])
        path = Path(image)
        self._engine.check_size(path)
        self._damage.painted(painted, task, told, path, folder)
        if simulate:
            if task == "auto":
                raise InputError("choose a kind of damage: your image is undamaged, so there is nothing to find")
            told["simulate"] = True
        entries: list[Entry] = []
        for i in range(ROWS):
            method, quality, text = values[3 * i : 3 * i + 3]
            if method == NONE:
                continue
            own: dict[str, Any] = {} if quality == "balanced" else {"quality": quality}
            if method != BEST:
                own["solver"] = method
            if text and text.strip():
                if method == BEST:
                    raise InputError(f"settings need a method: choose one for method {i + 1}")
                own["settings"] = read_settings(text)
            name = ", ".join(filter(None, [method, own.get("quality", ""), (text or "").strip()]))
            entries.append(Entry(name, own, self._engine.options(task, **told, **own)))
        return path, task, told, entries

    def _computed(self, own: Run, path: Path, entries: Sequence[Entry]) -> list[Restoration | str]:
        """Return a restoration for each entry, or an error message."""
        done: list[Restoration | str] = []
        for i, entry in enumerate(entries):
            own.part, own.parts = i, len(entries)
            try:
                done.append(self._engine.restore(own, path, entry.options))
            except InvsolveError as error:
                done.append(sentence(error))
        return done

    def _done(
        self, folder: Path, path: Path, task: str, told: Mapping[str, Any], entries: Sequence[Entry],
        outcomes: Sequence[Restoration | str],
    ) -> list[Any]:  # fmt: skip
        first = next(each for each in outcomes if not isinstance(each, str))
        panels = [viewer.panel("Before", before_image(first, folder / "before.png"), before_caption(first))]
        files: list[str] = []
        for i, (entry, each) in enumerate(zip(entries, outcomes, strict=True)):
            if isinstance(each, str):
                panels.append({"label": f"{i + 1}. {entry.name}", "failed": each})
                continue
            output = f"{i + 1}-restored.png"
            settings = dict(entry.told.get("settings", {}))
            plain = {name: value for name, value in entry.told.items() if name != "settings"}
            line = command_line(path.name, task, {**named(told), **plain, **self._engine.told}, output, settings)
            each.record["command"] = line
            each.record.update(without_folders(each.record))
            files += map(str, each.save(folder / output, comparison=False))
            panels.append(viewer.panel(f"{i + 1}. {entry.name}", folder / output, caption(each)))
        if first.truth is not None:
            truth = write_image(folder / "truth.png", Image(first.truth.clamp(0, 1), None, 8))
            panels.append(viewer.panel("Undamaged", truth))
        mask = told.get("mask")
        files += [str(mask)] if isinstance(mask, Path) and mask.parent == folder else []
        words = scores_table([entry.name for entry in entries], outcomes)
        return [bar(1, "Done"), viewer.grid(panels, first.image.size), words, shown(True), files]


def _methods() -> list[str]:
    """Return the solver names; those with settings for photographs come first."""
    tuned = {name for row in table("natural").values() for name in row if name in SOLVERS}
    return sorted(SOLVERS, key=lambda name: (name not in tuned, name))


def read_settings(text: str) -> dict[str, Any]:
    """Read settings such as "n_steps=20, noise_ratios=[1.0, 0.1]".

    Raises:
        InputError: if a part has no name or no value.
    """
    parts = re.split(r",(?![^\[\]]*\])", text)
    return dict(read_setting(part.strip(), "n_steps=20", "name=value, name=value", "Settings") for part in parts)
