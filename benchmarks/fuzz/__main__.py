"""python -m benchmarks.fuzz: test every reader with damaged files, and print a table of the outcomes."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from benchmarks.common import markdown
from benchmarks.fuzz.run import failures, run
from benchmarks.fuzz.seeds import make_seeds


def main() -> int:
    """Run the mutants; return 1 if one of them was neither read nor refused as required."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--mutants", type=int, default=6000, help="number of damaged files (default 6000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (default 0)")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        seeds = make_seeds(Path(folder))
        for seed in seeds:
            path = Path(folder) / f"whole{Path(seed.name).suffix}"
            path.write_bytes(seed.content)
            seed.read(path)  # an intact file must be readable; this also imports the reader before memory is measured
        outcomes = list(run(seeds, args.mutants, args.seed, Path(folder)))
    rows = []
    for seed in seeds:
        own = [one for one in outcomes if one.seed == seed.name]
        wrong = failures(own)
        slowest, largest = max(one.seconds for one in own), max(one.memory for one in own)
        read = sum(not one.refused and not one.error for one in own)
        rows.append(
            [seed.name, len(own), sum(o.refused for o in own), read, len(wrong), f"{slowest:.2f}", largest >> 20]
        )
    print(markdown(["seed", "mutants", "refused", "read", "not held", "slowest [s]", "most memory [MiB]"], rows))
    wrong = failures(outcomes)
    print("\n".join(wrong), file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
