"""The command `invsolve bench sweep`."""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from invsolve.commands.options import add_set, add_task_options, check_least, given_task_options, read_settings
from invsolve.commands.units import HOME, Bar, add_workers, executor_of
from invsolve.core.checks import InputError
from invsolve.core.options import options_of
from invsolve.core.settings import read_setting
from invsolve.tasks import TASKS

__all__ = ["add_sweep", "read_grid"]

EXAMPLE = "weight=0,1,50"


def add_sweep(actions: argparse._SubParsersAction[Any]) -> None:
    """Add `sweep` to the actions of `bench`."""
    line = "run a solver over a grid of its settings; writes a table and a figure"
    parser = actions.add_parser(
        "sweep",
        help=line,
        description="Run a solver over a grid of its settings, and write a table and a figure. Finished units are "
        "kept: the same command continues a stopped sweep, and a larger grid adds to it.",
    )
    add = parser.add_argument
    add("--solver", default="ndtm", metavar="NAME", help="default ndtm")
    add("--task", default="superres", choices=list(TASKS), help="default superres")
    add_set(parser, f"for example {EXAMPLE}; can be given several times", "NAME=A,B,C")
    add("--alone", action="store_true", help="change one setting at a time, instead of all combinations")
    add("--preset", default="restore", metavar="NAME", help="other settings: restore (default), default or a preset")
    add("--noise", type=float, metavar="S", help="standard deviation in [0, 1] (default: the task's own)")
    add("--prior", default="natural", metavar="NAME", help="default natural")
    add("--prior-option", action="append", default=[], dest="prior_options", metavar="NAME=VALUE", help="of its loader")
    add("--data", metavar="PATH", help="folder or list of images (default: those in the package)")
    add("--items", type=int, default=0, metavar="N", help="only the first N images")
    add("--size", type=int, default=96, help="side of the central square to use; 0: whole images (default 96)")
    add("--samples", type=int, default=1, metavar="N", help="posterior samples of a unit (default 1)")
    add("--seeds", type=int, default=1, metavar="N", help="measurements of an image (default 1)")
    add(
        "--metrics",
        nargs="+",
        default=["psnr", "ssim", "misfit"],
        metavar="NAME",
        help="metrics; the figure shows the first",
    )
    add("--control", action="store_true", help="also draw NDTM's control along the first image, at every point")
    add("--store", type=Path, metavar="DIR", help="folder of the results (default runs/bench/sweep-SOLVER-TASK)")
    add_workers(parser)
    add_task_options(parser, lambda task: task.suite_type())
    parser.set_defaults(run=run_sweep)


def read_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read {setting: values} from "NAME=A,B,C"; values are parsed as TOML, and bare words are strings."""
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise InputError(f"--set takes NAME=A,B,C, for example {EXAMPLE}, got {text!r}")
        if name in grid:
            raise InputError(f"--set {name} is given twice: give all its values at once")
        try:
            grid[name] = tomllib.loads(f"values = [{values}]")["values"]
        except tomllib.TOMLDecodeError:
            grid[name] = [read_setting(f"{name}={value}", EXAMPLE)[1] for value in values.split(",")]
    return grid


def run_sweep(args: argparse.Namespace) -> int:
    """Compute and score missing units, and write the table and the figure."""
    from invsolve.bench.runner import run
    from invsolve.bench.scoring import score
    from invsolve.bench.store import Store
    from invsolve.bench.sweep import control_images, sweep_figure, sweep_table

    if find_spec("matplotlib") is None:
        raise InputError("the figure needs matplotlib: pip install 'invsolve[bench]'")
    check_least(args, seeds=1)
    grid = read_grid(args.settings)
    suite = _suite(args, grid)
    folder, began = args.store or HOME / suite.name, time.monotonic()
    with Store.writing(folder) as store, Bar() as bar:
        count = run(suite, store, executor_of(args, suite.threads), retry=args.retry, report=bar.unit)
        score(store, report=bar.score)
        text = sweep_table(store, grid, alone=args.alone)
        (folder / "sweep.md").write_text(text, encoding="utf-8")
        if any(len(values) > 1 for values in grid.values()):
            sweep_figure(store, grid, folder / "sweep.png", alone=args.alone)
        if args.control:
            control_images(store, suite, folder)
    sys.stdout.write(f"{text}\n{count} units in {time.monotonic() - began:.0f} s -> {folder}\n")
    return 0


def _suite(args: argparse.Namespace, grid: dict[str, list[Any]]) -> Any:
    from invsolve.bench.sweep import sweep_suite

    own = options_of(TASKS[args.task].suite_type())
    told = given_task_options(args)
    for name in told:
        if name not in own:
            raise InputError(f"the task {args.task} has no option --{name.replace('_', '-')}")
    noise = TASKS[args.task].simulated_noise if args.noise is None else args.noise
    task = {"kind": args.task, "noise": noise, **{k: str(v) if isinstance(v, Path) else v for k, v in told.items()}}
    data: dict[str, Any] = {"kind": "packaged", "items": args.items, "size": args.size}
    if args.data is not None:
        path = Path(args.data)
        data |= {"kind": "list" if path.is_file() else "folder", "path": str(path.resolve())}
    options = read_settings(args.prior_options, "size=256", flag="--prior-option")
    prior = {"name": args.prior, "options": options}
    preset = f"published:{args.preset}" if "/" in args.preset and ":" not in args.preset else args.preset
    run = {"seeds": list(range(args.seeds)), "samples": args.samples, "metrics": args.metrics}
    return sweep_suite(args.solver, grid, task, data=data, prior=prior, run=run, preset=preset, alone=args.alone)
