"""Fields of the page, made from the dataclasses of options that the command line is made from."""

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
"""The order of the tasks; others that are installed follow."""

LEFT_OUT = ("custom", "demosaic", "nonlinear-deblur")
"""Tasks for the command line alone: their options name code to be run, or the weights of another network, or they are
of raw files, which browsers do not show."""


@dataclass(frozen=True)
class Field:
    """An option and the component that shows it; of a task, or of all where that is ""."""

    task: str
    option: Option
    component: Any

    def read(self, value: Any) -> Any:
        """The option's value, None where nothing was said."""
        if value is None or str(value).strip() in ("", str(self.option.default)):
            return None
        if self.option.is_file:
            return Path(value)
        return _number(self.option, str(value)) if _is_number(self.option) else value


def offered_tasks() -> list[str]:
    """Names of the tasks of the page."""
    known = [name for name in TASKS if name not in LEFT_OUT]
    return [*(name for name in FIRST if name in known), *(name for name in known if name not in FIRST)]


def task_fields(task: str) -> list[Field]:
    """The fields of a task, in the layout that is being made."""
    return [Field(task, each, _component(each)) for each in options_of(TASKS[task].option_type()).values()]


def common_fields(names: Sequence[str]) -> list[Field]:
    """The fields of options of every task, in the layout that is being made."""
    known = options_of(Options)
    return [Field("", known[name], _component(known[name])) for name in names]


def values_of(fields: Sequence[Field], values: Sequence[Any], task: str) -> dict[str, Any]:
    """The options that a visitor gave, of those that belong to the task.

    Raises:
        InputError: one that has to be given is missing.
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
    """What was typed, as the option's number or word.

    Raises:
        InputError: it is neither.
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
    """A component for an option; its name in words, and the line of help of the command below it."""
    told = {"label": title(each.name), "interactive": True}
    default = None if each.default is MISSING else each.default
    if each.is_file:
        return gr.File(type="filepath", height=150, file_count="single", **told)
    told["info"] = explained(each)
    if bool in each.kinds:
        return gr.Checkbox(value=bool(default), **told)
    if _is_number(each):  # a number of Gradio's shows and sends 0 where nothing was said
        text = str(default) if isinstance(default, int | float) else ""
        return gr.Textbox(value=text, placeholder="automatic" if default == "auto" else "not set", **told)
    if each.words:
        return gr.Dropdown(list(each.words), value=default, **told)
    return gr.Textbox(value=default, **told)
