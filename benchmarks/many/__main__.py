"""Batches of images: the cost of kills, the gain of one command for many images, and the speed of workers and driver.

    python -m benchmarks.many kills   [--images 200 --kills 20 --workers 1 2] [--ray]
    python -m benchmarks.many cost    [--images 200 --singles 10]
    python -m benchmarks.many workers [--images 40]
    python -m benchmarks.many driver  [--ray]

`kills` sends SIGKILL to `invsolve restore FOLDER --skip-existing` repeatedly, while it starts or after a random number
of images, and compares every restoration with that of an undisturbed run. `cost` compares the processor seconds of one
command for many small images with those of one command for each image. `workers` compares the images per minute of one
and two worker processes, which needs two idle cores; on a busy machine, compare the processor seconds instead. `driver`
hands out jobs that do nothing: its rate is the largest number of images per second that one driver can serve, whatever
the workers are. Each part writes its numbers to results/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow

import invsolve as iv
from benchmarks.many.nothing import restore_nothing
from invsolve.execution.executor import Executor, outcomes
from invsolve.execution.ray import RayExecutor
from invsolve.execution.workers import Workers
from invsolve.restoration.items import Batch, Item, check_items
from invsolve.restoration.options import Options
from invsolve.restoration.sources import entries, find, output_path

RESULTS = Path(__file__).parent / "results"
WORDS = ["--task", "denoise", "--noise", "0.05", "--quality", "fast", "--precision", "float32", "-q"]
PLAIN = ["--no-comparison", "--no-record"]
BROKEN = 5
DRIVEN = 10_000


def make(folder: Path, count: int, broken: int = BROKEN, side: int = 32) -> None:
    """Make photographs of mixed sizes and formats, and some files that only look like images."""
    import skimage.data

    source = skimage.data.astronaut()
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(count):
        height, width = side + 8 * (i % 5), side + 8 * (i % 3)
        top, left = rng.integers(0, 512 - 80, 2)
        pillow.fromarray(source[top : top + height, left : left + width]).save(
            folder / f"{i:04}.{('png', 'jpg', 'webp')[i % 3]}"
        )
    for i in range(broken):
        (folder / f"broken{i}.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")


def command(source: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "invsolve", "restore", str(source), "-o", str(out), *words, *WORDS]


def hashes(folder: Path) -> dict[str, str]:
    paths = [p for p in folder.glob("*-restored.*") if p.suffix != ".json"]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def finished(folder: Path) -> dict[str, int]:
    """The time at which each image with a finished record was written."""
    done = {}
    for note in folder.glob("[0-9]*-restored.json"):
        (image,) = (path for path in folder.glob(f"{note.stem}.*") if path != note)
        done[image.name] = image.stat().st_mtime_ns
    return done


def kills(args: argparse.Namespace) -> dict[str, Any]:
    """One row for each number of workers (and a local Ray cluster)."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "in", args.images)
        ways = [(f"{n} workers" if n > 1 else "1 process", ["--workers", str(n)]) for n in args.workers]
        if args.ray:
            ways.append(("Ray, local, 2 actors", ["--ray", "local", "--workers", "2"]))
        for label, words in ways:
            rows.append({"way": label, "images": args.images, **_killed(folder, label, words, args.kills)})
            print(rows[-1], flush=True)
    return {"kills": rows}


def _killed(folder: Path, label: str, words: list[str], kills: int) -> dict[str, Any]:
    """The results of a batch that is killed repeatedly, while it starts or after a random number of images."""
    out, reference, count = folder / label, folder / f"{label} reference", len(list((folder / "in").glob("[0-9]*")))
    subprocess.run(command(folder / "in", reference, *words), check=False, capture_output=True)
    rng, done, again, progress = random.Random(label), {}, 0, []
    for left in range(kills, 0, -1):
        run = subprocess.Popen(command(folder / "in", out, "--skip-existing", *words), stderr=subprocess.DEVNULL)
        more = rng.randint(0, 2 * (count - len(done)) // (left + 1))
        while more and run.poll() is None and len(list(out.glob("[0-9]*.json"))) < len(done) + more:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.5 if more else 4.0))
        run.send_signal(signal.SIGKILL)
        run.wait()
        time.sleep(1.0)  # workers end soon after their parent
        now = finished(out)
        again += sum(now.get(name) != written for name, written in done.items())
        done = now
        progress.append(len(done))
    last = subprocess.run(command(folder / "in", out, "--skip-existing", *words), check=False).returncode
    now = finished(out)
    return {
        "kills": kills, "finished after each": progress, "restored": len(hashes(out)),
        "identical": hashes(out) == hashes(reference), "finished ones restored again":
        again + sum(now.get(name) != written for name, written in done.items()),
        "failures reported": len(list(out.glob("broken*-restored.json"))), "exit code": last,
        "temporary files left": len(list(out.glob(".*.part"))),
    }  # fmt: skip


