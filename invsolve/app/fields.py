"""Form fields of the page, made from the same options dataclasses as the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from invsolve.app.words import explained, title
from invsolve.core.checks import InputError
from invsolve.core.options import Option, options_of
from invsolve.restoration.options import Options
from invsolve.tasks import TASKS

__all__ = ["Field", "common_fields", "offered_tasks", "task_fields", "values_of"]

FIRST = ("auto", "denoise", "blind-deblur", "deblur", "superres", "inpaint", "jpeg")
"""The tasks that are shown first, in this order; other installed tasks follow."""

LEFT_OUT = ("custom", "demosaic", "nonlinear-deblur")
"""Tasks that are only on the command line: their options name code to run or the weights of another network, or they
work on raw files, which browsers cannot show."""


@dataclass(frozen=True)
class Field:
    """An option and its component; `task` is "" for an option of all tasks."""

    task: str
    option: Option
    component: Any

    def read(self, value: Any) -> Any:
        """Return the value of the option; None if it was not given."""
        if value is None or str(value).strip() in ("", str(self.option.default)):
            return None
        if self.option.is_file:
            return Path(value)
        return _number(self.option, str(value)) if _is_number(self.option) else value


def offered_tasks() -> list[str]:
    """Return the names of the tasks of the page."""
    known = [name for name in TASKS if name not in LEFT_OUT]
    return [*(name for name in FIRST if name in known), *(name for name in known if name not in FIRST)]


def task_fields(task: str) -> list[Field]:
    """Create the fields of a task in the current layout."""
    return [Field(task, each, _component(each)) for each in options_of(TASKS[task].option_type()).values()]


def common_fields(names: Sequence[str]) -> list[Field]:
    """Create the fields of common options in the current layout."""
    known = options_of(Options)
    return [Field("", known[name], _component(known[name])) for name in names]


def values_of(fields: Sequence[Field], values: Sequence[Any], task: str) -> dict[str, Any]:
    """Return the given options that belong to the task.

    Raises:
        InputError: if a required option is missing.
    """
    told = {}
    for field, value in zip(fields, values, strict=True):
        if field.task not in ("", task):
            continue
        read = field.read(value)
        if read is not None:
            told[field.option.name] = read
        elif field.option.default is MISSING and value is None:
            raise InputError(f"{title(field.option.name)} is needed: {field.option.help}")
    return told


def _is_number(each: Option) -> bool:
    return int in each.kinds or float in each.kinds


def _number(each: Option, text: str) -> Any:
    """Convert typed text to a number or an allowed word of the option.

    Raises:
        InputError: if it is neither.
    """
    kind, text = float if float in each.kinds else int, text.strip()
    if text in each.words:
        return text
    try:
        return kind(text)
    except ValueError:
        what = "a number" if kind is float else "a whole number"
        raise InputError(f"{title(each.name)}: {what} is expected, got {text[:40]!r}") from None


def _component(each: Option) -> Any:
    """Create a component for an option, labelled with its title and a line of help."""
    told = {"label": title(each.name), "interactive": True}
    default = None if each.default is MISSING else each.default
    if each.is_file:
        return gr.File(type="filepath", height=150, file_count="single", **told)
    told["info"] = explained(each)
    if bool in each.kinds:
        return gr.Checkbox(value=bool(default), **told)
    if _is_number(each):  # gr.Number shows and sends 0 for an empty field
        text = str(default) if isinstance(default, int | float) else ""
        return gr.Textbox(value=text, placeholder="automatic" if default == "auto" else "not set", **told)
    if each.words:
        return gr.Dropdown(list(each.words), value=default, **told)
    return gr.Textbox(value=default, **told)
