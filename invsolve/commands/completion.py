"""The command `invsolve completion`: a shell script that completes commands, options, names and files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from invsolve.core.checks import require

__all__ = ["add_parser"]

SHELLS = ("bash", "zsh", "fish")

EXAMPLES = """examples:
  eval "$(invsolve completion bash)"                                  # in ~/.bashrc
  eval "$(invsolve completion zsh)"                                   # in ~/.zshrc, after compinit
  invsolve completion fish > ~/.config/fish/completions/invsolve.fish
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the subcommand `completion`; the default `run` of its parser takes the parsed arguments."""
    parser = subparsers.add_parser(
        "completion",
        help="write the script that completes these commands in a shell",
        description="Write a script that lets a shell complete commands, options, files, and the names of tasks, "
        "solvers and priors. It includes what installed plug-ins add, so write it again when the plug-ins change.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=run_command)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Print the script."""
    require("shtab", "completion")
    import shtab

    from invsolve.commands.cli import COMMANDS, parser_with

    parser = parser_with(*COMMANDS)
    for action in _actions(parser):
        _complete(action, shtab.FILE, shtab.DIRECTORY)
    sys.stdout.write(shtab.complete(parser, args.shell) + "\n")
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)


def _complete(action: Any, file: Any, folder: Any) -> None:
    """Set the completion of values that the parser does not know: names of parts, files, folders."""
    from invsolve.priors import PRIORS
    from invsolve.restoration.settings import QUALITIES
    from invsolve.solvers import SOLVERS
    from invsolve.tasks import TASKS

    names = {"task": TASKS, "solver": SOLVERS, "prior": PRIORS, "quality": QUALITIES}
    if action.nargs == 0 or action.choices is not None:
        return
    if action.dest in names:
        action.choices = list(names[action.dest])
    elif action.metavar == "DIR":
        action.complete = folder
    elif action.type is Path or action.metavar in ("FILE", "IMAGE", "PATH"):
        action.complete = file
