"""The command `invsolve tune`."""

from __future__ import annotations

import argparse
import logging
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from invsolve.commands.options import add_options, add_task_options, check_least, given_task_options
from invsolve.core.checks import InputError
from invsolve.restoration.options import Options
from invsolve.solvers import SOLVERS
from invsolve.tune.tasks import sections

__all__ = ["add_parser", "preset_text"]

logger = logging.getLogger(__name__)

MADE = "Made by: invsolve "
"""Start of the comment that says by which command a table was made."""

COMMON = {"prior": "natural", "device": "auto", "precision": "float32", "seed": 0}


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the subcommand `tune`; the default `run` of its parser takes the parsed arguments."""
    parser = subparsers.add_parser(
        "tune",
        help="find a solver's settings on tuning images",
        description="Find a solver's settings on tuning images, and write them as a preset table. Do not report "
        "results on these images.",
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="tuning images; never those of a benchmark")
    add("--solver", nargs="+", required=True, metavar="NAME", help="solvers to tune")
    add(
        "--task",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"{', '.join(sections())} (default: all), or names of tasks",
    )
    add("--trials", type=int, default=30, metavar="N", help="candidates per solver and task (default 30)")
    add("--budget", type=float, metavar="MINUTES", help="time limit of this run, shared by all solvers and tasks")
    add(
        "--metric",
        nargs="+",
        default=["psnr"],
        metavar="NAME",
        help="metrics; the first decides (default psnr); calls counts network calls",
    )
    add("--crops", type=int, default=9, help="images, one crop each (default 9)")
    add("--size", type=int, default=128, help="side of a crop in pixels (default 128)")
    add("--noise", type=float, help="noise level to use instead of the tasks' own tuning levels")
    add_options(parser, Options, ("prior", "device", "precision", "seed"), **COMMON)
    add(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="preset table to write (.toml); other rows of a table that tune wrote are kept",
    )
    add("--overwrite", action="store_true", help="write FILE anew, even if it exists")
    add("--storage", type=Path, metavar="FILE", help="file of all trials, continued if it exists (default: OUT as .db)")
    add_task_options(parser, lambda task: task.suite_type())
    parser.set_defaults(run=run_command)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Tune every solver on every task, then write the table."""
    if args.out.suffix != ".toml" or not args.out.parent.is_dir():
        raise InputError(f"--out must be a .toml file in an existing folder, got {args.out}")
    _earlier(args)
    check_least(args, trials=1, crops=1, size=1)
    for name in args.solver:
        SOLVERS.check(name)
    options = Options(prior=args.prior, device=args.device, precision=args.precision)
    changes = given_task_options(args)
    parts = sections(args.task, changes if args.noise is None else {**changes, "noise": args.noise})

    from invsolve.core.boundary import parse_toml
    from invsolve.core.files import destination, write_whole
    from invsolve.priors.traits import traits_of
    from invsolve.restoration.loading import load_prior
    from invsolve.restoration.settings import table
    from invsolve.tune.images import crops
    from invsolve.tune.search import NoCandidate, Search, tune

    count = len(args.solver) * len(parts)
    images = crops(args.images, args.crops, args.size)
    prior = load_prior(options)
    seconds = None if args.budget is None else 60 * args.budget / count
    storage = args.storage or args.out.with_suffix(".db")
    search = Search(prior, args.prior, images, storage, tuple(args.metric), args.trials, seconds, args.seed, parts)
    tuned: dict[str, dict[str, Any]] = {}
    for task in parts:
        for solver in args.solver:

            def report(trial: Any, where: str = f"{task} {solver}") -> None:
                sys.stderr.write(f"{where}: {trial.psnr:.2f} dB, misfit {trial.misfit:.2f}, {trial.settings}\n")

            try:
                tuned.setdefault(task, {})[solver] = tune(search, solver, task, report)
            except NoCandidate as error:
                logger.warning("%s is left out for %s: %s", solver, task, error)
    tuned = {task: found for task, found in tuned.items() if found}
    if not tuned:
        raise InputError("no solver has settings for any of the tasks: nothing is written")
    words = ["PHOTOS" if word == str(args.images) else word for word in args.words]
    head = [
        _title(args.prior),
        "`point` is the solver of point estimates, `samples` that of posterior samples (--samples N).",
        "Above each solver: mean PSNR of one estimate on the tuning crops, misfit of the data, network calls.",
        f"{MADE}{shlex.join(words)}",
        f"on {args.crops} crops of {args.size} pixels (SHA-256 {search.digest}...), none of which is used for results.",
    ]
    earlier = _earlier(args)
    head += [line for made in made_by(earlier) if made != head[-2:] for line in made]
    traits = traits_of(prior)
    present = dict(table(traits.family)) if traits.own and traits.scope == "local" else {}
    present |= parse_toml(earlier, args.out)
    text = preset_text(head, tuned, present, comments_of(earlier))
    write_whole(destination(args.out), text.encode())
    sys.stdout.write(f"{args.out}\n")
    return 0