def cost(args: argparse.Namespace) -> dict[str, Any]:
    """Processor seconds of one command for many images, and of one command for each image."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "in", args.images, broken=0)
        one = _cpu(lambda: _run(command(folder / "in", folder / "one", *PLAIN)))
        chosen = sorted((folder / "in").iterdir())[: args.singles]
        (folder / "singles").mkdir()
        each = _cpu(lambda: [_run(command(path, folder / "singles", *PLAIN)) for path in chosen]) / args.singles
    row = {
        "images": args.images, "one command, CPU s": one, f"a command each (from {args.singles}), CPU s":
        each * args.images, "ratio": one / (each * args.images),
    }  # fmt: skip
    print(row)
    return {"cost": row}


def workers(args: argparse.Namespace) -> dict[str, Any]:
    """Images per minute of one and two worker processes with one thread each, without start and end.

    The time counts from the first to the last file that is written: in a batch of ten thousand images, the seconds
    before do not matter.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "in", args.images, broken=0, side=96)
        for count in (1, 2, 1, 2):
            out, load = folder / f"{len(rows)}", os.getloadavg()[0]
            began = time.monotonic()
            spent = _with_workers(command(folder / "in", out, "--workers", str(count), *PLAIN))
            whole = time.monotonic() - began
            written = sorted(path.stat().st_mtime for path in out.glob("*-restored.*"))
            pace = 60 * (len(written) - 1) / (written[-1] - written[0])
            rows.append(
                {"workers": count, "images a minute": pace, "whole command, s": whole, "CPU s": spent, "load before":
                 load}
            )  # fmt: skip
            print(rows[-1], flush=True)
    best = {n: max(row["images a minute"] for row in rows if row["workers"] == n) for n in (1, 2)}
    spent = {n: min(row["CPU s"] for row in rows if row["workers"] == n) for n in (1, 2)}
    print(
        f"two workers: {best[2] / best[1]:.2f} times the images of one, {spent[2] / spent[1]:.2f} times its CPU seconds"
    )
    return {"workers": rows, "speed-up": best[2] / best[1], "CPU of two by one": spent[2] / spent[1]}


def driver(args: argparse.Namespace) -> dict[str, Any]:
    """Jobs per second that one driver hands out and takes back, and its seconds before the first job."""
    options = Options.of("denoise")
    row: dict[str, Any] = {"load before": os.getloadavg()[0], "images": DRIVEN}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(DRIVEN):
            (folder / f"{i:06}.png").touch()
        began = time.monotonic()
        chosen = entries(find([folder]))
        items = [Item(entry, output_path(entry, folder / "out"), Batch(options)) for entry in chosen]
        check_items(items)
        row["before the first, s"] = time.monotonic() - began
    row["an item, bytes"] = len(pickle.dumps(items[0]))
    places: dict[str, Callable[[], Executor]] = {"2 processes": lambda: Workers(restore_nothing, 2)}
    if args.ray:
        places["Ray, 2 actors"] = lambda: RayExecutor(restore_nothing, "local", 2)
    for place, start in places.items():
        executor = start()
        list(outcomes(executor, items[:50]))
        began, own = time.monotonic(), time.process_time()
        list(outcomes(executor, items))
        row[f"{place}, jobs a second"] = DRIVEN / (time.monotonic() - began)
        row[f"{place}, CPU seconds of the driver a job"] = (time.process_time() - own) / DRIVEN
        executor.close()
    print(row)
    return {"driver": row}


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _with_workers(words: list[str]) -> float:
    """Processor seconds of a command and all its processes, even those that are not waited for; on Linux."""
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    ticks: dict[str, int] = {}
    while run.poll() is None:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:  # the process has ended
                continue
            if int(fields[3]) == run.pid:  # the process belongs to the session of the command
                ticks[path.parent.name] = int(fields[11]) + int(fields[12])
        time.sleep(0.1)
    return sum(ticks.values()) / os.sysconf("SC_CLK_TCK")


def _cpu(call: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "cost", "workers", "driver"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--singles", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(iv.__file__).parent.parent)
    found = {"kills": kills, "cost": cost, "workers": workers, "driver": driver}[args.what](args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.what}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
