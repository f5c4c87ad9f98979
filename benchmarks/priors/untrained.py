"""Write a network with the architecture of `ffhq256` and random weights, to measure its cost without a download.

    python -m benchmarks.priors.untrained FOLDER        # FOLDER/ffhq_10m.pt
    INVSOLVE_CACHE=FOLDER invsolve doctor ffhq256       # times and memory, with the settings of ffhq256

It cannot restore images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.networks import FFHQ
from invsolve.priors.networks.adm import ADMUNet


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(ADMUNet(FFHQ).state_dict(), folder / "ffhq_10m.pt")


if __name__ == "__main__":
    main()
