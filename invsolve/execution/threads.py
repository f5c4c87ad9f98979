"""How many threads compute, and how long a waiting one spins: by what this process may use, and what others use now.

OpenMP's threads wait for each other by spinning. Beside other busy processes a spinning thread keeps the processor from
the one that it waits for, and two threads then take several times as long as one (`benchmarks.speed threads`). So there
are no more threads than idle processors, and none spins for long, in case the machine becomes busy later.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

__all__ = ["arrange", "each", "others", "share", "usable"]

SPINS = "30000"
"""Turns of libgomp's waiting loop; its default is ten times as many, and fewer slow an idle machine down."""

READINGS, PAUSE = 5, 0.004
"""Of the number of running processes, and the seconds between two."""


def usable(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors that this process may use: by its affinity and by the quota of its container.

    Args:
        root: where control groups are mounted.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    return count if quota is None else max(1, min(count, int(quota)))


def _quota(root: Path) -> float | None:
    """Processors that a container may use at once, by control groups of version 2 or 1; None without a limit."""
    try:
        if (root / "cpu.max").is_file():
            allowed, period = (root / "cpu.max").read_text().split()
        else:
            allowed = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        return float(allowed) / float(period) if allowed != "max" and float(allowed) > 0 else None
    except (OSError, ValueError):  # no Linux, or no control groups
        return None


def others(stat: Path = Path("/proc/stat")) -> float:
    """Other processes of the machine that compute now: mean of a few readings over 20 ms, or the load of a minute.

    Args:
        stat: the file in which Linux tells how many run.
    """
    readings = []
    for place in range(READINGS):
        if place:
            time.sleep(PAUSE)
        found = _running(stat)
        if found is None:
            return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        readings.append(max(0, found - 1))  # this process reads the file
    return sum(readings) / len(readings)


def _running(stat: Path) -> int | None:
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("procs_running ")), None)


def share(usable: int, processors: int, others: float) -> int:
    """Threads for one process: as many as processors are idle, at most those that it may use, at least one."""
    return max(1, min(usable, processors - round(others)))


def each(workers: int) -> int:
    """Threads of each of so many worker processes: together no more than the processors that may be used."""
    return max(1, usable() // workers)


def arrange(environment: MutableMapping[str, str], *, follow: bool) -> None:
    """Tell OpenMP, by the environment, before torch is imported; what the user has set stays.

    Args:
        environment: of this process.
        follow: whether the number of threads follows the load; else all processors that may be used count. Another
            number rounds differently.
    """
    if "torch" in sys.modules:  # whose threads have read it
        return
    if "OMP_NUM_THREADS" not in environment:
        may = usable()
        count = share(may, os.cpu_count() or may, others()) if follow else may
        environment["OMP_NUM_THREADS"] = str(count)
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
