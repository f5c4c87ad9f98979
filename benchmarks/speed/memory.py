"""Peak memory, with each case in its own process: the memory that the run adds to that of a process ready to run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.common import added_memory, markdown
from benchmarks.speed.pairs import save

__all__ = ["CASES", "one", "run"]


def _natural(differentiate: bool, **options: Any) -> Callable[[], object]:
    """One call of `natural` on 512x512, with or without its input-gradient."""
    import torch

    from benchmarks.networks import forward, gradient
    from invsolve import priors

    if options.get("dtype") == "bfloat16":
        options["dtype"] = torch.bfloat16
    prior, x = priors.load("natural", **options), torch.zeros(1, 3, 512, 512)
    return lambda: (gradient if differentiate else forward)(prior, x)


def _ndtm(published: bool) -> Callable[[], object]:
    """One step of NDTM with N = 2 on the full-size FFHQ architecture, 64x64."""
    from benchmarks.speed.networks import ndtm_runs

    own, theirs = ndtm_runs(64, 1, 2)
    return theirs if published else own


def _dps(who: str) -> Callable[[], object]:
    """Two steps of DPS with `natural` on 256x256."""
    from benchmarks.speed.contenders import contenders
    from benchmarks.speed.networks import whole_setting

    return contenders("dps", whole_setting(256, 2), (who,))[who]


CASES: dict[str, Callable[[], Callable[[], object]]] = {
    "natural, 512x512, forward, float32": lambda: _natural(False),
    "natural, 512x512, forward, bfloat16": lambda: _natural(False, dtype="bfloat16"),
    "natural, 512x512, with gradient, float32": lambda: _natural(True),
    "natural, 512x512, with gradient, bfloat16": lambda: _natural(True, dtype="bfloat16"),
    "natural, 512x512, with gradient, recomputed": lambda: _natural(True, checkpointing=True),
    "NDTM on FFHQ architecture, invsolve": lambda: _ndtm(False),
    "NDTM on FFHQ architecture, as published": lambda: _ndtm(True),
    "DPS on natural, 256x256, bare loop": lambda: _dps("bare"),
    "DPS on natural, 256x256, invsolve": lambda: _dps("invsolve"),
    "DPS on natural, 256x256, azula": lambda: _dps("azula"),
    "DPS on natural, 256x256, deepinv": lambda: _dps("deepinv"),
}


def one(name: str) -> dict[str, float]:
    """Memory in GiB before the run, and the additional memory at its peak."""
    before, added = added_memory(CASES[name]())
    return {"before": before, "added": added}


def run() -> None:
    """Measure all cases."""
    rows = []
    for name in CASES:
        words = [sys.executable, "-m", "benchmarks.speed", "one-memory", name]
        out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        rows.append({"case": name, **json.loads(out.splitlines()[-1])})
        print(rows[-1], flush=True)
    cells = [[row["case"], f"{row['before']:.2f}", f"{row['added']:.2f}"] for row in rows]
    save("memory", rows, markdown(["", "before, GiB", "added by the run, GiB"], cells))
