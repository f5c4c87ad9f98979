"""python -m benchmarks.fuzz: damaged files against every reader, and a table of what they did."""

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
    """Run the mutants; 1 if one of them was not held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--mutants", type=int, default=6000, help="damaged files (default 6000)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default 0)")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        seeds = make_seeds(Path(folder))
        for seed in seeds:
            path = Path(folder) / f"whole{Path(seed.name).suffix}"
            path.write_bytes(seed.content)
            seed.read(path)  # undamaged, it is read; and what a reader imports does not count
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
