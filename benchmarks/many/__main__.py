"""Batches of images: what kills cost, what one command saves, how far workers and the driver go.

    python -m benchmarks.many kills   [--images 200 --kills 20 --workers 1 2] [--ray]
    python -m benchmarks.many cost    [--images 200 --singles 8]
    python -m benchmarks.many driver

`kills` sends SIGKILL to `invsolve restore FOLDER --skip-existing` at random moments until it ends, and compares every
restoration with those of an undisturbed run. `cost` compares the processor seconds of one command for many small images
with those of one command each, and the images a minute of one and two workers. `driver` hands out jobs that do nothing:
its rate is the most images a second that one driver serves, whatever the workers are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
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
from invsolve.execution.executor import outcomes
from invsolve.execution.workers import Workers

RESULTS = Path(__file__).parent / "results"
WORDS = ["--task", "denoise", "--noise", "0.05", "--quality", "fast", "--precision", "float32", "-q"]
BROKEN = 5


def make(folder: Path, count: int, broken: int = BROKEN, side: int = 32) -> None:
    """Photographs of mixed sizes and formats, and some files that only look like images."""
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
            out, reference = folder / label, folder / f"{label} reference"
            began = time.monotonic()
            subprocess.run(command(folder / "in", reference, *words), check=False, capture_output=True)
            whole, sent = time.monotonic() - began, 0
            rng = random.Random(label)
            while sent < args.kills:
                run = subprocess.Popen(
                    command(folder / "in", out, "--skip-existing", *words),
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                try:
                    run.wait(rng.uniform(1.0, max(2.0, 3 * whole / args.kills + 3)))
                    if len(hashes(out)) == args.images:
                        break
                except subprocess.TimeoutExpired:
                    run.send_signal(signal.SIGKILL)
                    run.wait()
                    sent += 1
            code = subprocess.run(command(folder / "in", out, "--skip-existing", *words), check=False).returncode
            same = hashes(out) == hashes(reference)
            failures = len(list(out.glob("broken*.json")))
            rows.append(
                {"way": label, "images": args.images, "kills": sent, "restored": len(hashes(out)), "identical": same,
                 "failures reported": failures, "exit code": code}
            )  # fmt: skip
            print(rows[-1], flush=True)
    return {"kills": rows}


def cost(args: argparse.Namespace) -> dict[str, Any]:
    """Processor seconds of one command against many, and throughput of two workers against one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "in", args.images, broken=0, side=48)
        plain = ["--no-comparison", "--no-record"]
        one = _cpu(lambda: _run(command(folder / "in", folder / "one", *plain)))
        chosen = sorted((folder / "in").iterdir())[: args.singles]
        (folder / "singles").mkdir()
        each = _cpu(lambda: [_run(command(path, folder / "singles", *plain)) for path in chosen]) / args.singles
        seconds = {}
        for n in (1, 2):
            os.environ["OMP_NUM_THREADS"] = "1"
            began = time.monotonic()
            _run(command(folder / "in", folder / f"w{n}", "--workers", str(n), *plain))
            seconds[n] = time.monotonic() - began
    row = {
        "images": args.images, "one command, CPU s": one, "a command each, CPU s": each * args.images,
        "ratio": one / (each * args.images), "1 worker, s": seconds[1], "2 workers, s": seconds[2],
        "speed-up": seconds[1] / seconds[2],
    }  # fmt: skip
    print(row)
    return {"cost": row}


def nothing(job: int) -> bytes:
    """A job that takes no time."""
    return b"{}"


def driver(args: argparse.Namespace) -> dict[str, Any]:
    """Jobs a second that one driver hands out and takes back."""
    workers = Workers(nothing, 2)
    jobs = [bytes(2000) + str(i).encode() for i in range(5000)]
    list(outcomes(workers, jobs[:50]))
    began = time.monotonic()
    list(outcomes(workers, jobs))
    row = {"jobs": len(jobs), "jobs a second": len(jobs) / (time.monotonic() - began)}
    workers.close()
    print(row)
    return {"driver": row}


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _cpu(call: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "cost", "driver"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--singles", type=int, default=8)
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(iv.__file__).parent.parent)
    found = {"kills": kills, "cost": cost, "driver": driver}[args.what](args)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{args.what}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
