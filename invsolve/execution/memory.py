"""Memory of the process: its peak, and keeping what a restoration frees until the restoration ends.

The GNU C library requests each block of more than 32 MiB from the system and returns it as soon as it is freed, and
the system fills it with zeros every time. For images of 1024x1024 this takes a fifth of the processor time.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from invsolve.core.checkpoint import peak_memory

__all__ = ["forget_peak", "freed_memory_kept", "peak"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of settings in malloc.h."""

LARGEST_BLOCK = 2**30
"""Larger blocks always come from the system, so that very large images do not fragment the memory."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Reuse freed memory inside the `with` block, and return it to the system afterwards; no effect without glibc.

    It applies to the main thread: other threads have their own heaps, which contain only small blocks.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)
    library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def forget_peak() -> None:
    """Reset the peak memory on a GPU, and of the process where the system allows it (Linux)."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak(device: str) -> int:
    """Return the peak memory of this process in bytes since `forget_peak`; on a GPU, the peak allocated there."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return peak_memory(torch.device("cpu"))
