"""Blind deblurring of files, by kind and size of the blur.

    python -m benchmarks.blind run DIR [--kinds NAME ...] [--sizes N ...] [--limit N] [--photos FOLDER]
    python -m benchmarks.blind report DIR [--save]       # results/*.* here, docs/images/blind.jpg

A scene is blurred (what lies outside the image is blurred into it, as in a camera), gets noise of 0.003 to 0.02 and is
written as a PNG or JPEG. `invsolve.restore(file, "blind-deblur")` gets only the file: the defaults estimate the noise
level and the blur. The restoration with the true kernel is made for comparison. There are 120 runs on eight held-out
photographs, in a balanced, incomplete design. An interrupted run continues where it stopped, and the first runs,
however many, are spread over kinds and sizes. A blurred file does not show the exact position of its scene, so the
PSNR in dB (also of the blurred file) is taken at the best shift, in fractions of a pixel. So is the correlation of the
estimated kernel with the true one.
To see what makes runs fail, `--tell noise size` gives the true noise level and kernel size, and `--as-format PNG`
avoids compression.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.blind.design import FORMATS, TOLD, design
from benchmarks.blind.kernels import KINDS
from benchmarks.blind.report import report
from benchmarks.blind.runs import run


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("run", help="restore, adding to DIR/rows.jsonl")
    part.add_argument("folder", type=Path, metavar="DIR", help="folder of the files, restorations and rows")
    part.add_argument("--kinds", nargs="+", choices=[kind.name for kind in KINDS], help="all if not given")
    part.add_argument("--sizes", nargs="+", type=int, help="sizes of the kernels, in pixels; all if not given")
    part.add_argument("--limit", type=int, help="only the first N of the chosen runs")
    part.add_argument("--side", type=int, default=256, help="side of the images, in pixels (256)")
    part.add_argument("--photos", type=Path, help="folder of tuning photographs; they get other kernels")
    part.add_argument("--as-format", choices=FORMATS, help="write every file in this format")
    part.add_argument("--tell", nargs="+", default=[], choices=TOLD, help="values that the program is given")
    part = parts.add_parser("report", help="show the table")
    part.add_argument("folder", type=Path, metavar="DIR", help="folder of the rows")
    part.add_argument("--save", action="store_true", help="also write the table, its rows and the figure")
    args = parser.parse_args()
    if args.part == "report":
        print(report(args.folder, save=args.save))
        return
    runs = design("held out" if args.photos is None else "tuning")
    runs = [run for run in runs if not args.kinds or run.kind in args.kinds]
    runs = [run for run in runs if not args.sizes or run.size in args.sizes]
    runs = [replace(run, told=tuple(args.tell), format=args.as_format or run.format) for run in runs[: args.limit]]
    for row in run(args.folder, runs, args.side, args.photos):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
