"""The benchmark of blind deblurring: its blurs, its design, its files and what it counts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.blind import runs as runs_module
from benchmarks.blind.design import FORMATS, MARGIN, NAMES, Run, design, kernel_of
from benchmarks.blind.kernels import KINDS
from benchmarks.blind.report import table
from benchmarks.blind.runs import correlation, make_file, psnr, run
from benchmarks.common import rows_of


def drawn(photographs="held out"):
    return {(r.kind, r.size, r.replicate): kernel_of(r) for r in design(photographs)}


def test_kernels_are_positive_sum_to_one_and_fill_their_frames():
    kernels = drawn()
    for (kind, size, _), kernel in kernels.items():
        assert kernel.shape == (size, size)
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1)
        sides = [np.ptp(np.flatnonzero((kernel > 1e-3 * kernel.max()).any(axis))) + 1 for axis in (0, 1)]
        assert max(sides) >= 0.8 * size, kind


def test_tuning_never_sees_the_kernels_of_the_held_out_runs():
    held_out, tuning = drawn(), drawn("tuning")
    for key, kernel in held_out.items():
        if not key[0].startswith("Gaussian"):  # nothing is drawn of these
            assert not np.array_equal(kernel, tuning[key])


def test_the_design_is_balanced():
    held_out = design()
    for kind in KINDS:
        rows = [r for r in held_out if r.kind == kind.name]
        assert set(Counter(r.photograph for r in rows).values()) == {len(rows) // len(NAMES)}
        assert len({(r.photograph, r.crop) for r in rows}) == len(rows)
        for size in kind.sizes:
            cell = [r for r in rows if r.size == size]
            assert {r.format for r in cell} == set(FORMATS)
            assert len({r.photograph for r in cell}) == len(cell)
            assert Counter(r.crop for r in cell)[0] == len(cell) / 2
            levels = sorted(r.noise for r in cell)
            assert 0.003 <= levels[0] < 0.005
            assert 0.0124 < levels[-1] <= 0.02
    assert set(Counter(r.format for r in held_out).values()) == {len(held_out) // len(FORMATS)}
    cells = len({(r.kind, r.size) for r in held_out})
    assert len({(r.kind, r.size) for r in held_out[:cells]}) == cells


SIDE, POINT = 64, Run("thin trace", 15, 0, 0, 0, "PNG", 0.0, "held out")


@pytest.mark.parametrize("row", [SIDE // 2, 2, -4])
def test_a_point_becomes_the_kernel_even_from_beyond_the_image(row, tmp_path):
    kernel = kernel_of(POINT)
    scene = torch.zeros(3, SIDE + 2 * MARGIN, SIDE + 2 * MARGIN)
    scene[:, row + MARGIN, SIDE // 2 + MARGIN] = torch.tensor([1.0, 0.9, 0.8])
    with Image.open(make_file(POINT, kernel, scene, tmp_path)) as file:
        seen = np.asarray(file)[..., 0] / 255.0
    expected = np.zeros((SIDE + 30, SIDE + 30))
    top, left = row + 15 - 7, SIDE // 2 + 15 - 7
    expected[top : top + 15, left : left + 15] = kernel
    assert np.abs(seen - expected[15:-15, 15:-15]).max() < 0.51 / 255
    assert seen.max() > 0


def test_files_have_the_noise_and_format_of_their_runs(tmp_path):
    scene = torch.full((3, SIDE + 2 * MARGIN, SIDE + 2 * MARGIN), 0.5)
    grey = make_file(replace(POINT, noise=0.02), kernel_of(POINT), scene, tmp_path)
    scene[0] += 0.1
    jpeg = make_file(replace(POINT, format="JPEG 75"), kernel_of(POINT), scene, tmp_path)
    with Image.open(grey) as file:
        assert file.mode == "L"
        assert np.std(np.asarray(file) / 255.0) == pytest.approx(0.02, rel=0.05)
    with Image.open(jpeg) as file:
        assert (file.format, file.mode) == ("JPEG", "RGB")
        assert file.quantization[0][0] == 8  # of quality 75


def test_psnr_and_correlation_are_those_of_the_best_shift():
    rng = np.random.default_rng(0)
    wide, kernel = rng.random((60, 60, 3)), rng.random((9, 9))
    assert psnr(wide[8:-2, 3:-7], wide[5:-5, 5:-5]) > 100
    assert psnr(wide[5:-5, 5:-5] + 0.1, wide[5:-5, 5:-5]) == pytest.approx(20)
    assert psnr(np.roll(wide, 9, 0), wide) < 10
    moved = np.zeros((25, 25))
    moved[3:12, 14:23] = 7 * kernel
    assert correlation(moved, kernel) == pytest.approx(1)
    assert correlation(moved, kernel[::-1]) < 0.95


def test_fractions_of_a_pixel_do_not_count():
    """An image and a kernel moved by 0.4 and 0.3 pixels are the same image and kernel."""
    at = np.mgrid[:64, :64].astype(float)

    def hill(down: float, right: float) -> np.ndarray:
        return np.exp(-((at[0] - 30 + down) ** 2 + (at[1] - 35 + right) ** 2) / 40)[..., None]

    assert psnr(hill(2.4, -1.3), hill(0, 0)) > 60
    assert psnr(hill(2.4, -1.3), hill(0, 0) + 0.1) == pytest.approx(20, abs=0.1)

    def bell(down: float, right: float) -> np.ndarray:
        kernel = np.exp(-((at[0] - 32 + down) ** 2 / 8 + (at[1] - 32 + right) ** 2 / 3))
        return kernel / kernel.sum()

    assert correlation(bell(0.375, 0.25), bell(0, 0)) == pytest.approx(1, abs=1e-6)


def row(**values):
    return {
        "kind": "disc", "size": 9, "format": "PNG", "image": "x", "photographs": "held out", "blurred": 20.0,
        "blind": 21.0, "known": 25.0, "correlation": 0.9, "warnings": [], "seconds": 1.0,
        "unchecked": 21.0, "estimate": "point estimate",
    } | values  # fmt: skip


def test_the_table_counts_losses_without_a_warning():
    rows = [row(), row(blind=19.0), row(blind=19.0, image="said", warnings=["rings"]), row(blind=19.8)]
    withheld = {"blind": 20.0, "estimate": "the unchanged image", "warnings": ["not found"], "correlation": 0.5}
    rows += [row(**withheld), row(**withheld, unchecked=20.2)]
    text = table(rows)
    assert "| disc | 6 | -0.20 |  |  |  | -0.20 | +5.00 | 67 % | 3 | 2 | 1 | 1 |" in text
    assert "silent: disc 9, x, PNG.\n" in text
    assert "with the true kernel: none.\n" in text
    assert "with the true kernel: disc 9, x, PNG.\n" in table([row(known=19.0)])


def test_runs_go_on_where_they_stopped(tmp_path, monkeypatch):
    made = []

    def one(run, scene, folder):
        made.append(run)
        return {"blind": 1.0}

    scene = torch.zeros(3, 8, 8)
    monkeypatch.setattr(
        runs_module, "scenes", lambda side, photos: {(i, j): ("x", scene) for i in range(8) for j in (0, 1)}
    )
    monkeypatch.setattr(runs_module, "one", one)
    chosen = design()[:4]
    list(run(tmp_path, chosen[:2], 96))
    list(run(tmp_path, chosen, 96))
    assert made == chosen
    list(run(tmp_path, chosen[:1], 128))
    assert made == [*chosen, chosen[0]]
    assert [r["side"] for r in rows_of(tmp_path)] == [96, 96, 96, 96, 128]
    json.dumps(rows_of(tmp_path))


@pytest.mark.slow
def test_a_short_shake_is_found_in_a_file(tmp_path):
    """The whole row of one run: more than the blurred file, less than with the true kernel."""
    from benchmarks.blind.design import scenes

    chosen = Run("smooth shake", 9, 0, NAMES.index("camera"), 0, "PNG", 0.00929, "held out")
    measured = runs_module.one(chosen, scenes(192)[chosen.photograph, chosen.crop][1], tmp_path)
    assert measured["blurred"] + 1 < measured["blind"] < measured["known"]
    assert measured["correlation"] > 0.8
    assert measured["warnings"] == []
