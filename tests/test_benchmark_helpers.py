"""What several benchmarks share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.common import eight_bits, psnr, stored
from benchmarks.photographs import held_out, middles

MEASURED = """
import torch
from benchmarks.common import added_memory
torch.ones(300 * 2**20, dtype=torch.uint8)  # freed at once
print(*added_memory(lambda: torch.ones(100 * 2**20, dtype=torch.uint8)))
"""
"""For a process of its own: in others, earlier restorations decide whether freed memory is kept."""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux alone")
def test_added_memory_is_that_of_the_run_and_not_of_an_earlier_peak() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", MEASURED], cwd=root, capture_output=True, text=True, check=True)
    before, added = map(float, done.stdout.split())
    assert before > 0
    assert 90 < 1024 * added < 150


def test_psnr_is_of_the_clipped_image_and_120_for_a_copy() -> None:
    truth = np.full((4, 4, 3), 0.9)
    assert psnr(truth - 0.1, truth) == pytest.approx(20)
    assert psnr(truth + 5, truth) == pytest.approx(20)
    assert psnr(torch.from_numpy(truth), truth) == pytest.approx(120)


def test_a_stored_image_has_lost_what_its_file_loses() -> None:
    pixels = eight_bits(np.random.default_rng(0).random((16, 16, 3)))
    assert np.array_equal(stored(pixels, "PNG"), pixels)
    assert psnr(stored(pixels, quality=50) / 255, pixels / 255) < psnr(stored(pixels, quality=95) / 255, pixels / 255)


def test_the_held_out_images_are_the_middles_of_the_photographs() -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    images, whole = dict(held_out(64)), middles(66)
    assert images.keys() == whole.keys()
    assert all(np.array_equal(eight_bits(x.permute(1, 2, 0).numpy()), whole[n][1:-1, 1:-1]) for n, x in images.items())
