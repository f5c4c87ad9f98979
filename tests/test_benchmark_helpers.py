"""What several benchmarks share."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks.common import added_memory

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux alone")
def test_added_memory_is_that_of_the_run_and_not_of_an_earlier_peak() -> None:
    torch.ones(300 * MIB, dtype=torch.uint8)  # freed at once
    before, added = added_memory(lambda: torch.ones(100 * MIB, dtype=torch.uint8))
    assert before > 0
    assert 90 < 1024 * added < 150
