"""How time and memory grow with the image, the samples, the steps and the tiles; and the cost of starting."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common import markdown
from benchmarks.speed.pairs import RESULTS, Timing, fresh, save

__all__ = ["growth", "one", "start"]

Run = Mapping[str, Any]

LARGE = 256
"""The growth with pixels is also reported from this side on, because for smaller images the overhead dominates."""


def one(side: int, options: Run) -> dict[str, float]:
    """Restore one smooth image of `side` by `side`: seconds, network calls, peak memory of the process in GiB."""
    import torch
    from torch.nn import functional as F

    from invsolve.restoration import restore
    from invsolve.restoration.loading import load_prior
    from invsolve.restoration.options import Options

    coarse = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    image = F.interpolate(coarse, size=(side, side), mode="bicubic")[0].clamp(0, 1)
    load_prior(Options())
    began, processor = time.perf_counter(), time.process_time()
    done = restore(image, "superres", simulate=True, noise=0.01, **options)
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    stats = done.record["stats"]
    calls = stats["network_forwards"] + stats["network_backwards"]
    return {"seconds": seconds, "processor_seconds": processor, "calls": calls, "peak_gib": peak}


def growth(
    sides: Sequence[int], samples: Sequence[int], tiles: Sequence[int], settings: Mapping[str, Any], memory: float
) -> None:
    """Run each case in its own process, so that each has its own peak memory."""
    cases: list[tuple[str, int, dict[str, Any]]] = [
        ("side", side, {"settings": settings, "memory": memory}) for side in sides
    ]
    sampler = {"solver": "dps", "settings": {"n_steps": 4}}
    cases += [("samples", n, {**sampler, "samples": n}) for n in samples]
    cases += [("steps", n, {"settings": {"n_steps": n}}) for n in (2, 4, 8)]
    cases += [("tile", tile, {"settings": {"n_steps": 2}, "tile": tile}) for tile in tiles]
    rows = []
    for what, value, options in cases:
        side = value if what == "side" else 512 if what == "tile" else 128
        words = [sys.executable, "-m", "benchmarks.speed", "one", str(side), json.dumps(options)]
        out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        rows.append({"what": what, "value": value, "side": side, **json.loads(out.splitlines()[-1])})
        print(rows[-1], flush=True)
    kinds = ("side", "samples", "steps")
    slopes = {what: _slope([r for r in rows if r["what"] == what], squared=what == "side") for what in kinds}
    slopes["large"] = _slope([r for r in rows if r["what"] == "side" and r["value"] >= LARGE], squared=True)
    cells = []
    for row in rows:
        seconds = [f"{row[key]:.2f}" for key in ("seconds", "processor_seconds")]
        cells.append([row["what"], row["value"], row["side"], *seconds, f"{row['calls']:g}", f"{row['peak_gib']:.2f}"])
    head = ["varied", "value", "side", "seconds", "processor seconds", "network calls", "peak memory, GiB"]
    table = (
        markdown(head, cells)
        + f"\nProcessor time grows as pixels^{slopes['side']:.2f} ({slopes['large']:.2f} from {LARGE} x {LARGE} on), "
        + f"samples^{slopes['samples']:.2f}, steps^{slopes['steps']:.2f}.\n"
    )
    save("growth", rows, table, slopes=slopes, settings=settings, memory=memory)
    _plot(rows)


def _slope(rows: Sequence[Run], *, squared: bool) -> float:
    """Slope of log(processor seconds) over log(value), or over that of its square; nan for fewer than two rows."""
    points = [(math.log(r["value"]) * (2 if squared else 1), math.log(r["processor_seconds"])) for r in rows]
    if len(points) < 2:
        return math.nan
    x, y = (sum(p[i] for p in points) / len(points) for i in (0, 1))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


def _plot(rows: Sequence[Run]) -> None:
    from matplotlib import pyplot as plt

    part = [r for r in rows if r["what"] == "side"]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
    for axis, key, label in ((axes[0], "processor_seconds", "processor seconds"), (axes[1], "peak_gib", "peak GiB")):
        axis.loglog([r["value"] ** 2 for r in part], [r[key] for r in part], "o-")
        axis.set_xlabel("pixels")
        axis.set_ylabel(label)
    figure.tight_layout()
    figure.savefig(RESULTS / "growth.png", dpi=120)
    plt.close(figure)


START = {
    "python": [sys.executable, "-c", "pass"],
    "import torch": [sys.executable, "-c", "import torch"],
    "import invsolve": [sys.executable, "-c", "import invsolve"],
    "import deepinv": [sys.executable, "-W", "ignore", "-c", "import deepinv"],
    "import azula": [sys.executable, "-c", "import azula.sample"],
    "invsolve --help": [sys.executable, "-m", "invsolve", "--help"],
    "invsolve restore --help": [sys.executable, "-m", "invsolve", "restore", "--help"],
    "priors.load('natural')": [sys.executable, "-c", "import invsolve; invsolve.priors.load('natural')"],
}


def start(rounds: int) -> None:
    """Processor seconds of fresh processes, in turns, after one unmeasured round in which Python compiles."""
    seconds: dict[str, list[float]] = {name: [] for name in START}
    with fresh() as environment:
        for k in range(rounds + 1):
            for name, words in START.items():
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run(words, check=True, capture_output=True, env=environment)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                if k:
                    seconds[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    rows = [{"command": name, "timing": Timing.of(values)} for name, values in seconds.items()]
    cells = [[f"`{r['command']}`", f"{r['timing'].median:.2f}", f"{r['timing'].least:.2f}"] for r in rows]
    save("start", rows, markdown(["", "processor seconds, median", "least"], cells))
