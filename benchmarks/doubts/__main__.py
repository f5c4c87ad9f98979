"""How often restorations warn, correctly and falsely, on a folder of photographs that are not used in other results.

    python -m benchmarks.doubts --photos FOLDER [--count 12] [--cases NAME ...]

Each crop is degraded in several ways. In some cases the task gets the correct settings ("right"), in others not
("wrong": a blur given 25 % too wide, another shake, a wrong noise level, a decimated image enlarged as bicubic, large
holes, JPEG as PNG). For each case the script prints the PSNR of a one-line tool (or of the image itself) and of the
restoration, how many restorations warn, and how many are below the tool without a warning. The thresholds of
`invsolve.restoration.doubts` were chosen with it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.doubts.runs import run


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs not used in other results")
    parser.add_argument("--count", type=int, default=12, help="number of photographs, one crop of each")
    parser.add_argument("--side", type=int, default=96, help="side of the crops, in pixels")
    parser.add_argument("--cases", nargs="+", help="beginnings of case names; all if not given")
    args = parser.parse_args()
    run(args.photos, args.count, args.side, args.cases)


if __name__ == "__main__":
    main()
