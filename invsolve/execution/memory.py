"""Memory that a restoration frees stays with the process until it ends.

The GNU C library takes blocks of more than 32 MiB from the system anew each time and gives them back at once, and the
system fills them with zeros again. Images of 1024x1024 spend a fifth of their processor time on that.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freed_memory_kept"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of settings in malloc.h."""

LARGEST_BLOCK = 2**30
"""Larger blocks come from the system in any case, which keeps the memory of very large images from splitting up."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Reuse freed memory in the block, and give it back to the system after it; nothing where libc is another one.

    It holds for the main thread: other threads have heaps of their own, which hold small blocks only.
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
