"""`python -m benchmarks.leaderboard`: the cost of the runner itself.

    throughput    units of `quick` by PnP-HQS, in one worker process and in two: units per minute, and the seconds for
                  storing an outcome
    large         time of the commands status and report for a store of 100 000 simulated units, including their start

Run it on an otherwise idle machine; the fastest of several rounds counts. Results are written as JSON and Markdown next
to this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import markdown
from benchmarks.leaderboard.simulated import simulated
from invsolve.bench.environment import environment
from invsolve.bench.execute import execute
from invsolve.bench.reading import load_suite
from invsolve.bench.runner import run
from invsolve.bench.store import Store
from invsolve.execution.workers import Workers

RESULTS = Path(__file__).parent / "results"
SOLVER = "pnp-hqs"


class Timed(Store):
    """A store that adds up the time for storing outcomes."""

    spent = 0.0

    def put(self, unit: str, content: bytes) -> bool:
        began = time.perf_counter()
        new = super().put(unit, content)
        self.spent += time.perf_counter() - began
        return new


def timed(folder: Path, workers: int) -> dict[str, float]:
    """Run the units of `quick` by one solver in worker processes.

    `seconds` is the time of the whole run, including the start of processes and loading the prior; `unit` and `storing`
    are seconds per unit.
    """
    began = time.perf_counter()
    with Timed.writing(folder) as store:
        done = run(load_suite("quick"), store, Workers(execute, workers), only=[f"solver={SOLVER}"])
        whole = time.perf_counter() - began
        seconds = [unit["seconds"] for unit in store.units() if unit["status"] == "ok"]
        storing = store.spent / done
    assert len(seconds) == done, "a unit failed"
    return {
        "workers": workers,
        "units": done,
        "seconds": whole,
        "units a minute": 60 * done / whole,
        "unit": sum(seconds) / done,
        "storing": storing,
    }


def equal(first: Path, second: Path) -> int:
    """The number of restorations of two stores that are equal bit for bit."""
    with Store.reading(first) as a, Store.reading(second) as b:
        done = [unit["hash"] for unit in a.units() if unit["status"] == "ok"]
        return sum(
            all(torch.equal(value, b.output(unit)[name]) for name, value in a.output(unit).items()) for unit in done
        )


def large(folder: Path) -> dict[str, float]:
    """Seconds that the commands take on 100 000 units."""
    simulated(folder, items=1000, solvers=20, tasks=5)
    found: dict[str, float] = {"units": 100_000}
    for action in ("status", "report"):
        began = time.perf_counter()
        command = [sys.executable, "-m", "invsolve", "bench", action, "--store", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found[action] = time.perf_counter() - began
    return found


def text(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    parts = []
    if "throughput" in results:
        rows = [[f"{row[key]:.4g}" for key in row] for row in results["throughput"]]
        parts.append(markdown(list(results["throughput"][0]), rows))
        one, two = (row["units a minute"] for row in results["throughput"])
        share = max(row["storing"] / row["unit"] for row in results["throughput"])
        parts.append(
            f"Two workers: {two / one:.2f} times the throughput. Storing: {100 * share:.3f} % of a unit. "
            f"Restorations that are the same to the bit: {results['equal']}.\n"
        )
    if "large" in results:
        parts.append(markdown(list(results["large"]), [[f"{value:.4g}" for value in results["large"].values()]]))
    return "\n".join(parts)


def _earlier(path: Path) -> dict[str, Any]:
    """The earlier results: parts that are not run keep them."""
    return json.loads(path.read_text()) if path.is_file() else {}


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.leaderboard", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["throughput", "large"], help="throughput, large (default both)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of throughput, alternating (default 3)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"environment": json.loads(environment()), "load at the start": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        if "throughput" in args.parts:
            rounds = [[timed(Path(folder) / f"{i} {n}", n) for n in (1, 2)] for i in range(args.rounds)]
            results["throughput"] = [min(runs, key=lambda run: run["seconds"]) for runs in zip(*rounds, strict=True)]
            results["seconds of all rounds"] = [[run["seconds"] for run in runs] for runs in zip(*rounds, strict=True)]
            results["equal"] = equal(Path(folder) / "0 1", Path(folder) / "0 2")
        if "large" in args.parts:
            results["large"] = large(Path(folder) / "large")
    results = {**_earlier(args.out / "leaderboard.json"), **results}
    (args.out / "leaderboard.json").write_text(json.dumps(results, indent=1) + "\n")
    (args.out / "leaderboard.md").write_text(text(results))
    print(text(results))


if __name__ == "__main__":
    main()
