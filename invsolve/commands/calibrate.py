"""The command `invsolve calibrate`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.commands.options import (
    add_options,
    add_set,
    add_task_options,
    check_least,
    given_task_options,
    read_settings,
)
from invsolve.core.checks import InputError
from invsolve.core.options import options_of
from invsolve.io import check_target
from invsolve.restoration.options import Options
from invsolve.solvers import SOLVERS
from invsolve.tasks import TASKS

if TYPE_CHECKING:
    from invsolve.bench.suite import TaskSpec
    from invsolve.restoration.calibration import Cell

__all__ = ["add_parser"]

EXAMPLES = """examples:
  invsolve calibrate --images PHOTOS --task superres --factor 4 --noise 0.01 -o x4.json
  invsolve calibrate --images PHOTOS --prior mine.pt --solver diffpir --task deblur --std 2 --noise 0.02 -o mine.json
  invsolve calibrate --images PHOTOS --task blind-deblur --size 192 -o blind.json
  invsolve calibrate --images PHOTOS --solver ddrm --independent --task superres --factor 4 --noise 0.01 -o ddrm.json
  invsolve restore small.png --task superres --samples 6 --calibration x4.json
"""

COMMON = {"prior": "natural", "device": "auto", "precision": "auto", "seed": 0}


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the subcommand `calibrate`; the default `run` of its parser takes the parsed arguments."""
    parser = subparsers.add_parser(
        "calibrate",
        help="measure how wide intervals must be",
        description="Degrade and restore clean photographs, and measure how wide the intervals of a prior and a solver "
        "have to be. Pass the resulting file to restore --calibration.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="photographs, never those of a benchmark")
    add("--task", nargs="+", default=[], metavar="NAME", help="tasks to calibrate (default: the standard table)")
    add("--noise", nargs="+", type=float, metavar="LEVEL", help="noise levels (default: those of the standard table)")
    add("--samples", type=int, default=6, metavar="N", help="posterior samples of each image (default 6)")
    add("--solver", metavar="NAME", help="sampler (default: the best for the task)")
    add_set(parser, "a setting of the solver")
    add("--independent", action="store_true", help="independent samples, for suites (bench run --calibration)")
    add("--crops", type=int, default=24, help="images, one crop each (default 24)")
    add("--size", type=int, default=64, help="side of a crop in pixels (default 64)")
    add_options(parser, Options, ("prior", "device", "precision", "seed"), **COMMON)
    add(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="calibration file (.json) to write, or to continue",
    )
    add("--figure", type=Path, metavar="FILE", help="figure of the coverage to write (.png, .svg or .pdf)")
    add(
        "--overwrite",
        action="store_true",
        help="replace a figure that exists; the calibration file is always continued",
    )
    add_task_options(parser, lambda task: task.suite_type())
    parser.set_defaults(run=run_command)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Measure every degradation, write the table, and print it."""
    for file, endings in ((args.out, (".json",)), (args.figure, (".png", ".svg", ".pdf"))):
        if file is not None and (file.suffix not in endings or not file.absolute().parent.is_dir()):
            raise InputError(f"{file} does not end in {' or '.join(endings)}, or its folder does not exist")
    if args.figure is not None:
        check_target(args.figure, overwrite=args.overwrite)
    check_least(args, samples=2, crops=2, size=16)
    for level in args.noise or ():
        if not 0 < level <= 1:
            raise InputError(f"--noise must be a standard deviation above 0 and at most 1, got {level}")
    if args.solver is None and args.settings:
        raise InputError("--set changes the settings of a named solver: give --solver")
    if args.solver is None and args.independent:
        raise InputError("--independent is for the rows of a suite, which name their solver: give --solver")
    if args.solver is not None:
        SOLVERS.check(args.solver)
    options = Options(prior=args.prior, device=args.device, precision=args.precision)
    for task in args.task:
        TASKS.check(task)

    from invsolve.restoration.loading import load_prior
    from invsolve.tune.calibrate import Setup, calibrate
    from invsolve.tune.images import detailed_crops

    specs = _specs(args)
    images = detailed_crops(args.images, args.crops, args.size)
    prior = load_prior(options)
    settings = read_settings(args.settings, "n_steps=20")
    setup = Setup(prior, args.prior, args.solver, settings, args.samples, args.seed, not args.independent)

    def report(cell: Cell) -> None:
        sys.stderr.write(f"{line_of(cell)}\n")

    table = calibrate(setup, specs, images, args.out, report)
    sys.stdout.write("\n".join([str(args.out), HEAD, *map(line_of, table.cells), ""]))
    if args.figure is not None:
        from invsolve.diagnostics.figures import coverage_figure

        coverage_figure({_label(cell): cell.measured["coverages"] for cell in table.cells}, args.figure, level=0.9)
        sys.stdout.write(f"{args.figure}\n")
    return 0


HEAD = (
    "90 % intervals, each image scored with the q of the other images: coverage (worst image), width, interval "
    "score, CRPS, AUSE"
)


def line_of(cell: Cell) -> str:
    """Format the measured values of a degradation as one line."""
    m = cell.measured
    return (
        f"{_label(cell)}: {m['coverage']:.3f} ({m['worst']:.2f}), {m['width']:.4f}, {m['interval_score']:.4f}, "
        f"{m['crps']:.5f}, {m['ause']:.3f}; promise for images kept on {m['images_kept']:.0%} of {cell.images}"
    )


def _label(cell: Cell) -> str:
    return f"{cell.measured.get('task', cell.kind)}, noise {cell.noise:g}"


def _specs(args: argparse.Namespace) -> Sequence[TaskSpec]:
    """Return the degradations: the named tasks with the given options, otherwise the standard ones.

    Raises:
        InputError: if a task or an option does not exist.
    """
    from invsolve.bench.suite import TaskSpec
    from invsolve.core.options import filled
    from invsolve.tasks.blind_deblur import BlindDeblur
    from invsolve.tune.calibrate import BLIND_NOISE, STANDARD

    told = given_task_options(args)
    specs, used = [], set()
    for task in args.task or dict.fromkeys(name for name, _, _ in STANDARD):
        kind = TASKS[task].suite_type()
        own = {name: value for name, value in told.items() if name in options_of(kind)}
        used |= set(own)
        if task == BlindDeblur.name:
            if own:
                raise InputError(f"{task} is calibrated with blurs of all kinds: omit --{min(own)}")
            specs += [TaskSpec(task, task, level) for level in args.noise or BLIND_NOISE]
            continue
        rows = [row[1:] for row in STANDARD if row[0] == task] or [((TASKS[task].simulated_noise,), ({},))]
        for levels, options in [(rows[0][0], (own,))] if own else rows:
            for each in options:
                filled(kind, each, task)
                specs += [TaskSpec(task, task, level, dict(each)) for level in args.noise or levels]
    for name in told:
        if name not in used:
            raise InputError(f"none of the tasks to calibrate has the option --{name.replace('_', '-')}")
    return [dataclasses.replace(spec, name=f"{spec.kind}{i}") for i, spec in enumerate(specs)]
