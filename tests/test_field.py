"""Default commands on files as people have them: none falls below the file itself or a one-line tool without a word.

A small part of `python -m benchmarks.field run`, on crops of 128 pixels.
"""

from __future__ import annotations

import pytest

from benchmarks.field.files import KINDS, clean_images
from benchmarks.field.runs import one

pytestmark = pytest.mark.slow

GAINS = {
    "noise 0.05, PNG": 1.5,
    "noise 0.1, JPEG 85": 0.5,
    "noise 0.05, WebP 85": 0.0,
    "phone in dim light, JPEG 92": 0.5,
    "JPEG 20": 0.0,
    "half size by bicubic": 0.5,
    "half size, JPEG 80": 0.0,
    "blur 2.5": 0.0,
    "50 % missing": 1.5,
    "90 % missing": 0.5,
    "scratches and dust": 0.5,
}
"""Decibels over the better of the file itself and the one-line tool that a restoration gains at least."""


def made(name: str, image: str, folder):
    kind = next(kind for kind in KINDS if kind.name == name)
    return one(kind, image, clean_images(kind.pages, 128)[image], folder)


@pytest.mark.parametrize("image", ["astronaut", "coffee"])
@pytest.mark.parametrize("name", GAINS)
def test_the_default_gains_over_the_file_and_a_one_line_tool(name, image, tmp_path):
    row = made(name, image, tmp_path)
    assert row["restored"] > max(row["file"], row["one line"]) + GAINS[name]
    assert row["status"] == "ok"
    assert row["warnings"] == []


@pytest.mark.parametrize(
    ("name", "loss"),
    [("clean PNG, denoised", 0.0), ("clean JPEG 95, denoised", 0.2), ("half size by decimation", 0.5),
     ("blur 2, told 2.5", 0.3)],
)  # fmt: skip
def test_what_a_default_cannot_mend_is_left_or_said(name, loss, tmp_path):
    """An aliased image is enlarged best by bilinear interpolation; 8 bits tell a clean PNG from itself at 50 dB."""
    row = made(name, "chelsea", tmp_path)
    assert row["restored"] > min(max(row["file"], row["one line"]) - loss, 50) or row["warnings"]
