"""The environment of a process: versions, hardware and the state of the source tree."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from invsolve.bench.suite import canonical

__all__ = ["environment"]


@cache
def environment() -> str:
    """Describe the environment of this process as JSON: versions, hardware, state of the source tree."""
    versions = {}
    for name in ("invsolve", "torch", "numpy", "deepinv", "azula", "piq", "torchmetrics"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return canonical(
        {
            "versions": versions | {"python": platform.python_version()},
            "platform": platform.platform(),
            "processor": _processor(),
            "processors": os.cpu_count(),
            "git": _git(),
        }
    )


def _processor() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def _git() -> str:
    """Return the commit of the source tree, with "+changes" if it has been edited; "" unless git tracks this file.

    A package in a virtual environment inside a user's project is in that project's repository, but is not tracked.
    """
    here = Path(__file__)
    if not _answer(here.parent, "ls-files", "--error-unmatch", here.name):
        return ""
    return _answer(here.parent, "describe", "--always", "--dirty=+changes", "--exclude=*")


def _answer(folder: Path, *words: str) -> str:
    """Return what git prints in a folder; "" if it fails."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
