"""The command `invsolve app`."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from invsolve.app.limits import Limits
from invsolve.commands.options import add_options, given
from invsolve.commands.units import HOME
from invsolve.core.checks import CapabilityError, InputError
from invsolve.core.lazy import uncollected_imports
from invsolve.core.options import options_of
from invsolve.restoration.options import Options

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the subcommand `app`; the default `run` of its parser takes the parsed arguments."""
    parser = subparsers.add_parser(
        "app",
        help="restore photographs in the browser",
        description="Serve a page that restores photographs. By default only this machine can open it, and "
        "it contacts no other machine.",
    )
    add = parser.add_argument
    add("--port", type=int, default=7860, metavar="N", help="port of the page (default 7860)")
    add(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 for all machines (default 127.0.0.1)",
    )
    add("--share", choices=("never",), default="never", help="the page is never shared through third-party servers")
    add_options(parser, Limits)
    add(
        "--store", type=Path, action="append", default=[], metavar="DIR",
        help="results for the leaderboard tab (default: all in runs/bench)",
    )  # fmt: skip
    add_options(parser, Options, ("prior", "device"), prior="natural", device="auto")
    parser.set_defaults(run=run_command)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Serve the page until interrupted."""
    if not 1 <= args.port <= 65535:
        raise InputError(f"--port must be from 1 to 65535, got {args.port}")
    limits = Limits(**given(args, options_of(Limits)))
    options = Options(prior=args.prior, device=args.device)
    if importlib.util.find_spec("gradio") is None:
        raise CapabilityError("the page needs Gradio: pip install 'invsolve[app]'")
    if options != Options(prior="natural"):  # the default is always valid: skip the second that importing torch takes
        from invsolve.restoration.prepare import check_options

        check_options(options)
    with uncollected_imports(), without_stubs():
        from invsolve.app.leaderboard_tab import named_stores
        from invsolve.app.page import served

    stores = named_stores(args.store, HOME)
    told = {name: getattr(args, name) for name in ("prior", "device", "host", "port")}
    with served(**told, limits=limits, stores=stores) as address:
        sys.stdout.write(f"{address}\nCtrl-C stops the page and deletes its files\n")
        sys.stdout.flush()
        _until_stopped()
    return 0


@contextmanager
def without_stubs() -> Iterator[None]:
    """Import Gradio without the stub files that it checks against the source of each component at every import.

    The stubs are for editors, and the check takes as long as the rest of the import. Gradio skips components whose
    source file is unknown.
    """
    file_of = inspect.getfile

    def getfile(of: Any) -> str:
        if type(of).__name__ == "ComponentMeta":
            raise OSError
        return file_of(of)

    inspect.getfile = getfile
    try:
        yield
    finally:
        inspect.getfile = file_of


def _until_stopped() -> None:
    """Wait for Ctrl-C or SIGTERM, also if a shell that started the command in the background ignores SIGINT."""
    stopped = threading.Event()
    before = {kind: signal.signal(kind, lambda *_: stopped.set()) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not stopped.wait(1.0):
            pass
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
