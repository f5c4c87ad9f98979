"""Command-line arguments, made from the dataclasses of their options; see `invsolve.core.options`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_args, get_origin

from invsolve.core.checks import InputError
from invsolve.core.options import Option, options_of
from invsolve.core.settings import read_setting

__all__ = [
    "add_options", "add_set", "add_task_options", "check_least", "given", "given_task_options", "read_settings",
]  # fmt: skip


def add_options(
    parser: Any, kind: type, names: Iterable[str] | None = None, *, owner: str = "", **defaults: Any
) -> None:
    """Add the options of a dataclass to a parser; options that the user omits are missing from the parsed arguments.

    Args:
        parser: a parser or an argument group.
        kind: the dataclass.
        names: names of the options, in their order; all options if not given.
        owner: prefix of the help text, as in "superres: how many times larger".
        defaults: defaults that replace those of the dataclass; `given` returns them even if the user omits the option.
    """
    known, groups = options_of(kind), {}
    for name in known if names is None else names:
        each = known[name]
        target = parser
        if each.exclusive is not None:
            if each.exclusive not in groups:
                groups[each.exclusive] = parser.add_mutually_exclusive_group()
            target = groups[each.exclusive]
        default = defaults.get(name, each.default)
        flag = each.flag or f"--{name.replace('_', '-')}"
        words: dict[str, Any] = {"dest": name, "default": defaults.get(name, argparse.SUPPRESS)}
        words["help"] = _help(each, default, owner)
        if bool in each.kinds:
            target.add_argument(flag, action="store_true", **words)
            continue
        words |= _values(each)
        target.add_argument(flag, required=default is MISSING, metavar=each.metavar, **words)


def add_task_options(parser: argparse.ArgumentParser, type_of: Callable[[Any], type]) -> None:
    """Add the options of every task once; `type_of` returns the options dataclass of a task."""
    from invsolve.tasks import TASKS

    owners: dict[str, list[str]] = {}
    kinds = {name: type_of(TASKS[name]) for name in TASKS}
    for name, kind in kinds.items():
        for each in options_of(kind):
            owners.setdefault(each, []).append(name)
    group = parser.add_argument_group("options of tasks")
    for each, names in owners.items():
        add_options(group, kinds[names[0]], [each], owner=", ".join(names))


def add_set(parser: argparse.ArgumentParser, help: str, metavar: str = "NAME=VALUE") -> None:
    """Add `--set`, which can be repeated."""
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar=metavar, help=help)


def read_settings(texts: Sequence[str], example: str, form: str = "NAME=VALUE", flag: str = "--set") -> dict[str, Any]:
    """Read the settings given by `--set` or a similar flag; see `read_setting`."""
    return dict(read_setting(text, example, form, flag) for text in texts)


def given(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return the options among `names` that were given by the user or by a default of the command."""
    told: Mapping[str, Any] = vars(args)
    return {name: told[name] for name in names if name in told}


def given_task_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the suite options of tasks that were given by the user."""
    from invsolve.tasks import TASKS

    return given(args, [name for task in TASKS for name in options_of(TASKS[task].suite_type())])


def check_least(args: argparse.Namespace, **least: int) -> None:
    """Raise `InputError` if a number is below its least value; an option that was not given passes."""
    for name, low in least.items():
        if (value := getattr(args, name)) is not None and value < low:
            raise InputError(f"--{name.replace('_', '-')} must be at least {low}, got {value}")


def _help(each: Option, default: Any, owner: str) -> str:
    text = f"{owner}: {each.help}" if owner else each.help
    silent = default is MISSING or default is None or default is False or "(default" in text
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
        silent = silent or not default
    if isinstance(default, float):
        default = f"{default:g}"
    # argparse applies % formatting to help texts
    return (text if silent else f"{text} (default {default})").replace("%", "%%")


def _values(each: Option) -> dict[str, Any]:
    """Return the arguments of `add_argument` that convert words of the command line to values."""
    for kind in each.kinds:
        if get_origin(kind) is tuple:
            inner = get_args(kind)[0]
            return {"nargs": "*", "action": _Tuple} if inner is str else {"type": _numbers}
    if Path in each.kinds:
        return {"type": Path}
    numbers = [kind for kind in each.kinds if kind in (int, float)]
    if each.words:
        return {"type": _word_or(each, numbers[0] if numbers else None)}
    return {"type": numbers[0] if numbers and str not in each.kinds else str}


def _word_or(each: Option, number: type | None) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text in each.words:
            return text
        try:
            return number(text) if number is not None else _none(text)
        except ValueError:
            expected = ", ".join(map(str, each.words)) + ("" if number is None else " or a number")
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}") from None

    return read


def _none(text: str) -> Any:
    raise ValueError(text)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected comma-separated whole numbers, got {text!r}") from None


class _Tuple(argparse.Action):
    """Store several words as a tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, tuple(values))