def _earlier(args: argparse.Namespace) -> str:
    """Return the table that earlier runs wrote to `--out` for this prior; "" if there is none or it is not to be kept.

    Raises:
        InputError: if there is another file, or it cannot be written.
    """
    from invsolve.core.boundary import parse_toml, read_text
    from invsolve.io import check_target

    own = ""
    if not args.overwrite and args.out.is_file():
        text = read_text(args.out, "preset table")
        own = text if text.startswith(f"# {_title(args.prior)}") and made_by(text) else ""
        parse_toml(own, args.out)
    check_target(args.out, overwrite=args.overwrite or bool(own))
    return own


def _title(prior: str) -> str:
    return f"Solver settings for the prior `{prior}`, by task."


def made_by(text: str) -> list[list[str]]:
    """Return the two lines about each command by which a table was made, without the "# "."""
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    return [lines[i : i + 2] for i, line in enumerate(lines) if line.startswith(MADE)]


def comments_of(text: str) -> dict[tuple[str, str], str]:
    """Return the comment above each row of a table, {(head of the section, row): comment}."""
    found: dict[tuple[str, str], str] = {}
    section = before = ""
    for line in text.splitlines():
        section = line if line.startswith("[") else section
        if before.startswith("# "):
            found[section, line] = before
        before = line
    return found


def preset_text(
    head: Sequence[str],
    tuned: Mapping[str, Mapping[str, Any]],
    present: Mapping[str, Any],
    comments: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> str:
    """Format the preset table: in each section, solvers from best to worst, then other rows of an earlier table.

    Args:
        head: lines of the comment at the top.
        tuned: trials by section and solver.
        present: the earlier table.
        comments: comments of its rows, see `comments_of`.
    """
    from invsolve.bench.toml_text import toml_value
    from invsolve.solvers import SOLVERS

    def line(name: str, settings: Mapping[str, Any]) -> str:
        return f"{name} = {{ {', '.join(f'{key} = {toml_value(value)}' for key, value in settings.items())} }}"

    lines = [f"# {text}" for text in head]
    for section in dict.fromkeys([*tuned, *present]):
        trials, old = tuned.get(section, {}), present.get(section, {})
        order = sorted((n for n in trials if math.isfinite(trials[n].psnr)), key=lambda name: -trials[name].psnr)
        samplers = sorted((n for n in order if not SOLVERS[n].mode_seeking), key=lambda n: -trials[n].values[0])
        point = old.get("point") or order[0]
        sampler = old.get("samples") or (samplers[0] if samplers else order[0])
        if set(order) >= {n for n, s in old.items() if isinstance(s, Mapping)}:  # all were tuned on the same images
            point, sampler = order[0], samplers[0] if samplers else sampler
        lines += ["", f"[{section}]", f'point = "{point}"', f'samples = "{sampler}"']
        for name in order:
            t = trials[name]
            lines.append(f"# {t.psnr:.2f} dB, misfit {t.misfit:.2f} of the noise, cost {t.calls:.0f} forwards")
            lines.append(line(name, t.settings))
        for name, settings in old.items():
            if isinstance(settings, Mapping) and name not in trials:
                kept = line(name, settings)
                lines += [comments.get((f"[{section}]", kept), "# kept from an earlier table"), kept]
    return "\n".join(lines) + "\n"
