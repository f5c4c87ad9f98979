"""The task auto: what it finds in real files, and what it leaves alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image as Pil
from test_restore import SmoothPrior, photograph

import invsolve as iv
from invsolve.bench.data import packaged
from invsolve.commands.cli import main
from invsolve.core.checks import InputError
from invsolve.io import Image, read_image, write_image
from invsolve.noise.estimate import noise_of
from invsolve.restoration import prepare
from invsolve.restoration.options import Options
from invsolve.tasks.auto import holes_of

QUICK = {"prior": SmoothPrior(), "settings": {"n_steps": 1, "turns": False}}


def crop(index: int, side: int = 192) -> torch.Tensor:
    """A part of a photograph in the package, half as large: without noise of its own."""
    x = read_image(packaged()[index]).pixels[:, : 2 * side, : 2 * side]
    return (torch.nn.functional.interpolate(x[None], scale_factor=0.5, mode="area")[0] * 255).round() / 255


def noisy(x: torch.Tensor, level: float) -> torch.Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return ((x + level * noise).clamp(0, 1) * 255).round() / 255


def file(path: Path, x: torch.Tensor, quality: int) -> Path:
    Pil.fromarray((x * 255).round().byte().permute(1, 2, 0).numpy()).save(path, "JPEG", quality=quality)
    return path


def found(source) -> tuple[str, iv.Restoration]:
    done = iv.restore(source, **QUICK)
    return done.record["auto"]["task"], done


@pytest.mark.parametrize("index", [1, 2, 3])
def test_a_clean_image_is_returned_unchanged(index):
    x = crop(index)
    task, done = found(x)
    assert task == done.record["task"]["name"] == "unchanged"
    assert torch.equal(done.image.pixels, x)
    assert done.record["stats"]["network_forwards"] == 0
    assert "unchanged" in done.record["auto"]["found"][-1]


def test_a_clean_image_has_no_samples_and_needs_no_calibration():
    table = Path(iv.__file__).parent / "presets" / "calibration-natural.json"
    done = iv.restore(crop(1), prior=QUICK["prior"], samples=2, calibration=table)
    assert done.record["auto"]["task"] == "unchanged"
    assert done.samples is None


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_a_file_to_which_nothing_was_done_is_copied(tmp_path, capsys, monkeypatch, ending):
    """Byte for byte where the format stays, and so it is said; else, or where a quality is asked for, written anew."""
    monkeypatch.chdir(tmp_path)
    how = {"quality": 98, "subsampling": 0} if ending == "jpg" else {"lossless": True} if ending == "webp" else {}
    Pil.fromarray((crop(1, 96) * 255).byte().permute(1, 2, 0).numpy()).save(f"a.{ending}", comment="mine", **how)
    content = Path(f"a.{ending}").read_bytes()
    assert main(["restore", f"a.{ending}"]) == 0
    assert Path(f"a-restored.{ending}").read_bytes() == content
    assert "the file was copied byte for byte" in capsys.readouterr().out
    record = json.loads(Path("a-restored.json").read_text())
    assert record["copied"]
    assert record["estimate"] == "the unchanged image"
    other = "png" if ending != "png" else "tif"
    assert main(["restore", f"a.{ending}", "-o", f"b.{other}"]) == 0
    assert "copied" not in capsys.readouterr().out
    assert not json.loads(Path("b.json").read_text())["copied"]
    assert torch.equal(read_image(f"b.{other}").pixels, read_image(f"a.{ending}").pixels)
    if ending in ("jpg", "webp"):
        assert main(["restore", f"a.{ending}", "-o", f"c.{ending}", "--output-quality", "60"]) == 0
        assert Path(f"c.{ending}").read_bytes() != content


@pytest.mark.parametrize("index", [1, 2, 3])
@pytest.mark.parametrize("level", [0.03, 0.1])
def test_noise_is_denoised(index, level):
    task, done = found(noisy(crop(index), level))
    assert task == done.record["task"]["name"] == "denoise"
    assert 0.7 * level < done.record["auto"]["noise"] < 1.35 * level


@pytest.mark.parametrize("index", [1, 2, 3])
@pytest.mark.parametrize("quality", [30, 60])
def test_a_jpeg_file_is_restored_as_one(tmp_path, index, quality):
    task, done = found(file(tmp_path / "a.jpg", crop(index), quality))
    assert task == done.record["task"]["name"] == "jpeg"
    assert done.record["auto"]["jpeg_quality"] == quality


def test_pixels_that_were_a_jpeg_file_are_restored(tmp_path):
    task, done = found(read_image(file(tmp_path / "a.jpg", crop(1), 30)).pixels)
    assert task == "jpeg"
    assert "before it was saved" in done.record["auto"]["found"][2]


def test_a_noisy_jpeg_file_is_denoised(tmp_path):
    task, _ = found(file(tmp_path / "a.jpg", noisy(crop(3), 0.1), 85))
    assert task == "denoise"


def holed(alpha: torch.Tensor) -> Image:
    return Image(photograph(64, 64), alpha[None].float())


def test_holes_are_filled_and_cut_outs_kept():
    hole, frame = torch.ones(64, 64), torch.ones(64, 64)
    hole[20:30, 24:40] = 0
    frame[:, 50:] = 0
    task, done = found(holed(hole))
    assert task == "inpaint"
    assert done.image.alpha is None
    for alpha in (frame, torch.zeros(64, 64), torch.ones(64, 64), hole.clamp_min(0.5)):
        image = holed(alpha)
        assert not holes_of(image).any()
    task, done = found(holed(frame))
    assert task != "inpaint"
    assert torch.equal(done.image.alpha, frame[None])
    unknown = photograph(64, 64)
    unknown[:, 5:9, 5:9] = torch.nan
    assert found(unknown)[0] == "inpaint"


def test_the_noise_of_a_file_is_read_once(tmp_path, monkeypatch):
    """What it was when the file was looked at, and what it is for the task that follows from it."""
    reads = []

    def counted(*args):
        reads.append(noise_of(*args))
        return reads[-1]

    monkeypatch.setattr(prepare, "noise_of", counted)
    for source, task in ((file(tmp_path / "a.jpg", noisy(crop(3), 0.1), 85), "denoise"), (crop(2), "unchanged")):
        reads.clear()
        told, done = found(source)
        assert told == task
        assert len(reads) == 1
        assert done.record["noise"]["sigma"] == reads[0].sigma


def scattered(share: float, side: int = 96) -> torch.Tensor:
    return (torch.rand(side, side, generator=torch.Generator().manual_seed(0)) >= share).float()


def test_scratches_letters_and_single_pixels_are_holes_wherever_they_end():
    """A cut-out reaches the border, too; its transparent part is wide."""
    scratch, letters, sprite = torch.ones(96, 96), torch.ones(96, 96), torch.zeros(16, 16)
    scratch[30:33], scratch[:, 70:72] = 0, 0
    letters[40:48:2, ::3] = 0
    sprite[4:12, 3:13] = 1
    corners, edge = torch.ones(96, 96), torch.ones(96, 96)
    for part in (corners[:4, :4], corners[-4:, :4], corners[:4, -4:], corners[-4:, -4:], edge[0], edge[:, :2]):
        part[...] = 0
    disc = (torch.arange(96) - 48).square()
    cut_out = (disc[:, None] + disc[None] < 40**2).float()
    for share in (0.05, 0.5, 0.9):
        assert holes_of(Image(photograph(96, 96), scattered(share)[None])).float().mean() > 0.9 * share
    for alpha in (scratch, letters):
        assert torch.equal(holes_of(Image(photograph(96, 96), alpha[None])), alpha == 0)
    for alpha in (sprite, corners, edge, cut_out, 1 - cut_out):
        assert not holes_of(Image(photograph(*alpha.shape), alpha[None])).any()


def test_where_no_noise_can_be_read_a_level_is_assumed_and_said():
    image = Image(photograph(96, 96), scattered(0.93)[None])
    task, done = found(image)
    assert task == "inpaint"
    assert done.record["noise"]["method"] == "assumed"
    assert "cannot be estimated from so few neighbouring pixels, so 0.01" in " ".join(done.record["auto"]["found"])
    assert found(Image(photograph(2, 2)))[0] == "unchanged"
    with pytest.raises(InputError, match="too small to estimate its noise"):
        iv.restore(photograph(2, 2), "denoise", **QUICK)


def test_options_of_a_task_name_it():
    assert Options.of(factor=2).task == "superres"
    assert Options.of(mask=torch.ones(3, 3)).task == "inpaint"
    assert Options.of(blur_sigma=2.0).task == "deblur"
    assert Options.of(kernel_size=9).task == "blind-deblur"
    assert Options.of(compression=40).task == "jpeg"
    assert Options.of(noise=0.1, factor=None).task == "auto"
    with pytest.raises(InputError, match="belongs to the task"):
        Options.of(factor=2, compression=40)


def test_auto_cannot_be_simulated():
    with pytest.raises(InputError, match="cannot be simulated"):
        iv.restore(photograph(), simulate=True, **QUICK)


def test_the_command_line_needs_no_task_and_says_what_was_found(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "a.png", Image(noisy(photograph(96, 96), 0.1)))
    assert main(["restore", "a.png", "--prior", "test_restore:smooth", "--set", "n_steps=2"]) == 0
    told = capsys.readouterr().out
    assert "96 x 96 pixels; noise of 0." in told
    assert "the noise is removed" in told
    assert json.loads((tmp_path / "a-restored.json").read_text())["auto"]["task"] == "denoise"


@pytest.mark.parametrize("quality", [75, None])
def test_defaults_gain_on_noisy_photographs(tmp_path, quality):
    x = crop(3, 96)
    y = noisy(x, 0.1)
    source = y if quality is None else file(tmp_path / "a.jpg", y, quality)
    done = iv.restore(source)
    before, after = (float((image - x).square().mean()) for image in (done.degraded, done.image.pixels))
    assert 10 * math.log10(before / after) > 3
