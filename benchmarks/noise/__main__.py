"""The noise of files: python -m benchmarks.noise PART [...]

levels      how often the level is right, and that of scikit-image and deepinv, on test images or held-out photographs
effective   the level at which files are restored best, on a folder of tuning photographs
clipped     the loss from noise that is clipped in a file
brightness  the gain of using the curve of noise that grows with brightness
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.noise import brightness, clipped, effective, levels


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("levels")
    part.add_argument("--images", type=Path, help="training folder of the network; its held-out part is used")
    part.add_argument("--sigmas", nargs="+", type=float, default=[0.0, 0.01, 0.02, 0.05, 0.1, 0.2])
    part.add_argument("--who", nargs="+", default=list(levels.ESTIMATORS), choices=list(levels.ESTIMATORS))
    part.add_argument("--details", action="store_true", help="a line for each file")
    part.set_defaults(run=lambda a: levels.run(a.images, a.sigmas, a.who, details=a.details))
    part = parts.add_parser("effective")
    part.add_argument("--images", type=Path, required=True, help="folder of tuning photographs")
    part.add_argument("--crops", type=int, default=3)
    part.add_argument("--side", type=int, default=96)
    part.add_argument("--sigmas", nargs="+", type=float, default=[0.03, 0.1])
    part.add_argument("--quality", default="fast", choices=("fast", "balanced", "best"))
    part.set_defaults(run=lambda a: effective.run(a.images, a.crops, a.side, a.sigmas, a.quality))
    part = parts.add_parser("clipped")
    part.add_argument("--images", type=Path, help="folder of photographs; test images if not given")
    part.add_argument("--crops", type=int, default=4)
    part.add_argument("--side", type=int, default=128)
    part.add_argument("--sigmas", nargs="+", type=float, default=[0.1, 0.2])
    part.add_argument("--quality", default="balanced", choices=("fast", "balanced", "best"))
    part.set_defaults(run=lambda a: clipped.run(a.images, a.crops, a.side, a.sigmas, a.quality))
    part = parts.add_parser("brightness")
    part.add_argument("--images", type=Path, required=True, help="folder of photographs")
    part.add_argument("--crops", type=int, default=12)
    part.add_argument("--side", type=int, default=128)
    part.set_defaults(run=lambda a: brightness.run(a.images, a.crops, a.side))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
