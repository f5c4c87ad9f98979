"""The tab that restores many images."""

from __future__ import annotations

import html
import json
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import gradio as gr

from invsolve.app.asking import Damage, step
from invsolve.app.events import wire_run
from invsolve.app.following import Sessions, sentence, sentences, shown, state, without_folders
from invsolve.app.pictures import picture_of
from invsolve.app.running import Engine, Run, Stopped
from invsolve.app.words import bar, note, warned
from invsolve.core.checks import InputError, InvsolveError
from invsolve.restoration.options import Options
from invsolve.restoration.sources import Entry, output_path

if TYPE_CHECKING:
    from invsolve.restoration.items import Item, Outcome

__all__ = ["MAX_FILES", "BatchTab"]

MAX_FILES = 200
"""Largest number of files in one batch."""

SIDE = 144
"""Side of a thumbnail in pixels, twice its size on the page."""

COMMON = ("noise", "time_limit", "seed")
EMPTY = '<div class="iv-empty"><p>A line for each image appears here,<br>and at the end one file to download.</p></div>'


@dataclass
class Line:
    """A line of the table: an image and its result."""

    name: str
    path: Path
    status: str = "waiting"
    said: str = ""
    before: str = ""
    after: str = ""


@dataclass
class Work:
    """A batch: its lines, and the folder for the restorations."""

    lines: list[Line]
    options: Options
    out: Path
    ended: int = 0


