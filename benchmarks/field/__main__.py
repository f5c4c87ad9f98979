"""Default commands on real-world files, compared with one-line tools.

    python -m benchmarks.field run DIR [--kinds NAME ...] [--images N]   # continues where it stopped
    python -m benchmarks.field report DIR       # results/table.md here, docs/images/field.jpg
    python -m benchmarks.field clock DIR        # a photograph with a real camera shake

Each file is written to DIR, read, and restored by `invsolve.restore(path, ...)` with only the options that a person
with this file would give: the defaults estimate noise, compression and blur. The floor is the better of the file itself
(enlarged, if it is smaller) and the tool. PSNR is in dB, over the missing pixels if there are any.
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
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the files and results")
    parser.add_argument("--kinds", nargs="+", help="beginnings of the names of kinds; all if not given")
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
