"""How often restorations warn, rightly and without reason, on a folder of photographs that no result names.

    python -m benchmarks.doubts --photos FOLDER [--count 12] [--cases NAME ...]

Each crop is degraded in ways of which the task is told as they are ("right"), and in others ("wrong": a blur told 25 %
too wide, another shake, a wrong noise level, a decimated image enlarged as bicubic, large holes, JPEG as PNG).
Printed for each case: the PSNR of a one-line tool (or of the image itself) and of the restoration, how many
restorations warn, and how many are below the tool without a warning. Thresholds of `invsolve.restoration.doubts` were
set on this.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.doubts.runs import run


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs that no result names")
    parser.add_argument("--count", type=int, default=12, help="of photographs, a crop of each")
    parser.add_argument("--side", type=int, default=96, help="of the crops, in pixels")
    parser.add_argument("--cases", nargs="+", help="beginnings of their names; all if not given")
    args = parser.parse_args()
    run(args.photos, args.count, args.side, args.cases)


if __name__ == "__main__":
    main()
