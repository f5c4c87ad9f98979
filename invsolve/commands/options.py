"""Arguments of commands, made from the dataclasses that they fill; see `invsolve.core.options`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_args, get_origin

from invsolve.core.options import Option, options_of
from invsolve.core.settings import read_setting

__all__ = ["add_options", "add_set", "add_task_options", "given", "read_settings"]


def add_options(
    parser: Any, kind: type, names: Iterable[str] | None = None, *, owner: str = "", **defaults: Any
) -> None:
    """Add the options of a dataclass to a parser or a group of one; what the user leaves away is left away.

    Args:
        parser: it, or a group of it.
        kind: the dataclass.
        names: of the options, in their order; all of them if not given.
        owner: stands before the help, as in "superres: how many times larger".
        defaults: other defaults than those of the dataclass, which `given` then returns.
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
    """Add the options of every task once; `type_of` gives a task's dataclass of them."""
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
    """Add `--set`, which may be given many times."""
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar=metavar, help=help)


def read_settings(texts: Sequence[str], example: str, form: str = "NAME=VALUE", flag: str = "--set") -> dict[str, Any]:
    """The settings that `--set`, or another flag of its kind, gives; see `read_setting`."""
    return dict(read_setting(text, example, form, flag) for text in texts)


def given(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The options that the user (or a default of the command) gave, of those with these names."""
    told: Mapping[str, Any] = vars(args)
    return {name: told[name] for name in names if name in told}


def _help(each: Option, default: Any, owner: str) -> str:
    text = f"{owner}: {each.help}" if owner else each.help
    silent = default is MISSING or default is None or default is False or "(default" in text
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
        silent = silent or not default
    if isinstance(default, float):
        default = f"{default:g}"
    # argparse formats help with %
    return (text if silent else f"{text} (default {default})").replace("%", "%%")


def _values(each: Option) -> dict[str, Any]:
    """How the words of the command line become values."""
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
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas, got {text!r}") from None


class _Tuple(argparse.Action):
    """Several words as a tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, tuple(values))
