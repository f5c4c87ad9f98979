"""Shared code of commands that compute units of a suite: workers and progress."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from invsolve.commands.options import check_least
from invsolve.commands.terminal import one_line
from invsolve.execution.threads import usable

__all__ = ["HOME", "Bar", "add_workers", "executor_of"]

HOME = Path("runs") / "bench"
"""The folder of all results."""


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options for the workers that compute units."""
    add = parser.add_argument
    add("--workers", type=int, metavar="N", help="worker processes (default: one per processor; 1 with a GPU)")
    add("--ray", metavar="ADDRESS", help="run on a Ray cluster: auto, HOST:PORT, or local")
    add("--gpus", type=float, default=0.0, metavar="N", help="with --ray: GPUs of each worker (default 0)")
    add("--retry", action="store_true", help="run failed units again")


def executor_of(args: argparse.Namespace, threads: int) -> Any:
    """Return the executor chosen by the options of `add_workers`; None for this process.

    Args:
        args: the parsed arguments.
        threads: threads of each unit.

    Raises:
        InputError: if there is fewer than one worker.
    """
    import torch

    check_least(args, workers=1)
    if args.ray is not None:
        from invsolve.bench.execute import execute
        from invsolve.execution.ray import RayExecutor

        return RayExecutor(execute, args.ray, args.workers or 0, threads, args.gpus)
    count = args.workers or (1 if torch.cuda.is_available() else max(1, usable() // threads))
    if count == 1:
        return None
    from invsolve.bench.execute import execute
    from invsolve.execution.workers import Workers

    return Workers(execute, count, threads)


class Bar:
    """Progress on standard error: a bar on a terminal, otherwise one line per minute."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __enter__(self) -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        console = Console(stderr=True)
        self._terminal = console.is_terminal
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), Remaining())
        self._bar = Progress(
            *columns, TextColumn("{task.description}", markup=False), console=console, disable=not self._terminal
        )
        self._bar.__enter__()
        self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(self, *parts: Any) -> None:
        self._bar.__exit__(*parts)

    def unit(self, progress: Any) -> None:
        """Show the progress after a unit."""
        unit = progress.unit
        words = f"{unit.task} / {unit.solver} / {unit.item}: {progress.status}"
        self._tell(progress.done, progress.total, words)

    def score(self, done: int, total: int) -> None:
        """Show the progress after scoring a unit."""
        self._tell(done, total, "scored")

    def _tell(self, done: int, total: int, words: str) -> None:
        words = one_line(words)
        self._bar.update(self._task, completed=done, total=total, description=words)
        if not self._terminal and (done == total or time.monotonic() - self._last > 60):
            self._last = time.monotonic()
            sys.stderr.write(f"invsolve: {done} of {total} units; {words}\n")
