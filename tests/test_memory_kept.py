"""Freed memory is used again within a restoration, and given back after it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

FAULTS = """
import json, resource, torch
from contextlib import nullcontext
from pathlib import Path
from invsolve.execution.memory import freed_memory_kept

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

def filled():
    torch.zeros(2**24).add_(1.0)  # 64 MiB

filled()
found = {}
for name, block in (("without", nullcontext()), ("with", freed_memory_kept())):
    with block:
        for _ in range(16):  # the heap grows for up to five blocks before an aligned one fits into what was freed
            filled()
        before = pages()
        for _ in range(4):
            filled()
        found[name] = pages() - before
        found[f"{name}, inside"] = resident()
    found[f"{name}, after"] = resident()
print(json.dumps(found))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_freed_memory_is_used_again_and_then_given_back():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    found, block = json.loads(done.stdout), 2**26 // 4096
    assert found["without"] >= 3.5 * block
    assert found["with"] < 0.5 * block
    assert found["with, inside"] - found["with, after"] > 0.9 * block


def test_another_c_library_is_left_alone(monkeypatch):
    from invsolve.execution import memory

    monkeypatch.setattr(sys, "platform", "win32")
    assert memory._glibc() is None
    with memory.freed_memory_kept():
        pass
