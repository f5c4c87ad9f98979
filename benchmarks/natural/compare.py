"""Equal minutes of training for several designs of the embedded prior.

    python -m benchmarks.natural.compare --images DIR [--minutes 3]

The designs are trained one after the other with one thread, for the same time and on the same images, with the same
images held out. `benchmarks/natural/results/compare.md` gets the steps and the validation PSNR of the best average.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.common import markdown
from benchmarks.natural.photographs import VALIDATION
from invsolve.priors.networks.unet_config import DenoiserConfig
from invsolve.train.denoiser import train_denoiser
from invsolve.train.settings import DenoiserTraining

WIDE, NARROW = DenoiserConfig(channels=(96, 128, 160, 192)), DenoiserConfig(channels=(64, 96, 128, 192))


def designs(base: DenoiserTraining) -> dict[str, DenoiserTraining]:
    """The runs that are compared, by name."""
    return {
        "AdamW 1e-3, 96-128-160-192": replace(base, network=WIDE, optimizer="adamw", learning_rate=1e-3),
        "Muon 2e-3, 96-128-160-192": replace(base, network=WIDE, learning_rate=2e-3),
        "Muon 5e-3, 96-128-160-192": replace(base, network=WIDE, learning_rate=5e-3),
        "Muon 2e-3, 64-96-128-192": replace(base, network=NARROW, learning_rate=2e-3),
    }


def row(name: str, csv_path: Path) -> list[str]:
    """A table row from the last line of a run's log."""
    with csv_path.open() as file:
        last = list(csv.DictReader(file))[-1]
    psnr = " / ".join(f"{float(last[last['best'] + f'_psnr{level}']):.2f}" for level in (15, 25, 50))
    return [name, last["step"], psnr]


def main() -> None:
    """Train every design and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results" / "compare.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[list[str]] = []
    base = DenoiserTraining(
        args.images, Path("run.safetensors"), args.minutes / 60, batch=16, validation=VALIDATION, workers=1
    )
    with tempfile.TemporaryDirectory() as directory:
        for i, (name, config) in enumerate(designs(base).items()):
            out = Path(directory) / f"{i}.safetensors"
            train_denoiser(replace(config, out=out))
            rows.append(row(name, out.with_suffix(".csv")))
            print(*rows[-1], sep=" | ", flush=True)
    head = f"# Equal minutes of training\n\n{args.minutes:g} minutes each on one core; see `compare.py`.\n\n"
    columns = ["design", "steps of 16 crops", "validation PSNR at 15 / 25 / 50 (dB)"]
    args.out.write_text(head + markdown(columns, rows))


if __name__ == "__main__":
    main()
