"""How an image was made smaller: python -m benchmarks.sampling PART --photos FOLDER [...]

fit      the regressions of `invsolve.tasks.sampling` on photographs that no result names, with how often they are right
         on photographs that were left out
gains    what it costs to be wrong: PSNR above bicubic interpolation for what was assumed and what was done
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
    part.add_argument("--photos", type=Path, required=True, help="folder of photographs that no result names")
    part.add_argument("--out", type=Path, help="JSON file of the regressions")
    part.set_defaults(run=lambda a: fit.run(a.photos, a.out))
    part = parts.add_parser("gains")
    part.add_argument("--photos", type=Path, required=True, help="folder of photographs that no result names")
    part.add_argument("--count", type=int, default=8, help="of photographs, a crop of each")
    part.add_argument("--side", type=int, default=56, help="of the small images, in pixels")
    part.add_argument("--factor", type=int, default=2)
    part.add_argument("--quality", type=int, help="of the JPEG file of the small image; none if not given")
    part.add_argument("--told", nargs="+", default=["auto"])
    part.set_defaults(run=lambda a: gains.run(a.photos, a.count, a.side, a.factor, a.quality, a.told))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
