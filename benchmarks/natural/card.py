"""Write the model card of a packaged prior from its weight file, its training log and the recorded measurements.

    python -m benchmarks.natural.card --prior natural-deep --log RUN.csv [RUN.csv ...] [--before HOURS]

Run `denoise.py` and `samples.py` first: the card copies their tables.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from pathlib import Path

from safetensors import safe_open

from benchmarks.common import markdown
from benchmarks.natural.denoise import PRIORS, ROOT, WEIGHTS
from benchmarks.natural.photographs import VALIDATION
from invsolve.priors.networks.unet_config import DenoiserConfig

INTRODUCTION = """\
# {name}

A denoising prior for photographs: `D(x; sigma) = E[x0 | x]` for `x = x0 + sigma n`, x0 in [-1, 1], RGB, sigma from
0.005 to 80, any height and width. Load it with `invsolve.priors.load("{name}")`.
"""

OPTIONS = f"--batch 24 --workers 2 --validation {' '.join(VALIDATION)}"
COMMANDS = {
    "natural": (
        "invsolve train denoiser --images PHOTOS --out natural.safetensors --channels 96,96,128,192 --crop 64 "
        f"--final-crop 80 --decay 0.8 --hours 2.5 {OPTIONS}   # in several parts with --resume, planned at first for "
        "1.57 h and then for 2.7 h, so that the learning rate fell in three slopes",
    ),
    "natural-deep": (
        "invsolve train denoiser --images PHOTOS --out first.safetensors --init natural.safetensors --blocks 2,4,4,4 "
        f"--crop 80 --final-crop 96 --learning-rate 1.5e-3 --warmup 150 --decay 0.5 --seed 11 --hours 1.9 {OPTIONS}",
        "invsolve train denoiser --images PHOTOS --out natural-deep.safetensors --init first.safetensors --blocks "
        "3,6,6,4 --crop 80 --final-crop 96 --learning-rate 1.2e-3 --warmup 150 --decay 1.0 --seed 13 --steps 7000 "
        f"--compile {OPTIONS}   # planned at first for 9500 steps, and with --resume from step 1295 on for 7000; "
        "first.safetensors has the SHA-256 a0673ff4315554a37e74fd9b7672f5766d9a28ca5aaf5d288b181f8e102eb550",
    ),
}
"""The runs of `invsolve train` that made the weights, in order."""

DATA = """\
## Data

53 photographs for training and 6 for validation, longest side at most 1600 pixels, taken from Debian's packages (the
authors and terms of each file are in `/usr/share/doc/PACKAGE/copyright`):

| Debian package | licences |
|---|---|
| lomiri-wallpapers-16.04 and -20.04, ukui-wallpapers | CC-BY-4.0, CC-BY-SA-4.0, CC-BY-SA-3.0, CC0, Expat |
| mate-backgrounds | GPL-2+, CC-BY-SA-4.0 |
| plasma-workspace-wallpapers | GPL-2+, LGPL |
| opencv-doc (samples) | Apache-2.0, BSD |

All of them are listed by name in `natural-photographs.csv`, beside the weights: keep them out of tests of this prior.

Held out for validation: aitzgorri, ColorfulCups, LadyBird, opencv_building, opencv_messi5, opencv_plant. No
image of scikit-image, scikit-learn or torchvision was seen: they are the test images below.
"""

LIMITS = """\
## Limits

Photographs at ordinary scales: not faces at 256 pixels, drawings, text or medical images. 53 photographs are few;
what is rare in them (foliage at high noise, fabrics, print) is smoothed. Trained on crops of 64 to 96 pixels. Not
exactly invariant to brightness shifts, flips or turns (`invsolve.priors.networks.unet.self_ensemble` averages over
flips and turns at eight times the cost).
"""


def training(logs: list[Path], weights: Path, commands: tuple[str, ...], before: float) -> str:
    """The section on the training: commands, length, network and validation curve.

    Args:
        logs: CSV log of each run.
        weights: weight file of the last run.
        commands: commands of the runs.
        before: hours of training of the weights that the first run started from.
    """
    with safe_open(str(weights), framework="pt") as file:
        metadata = file.metadata()
    config = DenoiserConfig.from_json(metadata["config"])
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    runs = [list(csv.DictReader(log.open())) for log in logs]
    runs[-1] = [row for row in runs[-1] if int(row["step"]) <= int(metadata["step"])]
    lengths = [f"{float(rows[-1]['hours']):.2f} hours ({rows[-1]['step']} steps)" for rows in runs]
    lines = [
        "## Training",
        "",
        *(f"    {command}" for command in commands),
        "",
        f"{' and '.join(lengths)} on two shared CPU cores"
        + (f", after the {before:.2f} hours that trained the weights it started from;" if before else ";"),
        f"the weights are the {metadata['average']} average, chosen on the validation images.",
        "",
        "With `--steps` instead of `--hours`, a run on one machine is reproduced bit for bit: nothing in it depends on",
        "the time.",
        "",
        f"Network: residual U-Net at half resolution, channels {config.channels}, blocks {config.blocks}.",
        f"File: {weights.stat().st_size / 1e6:.1f} MB, fp16, SHA-256 `{digest}`.",
        "",
    ]
    table = []
    for number, rows in enumerate(runs, 1):
        chosen = rows[:: max(1, len(rows) // 12)]
        for r in chosen if chosen[-1] is rows[-1] else [*chosen, rows[-1]]:
            psnr = " / ".join(f"{float(r[r['best'] + f'_psnr{level}']):.2f}" for level in (15, 25, 50))
            table.append([number, f"{float(r['hours']):.2f}", r["step"], f"{float(r['images_per_second']):.0f}", psnr])
    head = ["run", "hours", "step", "crops/s", "validation PSNR at 15 / 25 / 50 (dB)"]
    return "\n".join([*lines, markdown(head, table)])


def section(path: Path) -> str:
    """A recorded result, with its heading one level lower."""
    return "#" + path.read_text()


def main() -> None:
    """Write the card beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--log", type=Path, nargs="+", required=True, help="CSV log of each run of the training")
    parser.add_argument("--prior", choices=PRIORS, default=PRIORS[-1])
    parser.add_argument("--before", type=float, default=0.0, metavar="HOURS", help="of training of the initial weights")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    args = parser.parse_args()
    weights = WEIGHTS / f"{args.prior}.safetensors"
    parts = [INTRODUCTION.format(name=args.prior), DATA]
    parts.append(training(args.log, weights, COMMANDS[args.prior], args.before))
    parts += [section(args.results / name) for name in ("denoise.md", f"samples-{args.prior}.md")]
    weights.with_suffix(".md").write_text("\n".join([*parts, LIMITS]))


if __name__ == "__main__":
    main()
