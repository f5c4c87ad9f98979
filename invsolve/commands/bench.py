"""The command `invsolve bench`."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from invsolve.commands.options import add_set, read_settings
from invsolve.commands.sweep import add_sweep
from invsolve.commands.units import HOME, Bar, add_workers, executor_of
from invsolve.core.checks import InputError

__all__ = ["add_parser"]

ACTIONS = {
    "run": "compute what a suite still lacks, then score it",
    "status": "show what is done, failed and missing",
    "score": "score stored restorations, for new metrics or newly available weights",
    "report": "write the page and the tables",
    "compare": "show paired differences of two results",
    "export": "write all rows as CSV or Parquet",
    "submit": "pack a bundle that others can check",
    "check": "check that the parts of a bundle match each other",
    "list": "list the suites in the package",
}
FORM = "PART.NAME=VALUE"


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the subcommand `bench`; the default `run` of its parser takes the parsed arguments."""
    parser = subparsers.add_parser("bench", help="run benchmark suites and make their leaderboard")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    added = {name: actions.add_parser(name, help=line) for name, line in ACTIONS.items()}
    for name in ("run", "status", "score", "report", "export", "submit"):
        add = added[name].add_argument
        add("suite", nargs="?", default="quick", help="shipped suite or .toml file (default quick)")
        add("--store", type=Path, metavar="DIR", help="folder of the results (default runs/bench/SUITE)")
    add = added["run"].add_argument
    kinds = "run only matching units; KIND is task, solver, item, seed or unit"
    add("--only", action="append", default=[], metavar="KIND=PATTERN", help=kinds)
    add_set(added["run"], "for example solver.n_steps=20 or task.factor=2", FORM)
    add("--data", metavar="PATH", help="folder or list of images instead of the suite's")
    add("--prior", metavar="NAME", help="prior instead of the suite's")
    add("--items", type=int, metavar="N", help="only the first N images")
    add_workers(added["run"])
    add("--no-score", action="store_true", help="do not score at the end")
    for name in ("run", "score", "report"):
        added[name].add_argument("--trust", action="store_true", help="run the code that the suite or store names")
    for name in ("run", "score"):
        added[name].add_argument(
            "--calibration",
            type=Path,
            nargs="+",
            default=[],
            metavar="FILE",
            help="score the intervals of this calibration",
        )
    added["score"].add_argument("--metrics", nargs="+", metavar="NAME", help="default: those of the suite")
    added["report"].add_argument("--out", type=Path, metavar="DIR", help="default: STORE/report")
    added["report"].add_argument(
        "--overwrite", action="store_true", help="replace files that no earlier report wrote, or that were edited"
    )
    added["report"].add_argument("--images", type=int, default=6, help="items of each task shown (default 6)")
    added["compare"].add_argument("stores", nargs=2, metavar="STORE", help="suites or folders of results")
    added["compare"].add_argument("--metric", default="psnr", help="default psnr")
    for name in ("export", "submit"):
        added[name].add_argument("-o", "--out", type=Path, required=True, metavar="FILE")
        added[name].add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    added["submit"].add_argument(
        "--hub", metavar="ORGANISATION/NAME", help="add it to this data set of the Hugging Face hub"
    )
    added["submit"].add_argument("--private", action="store_true", help="make a new data set private")
    added["check"].add_argument("bundle", type=Path, metavar="FILE", help="a file written by `submit`")
    added["check"].add_argument("--store", type=Path, metavar="DIR", help="also compare the outputs in this folder")
    parser.set_defaults(run=run_command)
    add_sweep(actions)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Run the chosen action and return its exit code."""
    return globals()[f"_{args.action}"](args)


def _settings(args: argparse.Namespace) -> list[tuple[str, Any]]:
    """Return the changed settings of the command line, in their order."""
    changes = list(read_settings(args.settings, "solver.n_steps=20", FORM).items())
    if args.data is not None:
        path = Path(args.data)
        changes += [("data.kind", "list" if path.is_file() else "folder"), ("data.path", str(path.resolve()))]
    for key, value in (("prior.name", args.prior), ("data.items", args.items)):
        if value is not None:
            changes.append((key, value))
    return changes


def _store(args: argparse.Namespace, changes: Sequence[tuple[str, Any]] = ()) -> Path:
    """Return the results folder; changed settings get a separate folder, except those of data and prior."""
    if args.store is not None:
        return args.store
    name = Path(args.suite).stem if args.suite.endswith(".toml") else args.suite
    own = [change for change in changes if change[0].split(".")[0] not in ("data", "prior")]
    return HOME / (f"{name}-{hashlib.sha256(repr(own).encode()).hexdigest()[:8]}" if own else name)


def _run(args: argparse.Namespace) -> int:
    from invsolve.bench.reading import load_suite
    from invsolve.bench.runner import run
    from invsolve.bench.store import Store

    changes = _settings(args)
    suite = load_suite(args.suite, changes, trust=args.trust)
    calibrations = _calibrations(args)
    folder, began = _store(args, changes), time.monotonic()
    with Store.writing(folder) as store, Bar() as bar:
        executor = executor_of(args, suite.threads)
        count = run(suite, store, executor, only=args.only, retry=args.retry, report=bar.unit)
        if not args.no_score:
            _scored(store, None, bar, calibrations, trust=args.trust)
        lines = _summary(store)
    sys.stdout.write(f"{count} units in {time.monotonic() - began:.0f} s -> {folder}\n" + lines)
    return 0


def _calibrations(args: argparse.Namespace) -> list[Any]:
    """Read the calibration files of the command line."""
    from invsolve.bench.intervals import check_calibrations
    from invsolve.restoration.calibration import Calibration

    found = [Calibration.read(path) for path in args.calibration]
    check_calibrations(found)
    return found


def _scored(store: Any, metrics: Sequence[str] | None, bar: Bar, calibrations: Sequence[Any], *, trust: bool) -> None:
    from invsolve.bench.scoring import score

    score(store, metrics, bar.score, trust=trust, calibrations=calibrations)


def _score(args: argparse.Namespace) -> int:
    from invsolve.bench.store import Store
    from invsolve.metrics import metric_named

    for name in args.metrics or ():
        metric_named(name)
    calibrations = _calibrations(args)
    with Store.writing(_existing(_store(args))) as store, Bar() as bar:
        if args.metrics:
            store.add_metrics(args.metrics)
        _scored(store, args.metrics, bar, calibrations, trust=args.trust)
        sys.stdout.write(_summary(store))
    return 0


def _existing(folder: Path) -> Path:
    if not (folder / "results.db").is_file():
        raise InputError(f"there are no results in {folder}: run `invsolve bench run` first, or name --store DIR")
    return folder


def _status(args: argparse.Namespace) -> int:
    from invsolve.bench.store import Store

    with Store.reading(_store(args)) as store:
        sys.stdout.write(_summary(store))
    return 0


def _summary(store: Any) -> str:
    """Return a text with the units by status for each task and solver, and the messages of failures."""
    from invsolve.bench.text import status_text

    return status_text(store)


def _report(args: argparse.Namespace) -> int:
    from invsolve.bench.report import write_report

    path = write_report(
        _existing(_store(args)), args.out, images=args.images, trust=args.trust, overwrite=args.overwrite
    )
    sys.stdout.write(f"{path}\n")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from invsolve.bench.bundle import compare

    folders = [Path(name) if Path(name).is_dir() else HOME / name for name in args.stores]
    sys.stdout.write(compare(folders[0], folders[1], args.metric))
    return 0


def _export(args: argparse.Namespace) -> int:
    from invsolve.bench.bundle import export

    count = export(_existing(_store(args)), args.out, overwrite=args.overwrite)
    sys.stdout.write(f"{count} rows -> {args.out}\n")
    return 0


def _submit(args: argparse.Namespace) -> int:
    from invsolve.bench.bundle import submit

    sys.stdout.write(f"{submit(_existing(_store(args)), args.out, overwrite=args.overwrite)}\n")
    if args.hub is not None:
        from invsolve.bench.hub import push_bundle

        sys.stdout.write(f"{push_bundle(args.out, args.hub, private=args.private)}\n")
    return 0


def _check(args: argparse.Namespace) -> int:
    from invsolve.bench.checking import CANNOT_SHOW, check_bundle

    wrong = check_bundle(args.bundle, args.store)
    limits = CANNOT_SHOW if args.store is None else CANNOT_SHOW[1:]
    verdict = wrong or [f"the parts of {args.bundle} fit each other; this does not show", *(f"  {s}" for s in limits)]
    sys.stdout.write("".join(f"{line}\n" for line in verdict))
    return 1 if wrong else 0


def _list(args: argparse.Namespace) -> int:
    from invsolve.bench.reading import load_suite, shipped

    for name in shipped():
        suite = load_suite(name)
        count = sum(len(solver.settings) for solver in suite.solvers)
        sys.stdout.write(f"{name:12} {suite.title}; {len(suite.tasks)} tasks, {count} rows\n")
    return 0
