"""The log of a run: a CSV file that survives interruption, a plot of it, and the running mean of the loss."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path
from types import TracebackType

from invsolve.core.checks import InvsolveError

__all__ = ["RunLog", "SmoothedLoss", "plot_run"]

logger = logging.getLogger(__name__)


class RunLog:
    """Writes `NAME.csv` and `NAME.png` beside the weight file and reports each line to the logger.

    Args:
        out: the weight file.
        resume: append to the CSV instead of starting a new one.
    """

    def __init__(self, out: Path, *, resume: bool) -> None:
        self.csv_path, self.plot_path = out.with_suffix(".csv"), out.with_suffix(".png")
        out.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            self.csv_path.unlink(missing_ok=True)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.csv_path.is_file():
            plot_run(self.csv_path, self.plot_path)

    def add(
        self, step: int, hours: float, loss: float, speed: float, best: str, scores: dict[str, dict[float, float]]
    ) -> None:
        """Add a line.

        Args:
            step: optimiser step.
            hours: training time.
            loss: mean unweighted loss since the last line.
            speed: crops per second since the last line.
            best: name of the best candidate.
            scores: PSNR in dB for each candidate and noise level.
        """
        row: dict[str, str | int] = {
            "step": step,
            "hours": f"{hours:.4f}",
            "loss": f"{loss:.6f}",
            "images_per_second": f"{speed:.1f}",
            "best": best,
        }
        row |= {f"{name}_psnr{level:g}": f"{v:.3f}" for name, by in scores.items() for level, v in by.items()}
        new = not self.csv_path.is_file()
        with self.csv_path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        psnr = " / ".join(f"{v:.2f}" for v in scores[best].values())
        logger.info(
            "step %d, %.2f h, loss %.4f, %.0f crops/s, validation %s dB (%s; raw %s)",
            step, hours, loss, speed, psnr, best, " / ".join(f"{v:.2f}" for v in scores["raw"].values()),
        )  # fmt: skip


class SmoothedLoss:
    """The running mean of the losses of a run.

    Args:
        decay: decay factor of the mean at each step, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.mean = decay, math.nan

    def add(self, loss: float, step: int) -> None:
        """Add the loss of a step, counted from 1.

        Raises:
            InvsolveError: if the loss is no longer finite.
        """
        self.mean = loss if math.isnan(self.mean) else self.decay * self.mean + (1 - self.decay) * loss
        if not math.isfinite(self.mean):
            raise InvsolveError(f"the loss became {self.mean} at step {step}: use a lower --learning-rate")


def plot_run(csv_path: Path, plot_path: Path) -> None:
    """Plot the validation PSNR over training hours; does nothing if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("no plot of the run: matplotlib is not installed")
        return
    with csv_path.open() as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    hours = [float(r["hours"]) for r in rows]
    for column in (c for c in rows[0] if "_psnr" in c):
        name, level = column.split("_psnr")
        style = {"raw": ":", "ema0.05": "-"}.get(name)
        if style is not None:
            axes.plot(hours, [float(r[column]) for r in rows], style, label=f"{name}, noise {level}/255")
    axes.set(xlabel="hours of training", ylabel="validation PSNR (dB)")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(plot_path, dpi=120)
