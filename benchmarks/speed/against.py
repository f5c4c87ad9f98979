"""Restorations by this tree and by another one, a worktree of an earlier commit: processor seconds and PSNR in pairs.

Every run is a fresh process on one thread, alternating between the trees, after one unmeasured denoising run of each,
in which Python compiles. Seconds are the processor time from the end of the imports to the restored image, so that
other work on the machine has little influence.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import markdown
from benchmarks.speed.pairs import fresh, save

__all__ = ["CASES", "run"]

HERE = Path(__file__).resolve().parents[2]

CASES: dict[str, dict[str, Any]] = {
    "deblur 256": {"side": 256, "task": "deblur", "blur_sigma": 2.0, "noise": 0.01},
    "superres x4, 256 to 1024": {"side": 1024, "task": "superres", "factor": 4, "noise": 0.01},
    "denoise 256": {"side": 256, "task": "denoise", "noise": 0.1},
    "denoise 12 megapixels": {"side": 3464, "task": "denoise", "noise": 0.1},
}
"""Side of the clean image, to which the photograph is resized, and options of `restore`."""

ONCE = {"denoise 12 megapixels"}
"""Cases that are measured only in one round."""

HEAD = ["case", "CPU seconds before", "now", "ratio", "network calls before", "now", "PSNR before, dB", "now"]

ONE = """
import json, sys, time
import torch
from torch.nn import functional as F
from torchvision.io import read_image
from invsolve.restoration import restore
case = json.loads(sys.argv[1])
photograph = read_image(sys.argv[2])[None].float() / 255
side = case.pop("side")
clean = F.interpolate(photograph, size=(side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)
began = time.process_time()
done = restore(clean, case.pop("task"), simulate=True, **case)
seconds = time.process_time() - began
print(json.dumps({"seconds": seconds, "psnr": done.record["scores"]["restored"]["psnr"],
                  "calls": done.record["stats"]["network_forwards"]}))
"""


def run(other: Path, cases: Sequence[str], rounds: int) -> None:
    """Measure the cases in both trees, and write the table."""
    photograph = HERE / "invsolve" / "testing" / "photographs" / "astronaut.jpg"
    commits = [_commit(tree) for tree in (HERE, other)]
    rows: list[dict[str, Any]] = []
    with fresh() as environment:
        for tree in (HERE, other):
            _one(tree, CASES["denoise 256"], photograph, environment)
        for name in cases:
            found: dict[str, list[dict[str, float]]] = {"this": [], "other": []}
            for k in range(1 if name in ONCE else rounds):
                pair = [("this", HERE), ("other", other)]
                for who, tree in pair if k % 2 == 0 else reversed(pair):
                    found[who].append(_one(tree, CASES[name], photograph, environment))
            ratios = [a["seconds"] / b["seconds"] for a, b in zip(found["this"], found["other"], strict=True)]
            rows.append({"case": name, "ratio": statistics.median(ratios), "ratios": ratios, **found})
            save("against", rows, markdown(HEAD, [_cells(row) for row in rows]), commits=commits)


def _cells(row: dict[str, Any]) -> list[str]:
    def middle(who: str, what: str) -> float:
        return statistics.median(found[what] for found in row[who])

    pairs = [(middle("other", what), middle("this", what)) for what in ("seconds", "calls", "psnr")]
    seconds, calls, psnr = pairs
    return [
        row["case"], *(f"{s:.2f}" for s in seconds), f"{row['ratio']:.2f}", *(f"{c:.0f}" for c in calls),
        *(f"{p:.2f}" for p in psnr),
    ]  # fmt: skip


def _one(tree: Path, case: dict[str, Any], photograph: Path, environment: dict[str, str]) -> dict[str, float]:
    environment = {**environment, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", ONE, json.dumps(case), str(photograph)]
    done = subprocess.run(call, cwd=tree, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _commit(tree: Path) -> str:
    call = ["git", "-C", str(tree), "log", "-1", "--format=%h of %cs"]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()
