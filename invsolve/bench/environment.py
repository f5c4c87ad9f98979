"""What a session runs with: versions, hardware and the state of the source tree."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from invsolve.bench.suite import canonical

__all__ = ["environment"]


def environment() -> tuple[str, str]:
    """What this session runs with, and its hash: versions, hardware, state of the source tree."""
    versions = {}
    for name in ("invsolve", "torch", "numpy", "deepinv", "azula", "piq", "torchmetrics"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    content = canonical(
        {
            "versions": versions | {"python": platform.python_version()},
            "platform": platform.platform(),
            "processor": _processor(),
            "git": _git(),
        }
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16], content


def _processor() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def _git() -> str:
    """The commit of the source tree, "+changes" where it has been edited; "" outside one."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+changes", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