class BatchTab:
    """Layout and event handlers of the tab.

    Args:
        engine: computes the restorations.
        folder: for the files of a run, which are deleted afterwards.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self._sessions = Sessions()
        self._damage = Damage("iv-batch", common=COMMON)

    def build(self) -> None:
        """Create the components in the current layout."""
        with gr.Row(elem_classes="iv-columns"):
            with gr.Column(scale=5, min_width=300):
                step(1, "Choose images")
                self.images = gr.File(
                    file_count="multiple", type="filepath", label="Images", height=200, elem_id="iv-batch-images"
                )
                step(2, "What is wrong with them?")
                self._damage.build()
                step(3, "Restore them")
                self._damage.build_common()
                with gr.Row(elem_classes="iv-action"):
                    self.go = gr.Button("Restore all", variant="primary", size="lg", elem_id="iv-batch-go")
                    self.stop = gr.Button("Stop", variant="stop", size="lg", visible=False, elem_id="iv-batch-stop")
            with gr.Column(scale=7, min_width=300):
                self.progress = gr.HTML(EMPTY, padding=False, elem_id="iv-batch-progress")
                self.zip = gr.DownloadButton(
                    "Download all as one file (zip)", variant="primary", visible=False, elem_id="iv-zip"
                )
                self.table = gr.HTML(padding=False, elem_id="iv-batch-table")
        self._wire()

    def _wire(self) -> None:
        outputs = [self.progress, self.go, self.stop, self.table, self.zip]
        wire_run(
            self.restore, [self.images, *self._damage.components], outputs, sessions=self._sessions,
            places=self._engine.places, failed="Nothing was restored.", line="batch",
        )  # fmt: skip

    def restore(self, request: gr.Request, images: list[str] | None, *values: Any) -> Iterator[list[Any]]:
        """Restore all images; regularly yield the values of all outputs, at the end with the zip file.

        Raises:
            gradio.Error: with the message of the library's error.
        """
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            with sentences():
                work = self._wanted(folder, images, values)
            yield [note("Preparing ..."), shown(False), shown(True), _table(work.lines), shown(False)]
            run, seen = None, 0
            for run in self._sessions.follow(request, lambda own: self._computed(own, work)):
                table = gr.skip() if seen == work.ended else _table(work.lines)
                seen = work.ended
                count = f"Restoring {min(work.ended + 1, len(work.lines))} of {len(work.lines)}"
                yield [state(run, count), gr.skip(), gr.skip(), table, gr.skip()]
            assert run is not None
            with sentences():
                if run.error is not None and not isinstance(run.error, Stopped):
                    raise run.error
            packed = _packed(work, folder / "restored.zip")
            download = gr.update(value=None if packed is None else str(packed), visible=packed is not None)
            table = _table(work.lines) + warned(run.warnings)
            yield [_ended(work, stopped=run.error is not None), shown(True), shown(False), table, download]

    def _wanted(self, folder: Path, images: list[str] | None, values: Sequence[Any]) -> Work:
        if not images:
            raise InputError("choose images first: drop files on the page")
        if len(images) > MAX_FILES:
            raise InputError(f"this page takes {MAX_FILES} files at once, got {len(images)}: use `invsolve restore`")
        task, told = self._damage.told(values)
        options = self._engine.options(task, **told)
        (folder / "out").mkdir()
        paths = list(map(Path, images))
        lines = [Line(f"{stem}{path.suffix}", path) for stem, path in zip(different(paths), paths, strict=True)]
        return Work(lines, options, folder / "out")

    def _computed(self, own: Run, work: Work) -> None:
        """Restore every valid image that is not too large; the lines of the others say what is wrong."""
        from invsolve.restoration.batch import restore_batch
        from invsolve.restoration.items import Batch, Item

        batch = Batch(work.options, overwrite=True, comparison=False, failures=False)
        items: list[tuple[Line, Item]] = []
        for line in work.lines:
            own.check()
            try:
                self._engine.check_size(line.path, work.options)
            except InvsolveError as error:
                _failed(work, line, sentence(error))
                continue
            entry = Entry(str(line.path), PurePosixPath(), Path(line.name).stem, line.path.suffix)
            items.append((line, Item(entry, output_path(entry, work.out), batch)))
        places = {id(item): i for i, (_, item) in enumerate(items)}
        own.parts = max(1, len(items))

        def callbacks(item: Item) -> list[Any]:
            own.part = places[id(item)]
            self._engine.start_clock(own)  # for this image: several may be computed before the next outcome
            return [own.step]

        outcomes = iter(restore_batch([item for _, item in items], callbacks=callbacks))
        for line, _ in items:
            with self._engine.computing(own):
                outcome = next(outcomes)
            _filled(line, outcome)
            work.ended += 1


def different(paths: Sequence[Path]) -> list[str]:
    """Return unique stems for files; equal names get a number that no other file has."""
    taken, stems = {path.stem for path in paths}, []
    for path in paths:
        stem, number = path.stem, 1
        while stem in stems or (number > 1 and stem in taken):
            number += 1
            stem = f"{path.stem} ({number})"
        stems.append(stem)
    return stems


def _failed(work: Work, line: Line, said: str) -> None:
    line.status, line.said = "failed", said
    work.ended += 1


def _filled(line: Line, outcome: Outcome) -> None:
    """Fill a line with the outcome of its image."""
    from invsolve.tasks.auto import Unchanged

    if outcome.status == "failed":
        line.status, line.said = "failed", sentence(InvsolveError(outcome.error))
        return
    assert outcome.path is not None
    record = outcome.record or {}
    words = record.get("warnings") or record.get("auto", {}).get("found", [""])[-1:]
    told = "; ".join(map(str, words))
    same = record.get("task", {}).get("name") == Unchanged.name
    line.status = "unchanged" if same else "restored"
    line.said = told if same else f"{outcome.seconds:.1f} s" + (f": {told}" if told else "")
    line.before, line.after = picture_of(line.path, SIDE), picture_of(outcome.path, SIDE)


def _ended(work: Work, *, stopped: bool) -> str:
    done = sum(line.status == "restored" for line in work.lines)
    same = sum(line.status == "unchanged" for line in work.lines)
    lost = sum(line.status == "failed" for line in work.lines)
    others = (f", {same} had nothing to restore" if same else "") + (f", {lost} could not be" if lost else "")
    return bar(1, f"{'Stopped: ' if stopped else ''}{done} of {len(work.lines)} restored{others}")


def _packed(work: Work, path: Path) -> Path | None:
    """Write restorations, records and a list of failures into a zip file; return None if nothing was restored."""
    files = sorted(each for each in work.out.iterdir() if each.is_file())
    if not files:
        return None
    with zipfile.ZipFile(path, "w") as packed:
        for each in files:
            if each.suffix == ".json":
                record = without_folders(json.loads(each.read_text(encoding="utf-8")))
                packed.writestr(each.name, json.dumps(record, indent=2) + "\n", zipfile.ZIP_DEFLATED)
            else:
                packed.write(each, each.name)
        lost = "".join(f"{line.name}: {line.said}\n" for line in work.lines if line.status == "failed")
        if lost:
            packed.writestr("failed.txt", lost)
    return path


def _table(lines: Sequence[Line]) -> str:
    body = "".join(
        f"<tr class='iv-row-{line.status}'>"
        f"<td>{_picture(line.before, 'Before')}</td><td>{_picture(line.after, 'After')}</td>"
        f"<th scope=row>{html.escape(line.name)}</th><td>{line.status}</td><td>{html.escape(line.said)}</td></tr>"
        for line in lines
    )
    head = "".join(f"<th scope=col>{name}</th>" for name in ("Before", "After", "File", "State", ""))
    return f'<div class="iv-scroll"><table class="iv-table iv-batch"><tr>{head}</tr>{body}</table></div>'


def _picture(source: str, name: str) -> str:
    return f'<img src="{source}" alt="{name}" loading="lazy">' if source else ""
