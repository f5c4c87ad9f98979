"""The cost of a step beyond the network: 3x64x64 inpainting with a network of one multiplication, on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.common import markdown
from benchmarks.speed.contenders import WHO, Setting, contenders
from benchmarks.speed.pairs import RESULTS, Timing, alternate, save

STEPS = 300


def run(
    solvers: list[str], batches: list[int], rounds: int, who: Sequence[str] = WHO, *, dry: bool = False
) -> list[dict[str, Any]]:
    """Measure and write the table, in milliseconds per step (NDTM: per inner update)."""
    torch.set_num_threads(1)
    network = alternate({"one": _calls}, rounds)["one"].median / STEPS
    rows: list[dict[str, Any]] = []
    for batch in batches:
        for name in solvers:
            timings = alternate(contenders(name, Setting(batch=batch, steps=STEPS), who), rounds)
            rows.append({"solver": name, "batch": batch, "timings": timings})
            print(name, batch, {k: f"{1e3 * v.median / STEPS:.3f}" for k, v in timings.items()}, flush=True)
            if not dry:
                head = ["solver", "batch", "bare loop", "invsolve", "of bare", "azula", "deepinv"]
                table = markdown(head, _cells(rows))
                save("overhead", rows, table, steps=STEPS, network_seconds=network, unit="seconds for all steps")
    if not dry:
        _plot(rows)
    return rows


def _calls() -> None:
    x = torch.zeros(1, 3, 64, 64)
    for _ in range(STEPS):
        x = 0.9 * x


def _cells(rows: list[dict[str, Any]]) -> list[list[Any]]:
    def shown(timing: Timing | None) -> str:
        if timing is None:
            return ""
        low, middle, high = (1e3 * value / STEPS for value in (timing.low, timing.median, timing.high))
        return f"{middle:.3f} ({low:.3f} to {high:.3f})"

    cells = []
    for row in rows:
        t = row["timings"]
        ratio = f"{t['invsolve'].median / t['bare'].median:.2f}"
        own = [shown(t["bare"]), shown(t["invsolve"]), ratio]
        cells.append([row["solver"], row["batch"], *own, shown(t.get("azula")), shown(t.get("deepinv"))])
    return cells


def _plot(rows: list[dict[str, Any]]) -> None:
    from matplotlib import pyplot as plt

    batches = sorted({row["batch"] for row in rows})
    figure, axes = plt.subplots(1, len(batches), figsize=(5.5 * len(batches), 3.6), squeeze=False)
    for axis, batch in zip(axes[0], batches, strict=True):
        part = [row for row in rows if row["batch"] == batch]
        for i, who in enumerate(WHO):
            at = [j for j, row in enumerate(part) if who in row["timings"]]
            heights = [1e3 * part[j]["timings"][who].median / STEPS for j in at]
            axis.bar([j + 0.2 * (i - 1.5) for j in at], heights, 0.2, label=who)
        axis.set_xticks(range(len(part)), [row["solver"] for row in part])
        axis.set_title(f"batch {batch}")
        axis.set_ylabel("ms a step, network of 8 us")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(RESULTS / "overhead.png", dpi=120)
    plt.close(figure)
