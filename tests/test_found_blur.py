"""Calibrating intervals where the blur is found by the program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.ndimage import shift
from test_blind_deblur import cartoon
from test_restore import SmoothPrior
from torch import Tensor

import invsolve as iv
from invsolve.bench.suite import TaskSpec
from invsolve.commands.cli import main
from invsolve.io import Image
from invsolve.io.jpeg import JPEGTables
from invsolve.restoration import Restoration
from invsolve.restoration.calibration import Calibration
from invsolve.restoration.options import Options
from invsolve.restoration.prepare import prepare
from invsolve.tasks.blind_deblur import BlindDeblur
from invsolve.tasks.jpeg import JPEG
from invsolve.tune.calibrate import Setup, calibrate
from invsolve.tune.found_blur import REACH, blurred_photograph, found_blur, moved_to


def smooth_image(side: int) -> Tensor:
    """[3, side, side] without detail that a fraction of a pixel would change."""
    coarse = iv.Rng(3).normal(torch.empty(1, 3, side // 8, side // 8))
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0]
    return (0.5 + 0.15 * fine).clamp(0, 1)


@pytest.mark.parametrize("by", [(0.0, 0.0), (0.4, -0.7), (-3.3, 2.25), (5.0, 0.5)])
def test_an_image_is_moved_to_where_it_resembles_another_by_fractions_of_a_pixel(by):
    image = smooth_image(96)
    other = torch.stack([torch.from_numpy(shift(c.double().numpy(), by, order=5, mode="mirror")) for c in image])
    noisy = other + 0.01 * iv.Rng(0).normal(other[None])[0]
    inner = (slice(None), slice(12, -12), slice(12, -12))
    assert float((moved_to(image, noisy, REACH)[inner] - other[inner]).abs().max()) < 2e-3


def test_a_photograph_is_blurred_as_a_file_shows_it():
    image = cartoon(140)
    y, clean, kernel = blurred_photograph(image, 0.01, 5)
    assert y.shape == clean.shape == (3, 106, 106)
    assert torch.equal((y * 255).round() / 255, y)
    again = blurred_photograph(image, 0.01, 5)
    assert torch.equal(again[0], y)
    assert not torch.equal(blurred_photograph(image, 0.01, 6)[2], kernel)
    assert torch.equal(clean, image[:, 17:-17, 17:-17])
    noise = y - blurred_photograph(image, 1e-9, 5)[0]
    assert float(noise.std()) == pytest.approx(0.01, rel=0.05)
    sampler = iv.Rng(5).normal(y[None])[0]
    assert abs(float(torch.corrcoef(torch.stack([noise.flatten(), sampler.flatten()]))[0, 1])) < 0.03


def restored_as(shown: Tensor, *, found: bool = True) -> Restoration:
    samples = torch.stack([shown - 0.02, shown + 0.02])
    result = iv.Result(samples[None], (("ok", "ok"),), torch.zeros(1, 2), {}, iv.Stats(1.0, 0.0, 3.0, 0), 0, {})
    return Restoration(Image(shown), samples if found else None, shown, None, {}, result)


def test_a_case_compares_at_the_best_shift_and_leaves_out_what_was_not_found(monkeypatch: pytest.MonkeyPatch):
    image = smooth_image(160)
    _, clean, _ = blurred_photograph(image, 0.01, 0)
    beside = torch.stack([torch.from_numpy(shift(c.double().numpy(), (1.3, -0.6), order=5)) for c in clean]).float()
    asked = {}

    def restore(y: Tensor, task: str, **options) -> Restoration:
        asked.update(options, task=task, size=tuple(y.shape))
        return restored_as(beside.clamp(0, 1), found=asked.pop("found", True))

    monkeypatch.setattr("invsolve.tune.found_blur.restore", restore)
    found = found_blur(image, 0.01, 0, samples=2)
    assert found is not None
    assert asked == {"task": "blind-deblur", "size": (3, 126, 126), "noise": 0.01, "seed": 0, "samples": 2}
    assert found.truth.shape == (3, 126 - 2 * REACH, 126 - 2 * REACH)
    assert found.samples.shape == (2, *found.truth.shape)
    assert float((found.truth - found.centre).abs()[:, 6:-6, 6:-6].max()) < 0.01
    asked["found"] = False
    assert found_blur(image, 0.01, 0, samples=2) is None


def test_unknown_blurs_have_a_table_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    shown = smooth_image(140)
    seeds: list[int] = []

    def restore(y: Tensor, task: str, *, seed: int, **options) -> Restoration:
        seeds.append(seed)
        return restored_as((y + 0.01).clamp(0, 1), found=seed % 2 == 0)

    monkeypatch.setattr("invsolve.tune.found_blur.restore", restore)
    setup, spec = Setup(SmoothPrior(), "toy", samples=2), TaskSpec("b", "blind-deblur", 0.01)
    calibrate(setup, [spec], torch.stack([shown] * 3), tmp_path / "c.json", lambda cell: None)
    (cell,) = Calibration.read(tmp_path / "c.json").cells
    assert (cell.kind, cell.severity, cell.noise, cell.images) == ("blind-deblur", 1.0, 0.01, 2)
    assert seeds == [0, 1, 2]  # each photograph has a blur of its own
    known = TaskSpec("d", "denoise", 0.01)
    with pytest.raises(iv.InputError, match="at least 133 pixels: give --size"):
        calibrate(setup, [known, spec], torch.rand(2, 3, 64, 64), tmp_path / "d.json", lambda cell: None)
    assert not (tmp_path / "d.json").exists()  # before anything was measured
    with pytest.raises(iv.InvsolveError, match="not found in any image"):
        calibrate(replace(setup, seed=1), [spec], shown[None], tmp_path / "e.json", lambda cell: None)


def test_a_restoration_takes_the_table_of_unknown_blurs():
    """That of known blurs for deblurring; the kind of a JPEG file is one of which neither table knows."""
    y = cartoon(120)
    for task, about, kind in (("blind-deblur", {}, "blind-deblur"), ("deblur", {"blur_sigma": 1.0}, "deblur-gaussian")):
        job = prepare(y, Options.of(task, noise=0.01, samples=2, **about))
        table, source = job.calibration
        assert table is not None
        assert source == "packaged"
        assert job.task.severity[0] == kind
        assert kind in {cell.kind for cell in table.cells}
    blind = BlindDeblur(torch.ones(3, 3) / 9, codec=JPEG(JPEGTables.of_quality(75), 0.01))
    assert blind.severity == ("blind-deblur-jpeg", 1.0)


def test_options_of_a_blur_are_none_of_an_unknown_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["calibrate", "--images", str(tmp_path), "--task", "blind-deblur", "--length", "9"]
    assert main([*words, "-o", str(tmp_path / "c.json")]) == 2
    assert "omit --length" in capsys.readouterr().err
