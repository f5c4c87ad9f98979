"""`python -m benchmarks.calibration`: measure all problems and rows, and write the table and the figures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.calibration.report import load, passes, write
from benchmarks.calibration.run import names, run

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Parse the command line, run the cells, and write results when a problem is complete."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--problems", default="*", help="comma-separated patterns of problem names")
    parser.add_argument("--rows", default="*", help="comma-separated patterns of rows; others keep their last results")
    parser.add_argument("--samples", type=int, help="number of samples; each problem's own number if not given")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes, one thread each")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    whole = options.problems == "*" and options.rows == "*"
    records = {} if whole else load(options.out / "results.json")
    began, last = time.monotonic(), ""
    for record in run(names(options.problems, options.rows), options.jobs, options.samples):
        if last not in ("", record["problem"]):
            write(records.values(), options.out, figures=False)
        last = record["problem"]
        records[record["problem"], record["row"]] = record
        mark = "pass" if passes(record) else f"C2ST {record['c2st']:.3f}" if "c2st" in record else record["status"]
        print(f"{time.monotonic() - began:6.0f} s  {record['problem']:22s} {record['row']:30s} {mark}", flush=True)
    write(records.values(), options.out)


if __name__ == "__main__":
    main()
