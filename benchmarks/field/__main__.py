"""Default commands on files as people have them, beside one-line tools.

    python -m benchmarks.field run DIR [--kinds NAME ...] [--images N]   # goes on where it stopped
    python -m benchmarks.field report DIR       # results/table.md here, docs/images/field.jpg
    python -m benchmarks.field clock DIR        # a photograph that was really shaken

Each file is written to DIR, read and restored by `invsolve.restore(path, ...)` with the options that a person with this
file would give and nothing else: noise, compression and blur are found by the defaults. The floor is the better of the
file itself (shown enlarged, where it is smaller) and the tool. PSNR in dB, inside the holes where there are any.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.field.files import KINDS
from benchmarks.field.report import clock, report
from benchmarks.field.runs import run


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "report", "clock"])
    parser.add_argument("folder", type=Path, metavar="DIR", help="of the files and results")
    parser.add_argument("--kinds", nargs="+", help="beginnings of their names; all if not given")
    parser.add_argument("--images", type=int, default=0, help="photographs of each kind; all if not given")
    args = parser.parse_args()
    if args.what == "run":
        chosen = [kind for kind in KINDS if not args.kinds or kind.name.startswith(tuple(args.kinds))]
        for row in run(args.folder, chosen, args.images):
            print(json.dumps(row), flush=True)
    elif args.what == "report":
        print(report(args.folder))
    else:
        clock(args.folder)


if __name__ == "__main__":
    main()
