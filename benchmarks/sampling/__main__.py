"""How an image was made smaller: python -m benchmarks.sampling PART --photos FOLDER [...]

fit      the regressions of `invsolve.tasks.sampling` on photographs that are not used in other results, and how often
         they are right on photographs that were left out
gains    the cost of wrong assumptions: PSNR above bicubic interpolation, by assumed and by actual downsampling
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.sampling import fit, gains


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("fit")
    part.add_argument("--photos", type=Path, required=True, help="folder of photographs not used in other results")
    part.add_argument("--out", type=Path, help="JSON file of the regressions")
    part.set_defaults(run=lambda a: fit.run(a.photos, a.out))
    part = parts.add_parser("gains")
    part.add_argument("--photos", type=Path, required=True, help="folder of photographs not used in other results")
    part.add_argument("--count", type=int, default=8, help="number of photographs, one crop of each")
    part.add_argument("--side", type=int, default=56, help="side of the small images, in pixels")
    part.add_argument("--factor", type=int, default=2)
    part.add_argument("--quality", type=int, help="quality of the small image's JPEG file; no JPEG if not given")
    part.add_argument("--told", nargs="+", default=["auto"])
    part.set_defaults(run=lambda a: gains.run(a.photos, a.count, a.side, a.factor, a.quality, a.told))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
