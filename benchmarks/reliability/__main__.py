"""`python -m benchmarks.reliability`: kills, damaged stores, forged bundles, hostile checkpoints, odd options.

    kills          100 in all: of a runner (40), its workers (10), a solve (30) and a restoration (20)
    stores         100 damaged outputs and measurements
    bundles        32 forged bundles with a matching manifest
    checkpoints    60 hostile checkpoints
    options        50 odd command lines

A try holds if nothing is lost, nothing is duplicated, nothing differs silently, no code runs, each error is one
sentence, and it takes no more than 20 seconds. `--share 0.1` tries a tenth of each and writes no results. Results are
written as JSON and Markdown next to this file; running some parts replaces only their rows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.common import markdown
from benchmarks.reliability import kills
from benchmarks.reliability.bundles import FORGED, forged
from benchmarks.reliability.checkpoints import HOSTILE
from benchmarks.reliability.options import ODD
from benchmarks.reliability.stores import DAMAGE, stored
from invsolve import InvsolveError, solvers
from invsolve.bench.bundle import submit
from invsolve.bench.checking import check_bundle
from invsolve.bench.report import write_report
from invsolve.commands.cli import main as invsolve
from invsolve.io import Image, write_image

LONGEST = 20.0
"""Seconds that one try may take."""


def damaged_stores(folder: Path, reference: Path, rng: random.Random, tries: int) -> Iterator[bool]:
    """One to three damaged files; the page must still be written, and the next run must repair the store."""
    expected = kills.outcome(reference)
    for number in range(tries):
        store = folder / f"damaged{number}"
        shutil.copytree(reference, store)
        for part in rng.choices(("outputs", "outputs", "measurements"), k=rng.choice((1, 1, 2, 3))):
            DAMAGE[rng.choice(sorted(DAMAGE))](rng.choice([p for p in stored(store, part) if p.is_file()]))
        (store / "outputs" / ".DS_Store").write_text("foreign")
        write_report(store, store / "page")
        kills.finish(store)
        yield kills.outcome(store) == expected
        shutil.rmtree(store)


def forged_bundles(folder: Path, reference: Path, rng: random.Random, tries: int) -> Iterator[bool]:
    """The check must name the fault, or refuse the bundle in one sentence."""
    bundle = submit(reference, folder / "bundle.zip")
    assert check_bundle(bundle) == []
    for what in rng.sample(sorted(FORGED), min(tries, len(FORGED))):
        path = forged(bundle, folder / "forged.zip", FORGED[what])
        try:
            yield bool(check_bundle(path))
        except InvsolveError:
            yield True


def hostile_checkpoints(folder: Path, rng: random.Random, tries: int) -> Iterator[bool]:
    """The file must be refused in one sentence, or the result must equal that of a run without it; no code may run."""
    solver = solvers.DDNM(n_steps=4)
    straight = kills._solve(solver, None, 0.0).samples
    names = sorted(HOSTILE)
    for number in range(tries):
        place = folder / f"checkpoint{number}"
        place.mkdir()
        path = place / "run.pt"
        kills._solve(solver, path, 0.0)
        HOSTILE[names[number % len(names)]](path, rng)
        try:
            same = torch.equal(kills._solve(solver, path, 0.0).samples, straight)
        except InvsolveError:
            same = True
        yield same and not (place / "ran").exists()


def odd_options(folder: Path, tries: int) -> Iterator[bool]:
    """An exit code and at most one line of text, without control characters."""
    image = folder / "image.png"
    write_image(image, Image(torch.rand(3, 24, 24)))
    for words in ODD[:tries]:
        for path in folder.glob("image-*"):
            path.unlink()
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(folder):
            try:
                code = invsolve([str(image) if word == "IMAGE" else word for word in words])
            except SystemExit as end:
                code = end.code
        text = err.getvalue()
        clean = all(c.isprintable() or c in "\n\t" for c in out.getvalue() + text)
        yield clean and (code == 0 or (code == 2 and text.count("\n") == 1))


def tried(name: str, tries: Iterator[bool]) -> tuple[str, int, int, float]:
    """The name, the numbers of tries and of those that held, and the longest time; a try that raises has not held."""
    held, count, longest = 0, 0, 0.0
    while True:
        began = time.monotonic()
        try:
            good = next(tries)
        except StopIteration:
            return name, count, held, longest
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            return name, count + 1, held, longest
        took = time.monotonic() - began
        if not good or took > LONGEST:
            print(f"{name} {count}: did not hold ({took:.1f} s)", flush=True)
        count, held, longest = count + 1, held + (good and took <= LONGEST), max(longest, took)


def main() -> None:
    """Run the campaign, or parts of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.reliability", description=__doc__)
    parser.add_argument("parts", nargs="*", help="kills, stores, bundles, checkpoints, options; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="share of the tries (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("invsolve").addHandler(logging.NullHandler())
    folder = Path(tempfile.mkdtemp())
    kills.finish(folder / "reference")
    rows = []
    for part, name, count, make in _parts(folder, random.Random(args.seed)):
        if not args.parts or part in args.parts:
            rows.append(tried(name, make(max(1, round(count * args.share)))))
            print(rows[-1], flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    if args.share == 1:
        _write(rows, args.seed)


def _write(rows: list[tuple[str, int, int, float]], seed: int) -> None:
    """Replace the stored rows of the same names."""
    results = Path(__file__).parent / "results"
    path = results / "reliability.json"
    known = {row[0]: row for row in json.loads(path.read_text())["rows"]} if path.is_file() else {}
    found = list({**known, **{row[0]: row for row in rows}}.values())
    path.write_text(json.dumps({"seed": seed, "processors": os.cpu_count(), "rows": found}, indent=1) + "\n")
    head = ["what", "tried", "held", "longest, s"]
    table = markdown(head, [[name, count, held, f"{longest:.1f}"] for name, count, held, longest in found])
    (results / "reliability.md").write_text(table)


def _parts(folder: Path, rng: random.Random) -> list[tuple[str, str, int, Callable[[int], Iterator[bool]]]]:
    reference = folder / "reference"
    return [
        ("kills", "kills of the leaderboard's runner", 40, lambda n: kills.of_runners(folder, reference, rng, n)),
        ("kills", "kills of a worker", 10, lambda n: kills.of_workers(folder, reference, rng, n)),
        ("kills", "kills of a solve", 30, lambda n: kills.of_solves(folder, rng, n)),
        ("kills", "kills of a restoration", 20, lambda n: kills.of_restorations(folder, rng, n)),
        ("stores", "damaged stores", 100, lambda n: damaged_stores(folder, reference, rng, n)),
        ("bundles", "forged bundles", len(FORGED), lambda n: forged_bundles(folder, reference, rng, n)),
        ("checkpoints", "hostile checkpoints", 60, lambda n: hostile_checkpoints(folder, rng, n)),
        ("options", "odd command lines", len(ODD), lambda n: odd_options(folder, n)),
    ]


if __name__ == "__main__":
    main()
