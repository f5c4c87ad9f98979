"""The form about an image: the kind of damage, and the options of that task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from invsolve.app.events import QUICK
from invsolve.app.fields import Field, common_fields, offered_tasks, task_fields, values_of
from invsolve.app.masks import paintable, painted_mask, painter
from invsolve.app.running import Engine
from invsolve.app.words import title
from invsolve.core.checks import InvsolveError
from invsolve.restoration.settings import QUALITIES
from invsolve.restoration.sources import cut

__all__ = ["Damage", "named", "step"]


def step(number: int, text: str) -> gr.HTML:
    """Add a numbered heading."""
    return gr.HTML(f'<h2 class="iv-step"><span>{number}</span>{text}</h2>', padding=False)


class Damage:
    """Form components for the damage: the task, its options and the common options.

    Args:
        name: prefix of the component ids.
        first: the task selected at the start.
        painter: whether a mask can be painted.
        common: names of the common options to show.
        qualities: whether to show the quality.
    """

    def __init__(
        self, name: str, *, first: str = "auto", painter: bool = False, common: Sequence[str], qualities: bool = True
    ) -> None:
        self._name, self._painter, self._first = name, painter, first
        self._common, self._qualities = common, qualities
        self.fields: list[Field] = []
        self.groups: dict[str, Any] = {}
        self.painter: Any = None
        self.quality: Any = None

    def build(self) -> None:
        """Create the components for the task and its options, in the current layout."""
        names = [(title(name), name) for name in offered_tasks()]
        self.task = gr.Radio(
            names, value=self._first, show_label=False, label="What is wrong with it?", elem_id=f"{self._name}-task",
            elem_classes="iv-task",
        )  # fmt: skip
        for name in offered_tasks():
            with gr.Column(visible=name == self._first, elem_classes="iv-options") as self.groups[name]:
                if name == "inpaint" and self._painter:
                    self._paint()
                self.fields += task_fields(name)
        self.task.change(
            lambda task: [gr.update(visible=name == task) for name in self.groups], self.task,
            list(self.groups.values()), **QUICK,
        )  # fmt: skip

    def build_common(self) -> None:
        """Create the component for the quality and, in an accordion, those for the common options."""
        if self._qualities:
            words = [(name.capitalize(), name) for name in QUALITIES]
            self.quality = gr.Radio(words, value="balanced", label="Quality", info="Better takes longer")
        with gr.Accordion("More settings", open=False):
            self.fields += common_fields(self._common)

    def _paint(self) -> None:
        gr.HTML(
            '<p class="iv-hint">Mark what is to be filled in, with a brush or as boxes. What is transparent in the '
            "image is filled in, too.</p>",
            padding=False,
        )
        self.painter = painter(f"{self._name}-mask")

    def show_under_brush(self, image: Any, engine: Engine) -> None:
        """Show the image of a component in the painter, if the page accepts it."""

        def shown(task: str, path: str | None) -> Any:
            if task != "inpaint":
                return gr.skip()
            try:
                if path is not None:
                    engine.check_size(Path(path))
                return None if path is None else paintable(Path(path))
            except InvsolveError:  # reported when the visitor starts the restoration
                return None

        for trigger in (self.task.change, image.change):
            trigger(shown, [self.task, image], self.painter, **QUICK)

    @staticmethod
    def painted(shapes: Any, task: str, told: dict[str, Any], path: Path, folder: Path) -> Path | None:
        """Write the painted mask into `folder` and add it to the options of inpainting; return None without a mask."""
        if task != "inpaint" or "mask" in told:
            return None
        mask = painted_mask(shapes, path, folder / f"{cut(path.stem, 80)}-mask.png")
        if mask is not None:
            told["mask"] = mask
        return mask

    @property
    def components(self) -> list[Any]:
        """The inputs of an event handler, in the order in which `told` expects their values."""
        asked = [self.task] if self.quality is None else [self.task, self.quality]
        return [*asked, *(field.component for field in self.fields)]

    def component(self, task: str, option: str) -> Any:
        """Return the component of an option."""
        return next(f.component for f in self.fields if (f.task, f.option.name) == (task, option))

    def told(self, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
        """Return the task and the given options, from the values of `components`.

        Raises:
            InputError: if a required option is missing, or a value is not a number.
        """
        task, rest = values[0], values[1:]
        chosen: dict[str, Any] = {}
        if self.quality is not None:
            if rest[0] != "balanced":
                chosen["quality"] = rest[0]
            rest = rest[1:]
        return task, values_of(self.fields, rest, task) | chosen


def named(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with file names instead of paths, for a command that is run in the folder of the files."""
    return {name: value.name if isinstance(value, Path) else value for name, value in told.items()}
