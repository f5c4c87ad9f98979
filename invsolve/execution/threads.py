"""The number of compute threads and how long a waiting thread spins, from the CPUs of this process and the load.

OpenMP threads wait for each other by spinning. If other processes are busy, a spinning thread takes the CPU from the
thread that it waits for, and two threads then take several times as long as one (`benchmarks.speed threads`). So there
are no more threads than idle CPUs, and no thread spins for long, in case the machine becomes busy later.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

__all__ = ["arrange", "each", "others", "share", "usable"]

SPINS = "30000"
"""Iterations of the wait loop of libgomp; its default is ten times as many, and fewer slow down an idle machine."""

READINGS, PAUSE = 5, 0.004
"""How many times the number of running processes is read, and the seconds between two readings."""


def usable(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many CPUs this process may use, from its affinity and the quota of its container.

    Args:
        root: mount point of the control groups.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    return count if quota is None else max(1, min(count, int(quota)))


def _quota(root: Path) -> float | None:
    """Return how many CPUs the container may use at once (control groups version 2 or 1); None without a limit."""
    try:
        if (root / "cpu.max").is_file():
            allowed, period = (root / "cpu.max").read_text().split()
        else:
            allowed = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        return float(allowed) / float(period) if allowed != "max" and float(allowed) > 0 else None
    except (OSError, ValueError):  # not Linux, or no control groups
        return None


def others(stat: Path = Path("/proc/stat")) -> float:
    """Return how many other processes are running now: the mean of a few readings over 20 ms, or the 1-minute load.

    Args:
        stat: the file in which Linux reports the number of running processes.
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
    """Return the number of threads for one process: the number of idle CPUs, between 1 and `usable`."""
    return max(1, min(usable, processors - round(others)))


def each(workers: int) -> int:
    """Return the number of threads per worker process, so that all workers together fit the usable CPUs."""
    return max(1, usable() // workers)


def arrange(environment: MutableMapping[str, str], *, follow: bool) -> None:
    """Set the OpenMP variables in the environment before torch is imported; variables set by the user are kept.

    Args:
        environment: the environment of this process.
        follow: whether the number of threads depends on the load; otherwise all usable CPUs count. Another number of
            threads gives different rounding errors.
    """
    if "torch" in sys.modules:  # torch has already read the environment
        return
    if "OMP_NUM_THREADS" not in environment:
        may = usable()
        count = share(may, os.cpu_count() or may, others()) if follow else may
        environment["OMP_NUM_THREADS"] = str(count)
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
