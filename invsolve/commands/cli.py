"""The command `invsolve`. A subcommand is imported only when it is used, so that help and errors appear at once."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO, cast

from invsolve.commands.terminal import Formatter, Printable, one_line, printable

__all__ = ["COMMANDS", "main", "parser_with"]

COMMANDS = {
    "restore": ("invsolve.commands.restore", "restore degraded photographs"),
    "bench": ("invsolve.commands.bench", "run benchmark suites and make their leaderboard"),
    "priors": ("invsolve.commands.priors", "list, show, check, fetch, convert and push priors"),
    "doctor": ("invsolve.commands.doctor", "check a prior on this machine: weights, memory, time, settings"),
    "check": ("invsolve.commands.check", "check your own operator, solver, prior or cost"),
    "new": ("invsolve.commands.new", "write a package for an operator, solver, prior or cost"),
    "guide": ("invsolve.commands.guide", "draw samples guided by a class or a reward"),
    "train": ("invsolve.commands.train", "train a prior or another small network from your own images"),
    "tune": ("invsolve.commands.tune", "find a solver's settings on tuning images"),
    "calibrate": ("invsolve.commands.calibrate", "measure how wide intervals must be"),
    "completion": ("invsolve.commands.completion", "write the script that completes these commands in a shell"),
    "app": ("invsolve.commands.app", "restore photographs in the browser"),
}
"""Subcommands: the module whose `add_parser(subparsers)` adds it and sets `run(args) -> int`, and a line of help."""

FOLLOW = ("restore", "guide", "doctor", "app")
"""Commands whose number of threads depends on the load of the machine; a resumed run keeps a fixed number."""


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"invsolve: {printable(message)}; see {self.prog} --help\n")


class _Version(argparse.Action):
    """Print the version. It is looked up only here, since that takes a quarter of the time of a command's help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from invsolve import __version__

        print(f"invsolve {__version__}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: the subcommand's, 2 for an input error, 130 if interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with contextlib.redirect_stdout(cast("TextIO", Printable(sys.stdout))):
            return _run(words)
    except KeyboardInterrupt:
        print("invsolve: interrupted", file=sys.stderr)
        return 130


def _run(words: list[str]) -> int:
    command = next((word for word in words if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS and words[0] == command:
        from invsolve.core.checks import nearest

        print(one_line(f"invsolve: unknown command {command!r}; {nearest(command, COMMANDS)}"), file=sys.stderr)
        return 2
    if command is None:
        parser_with().parse_args(words)
        parser_with().print_help()
        return 0
    from invsolve.core.checks import InvsolveError, enough_memory
    from invsolve.execution.threads import arrange

    try:
        with enough_memory():
            args = parser_with(command).parse_args(words)
            _log_to_stderr()
            args.words = words
            goes_on = getattr(args, "checkpoint", None) is not None or getattr(args, "skip_existing", False)
            arrange(os.environ, follow=command in FOLLOW and not goes_on)
            return args.run(args)
    except InvsolveError as error:
        print(one_line(f"invsolve: {error}"), file=sys.stderr)
        return 2
    except BrokenPipeError:  # `invsolve priors list | head`: the reader closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the final flush does not fail
        return 0
    except OSError as error:  # an invalid file name, a full disk, an unreadable folder
        print(one_line(f"invsolve: {str(error.filename or '')[:200]}: {error.strerror or error}"), file=sys.stderr)
        return 2


def parser_with(*commands: str) -> argparse.ArgumentParser:
    """Return the parser of the whole command line, with the options of these commands only."""
    parser = _Parser(prog="invsolve", description="Imaging inverse problems solved with pretrained diffusion priors.")
    about = {"nargs": 0, "dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    parser.add_argument("--version", action=_Version, help="show program's version number and exit", **about)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (module, line) in COMMANDS.items():
        if name in commands:
            importlib.import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=line)
    return parser


class _ToStderr(logging.StreamHandler[Any]):
    """Write to the current `sys.stderr`, not to the one at the time of the first command."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        pass


def _log_to_stderr() -> None:
    """Print the library's warnings on standard error."""
    logger = logging.getLogger("invsolve")
    if not logger.handlers:
        handler = _ToStderr()
        handler.setFormatter(Formatter("invsolve: warning: %(message)s"))
        handler.setLevel(logging.WARNING)
        logger.addHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
