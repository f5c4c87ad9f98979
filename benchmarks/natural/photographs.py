"""List the photographs that trained the packaged networks, so that users can keep them out of their tests.

    python -m benchmarks.natural.photographs FOLDER      # writes invsolve/priors/weights/natural-photographs.csv

FOLDER contains them under the names of the list, at most 1600 pixels wide or high.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from pathlib import Path

LIST = Path(__file__).parents[2] / "invsolve" / "priors" / "weights" / "natural-photographs.csv"
VALIDATION = ("aitzgorri", "ColorfulCups", "LadyBird", "opencv_building", "opencv_messi5", "opencv_plant")
MATE = (
    "Aqua", "Blinds", "Dune", "FreshFlower", "GreenMeadow", "LadyBird", "RainDrops", "Storm", "TwoWings", "Wood",
    "YellowFlower",
)  # fmt: skip


def package_of(name: str) -> str:
    """The Debian package that a photograph comes from."""
    if name.startswith("opencv_"):
        return "opencv-doc"
    if "_by_" in name:
        return "lomiri-wallpapers-16.04, lomiri-wallpapers-20.04 or ukui-wallpapers"
    return "mate-backgrounds" if Path(name).stem in MATE else "plasma-workspace-wallpapers"


def rows(folder: Path) -> list[dict[str, str]]:
    """A row for each photograph."""
    return [
        {
            "file": path.name,
            "debian package": package_of(path.name),
            "use": "validation" if path.name.startswith(VALIDATION) else "training",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.iterdir())
    ]


def main() -> None:
    """Write the list."""
    found = rows(Path(sys.argv[1]))
    with LIST.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    print(f"{len(found)} photographs -> {LIST}")


if __name__ == "__main__":
    main()
