"""Timing of contenders in one process, in turns, so that other work on the machine affects all of them equally."""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from invsolve.core.files import written_whole

__all__ = ["RESULTS", "Timing", "alternate", "fresh", "machine", "save"]

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """Seconds of a contender over the rounds: median, quartiles and minimum."""

    median: float
    low: float
    high: float
    least: float
    rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """The statistics of at least one measurement."""
        values = sorted(seconds)
        quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
        return cls(statistics.median(values), quartiles[0], quartiles[2], values[0], len(values))


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int = 9,
    clock: Callable[[], float] = time.process_time,
    warm: bool = True,
) -> dict[str, Timing]:
    """Run all contenders once per round, starting with a different one each round.

    Args:
        contenders: functions by name.
        rounds: number of measured rounds; with `warm`, an unmeasured one comes first.
        clock: processor time of the process by default, which excludes other processes on the machine; use the wall
            clock (`time.perf_counter`) for several threads.
    """
    names = list(contenders)
    if warm:
        for name in names:
            contenders[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            began = clock()
            contenders[name]()
            seconds[name].append(clock() - began)
    return {name: Timing.of(values) for name, values in seconds.items()}


@contextmanager
def fresh() -> Iterator[dict[str, str]]:
    """The environment of fresh processes that keep Python's compiled files, like installed programs.

    The first run compiles, so do not measure it.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        yield {**environment, "PYTHONPYCACHEPREFIX": folder}


def machine() -> dict[str, Any]:
    """The hardware and software of the measurement."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "processor": model,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def save(name: str, rows: Sequence[Mapping[str, Any]], table: str, **more: Any) -> None:
    """Write rows as JSON and their table as Markdown into the folder of results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), **more, "rows": rows}
    text = json.dumps(content, indent=1, default=lambda value: asdict(value)) + "\n"
    for ending, written in (("json", text), ("md", table)):
        with written_whole(RESULTS / f"{name}.{ending}") as part:
            part.write_text(written, encoding="utf-8")
    print(table, flush=True)
