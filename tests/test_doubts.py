"""A restoration says when the task was told wrongly, when it failed, and nothing where all is well."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from test_restore import SmoothPrior, photograph, smooth
from torch import Tensor
from torch.nn import functional as F

from invsolve.commands.cli import main
from invsolve.io import Image, write_image
from invsolve.operators import gaussian_kernel
from invsolve.restoration import restore
from invsolve.restoration.doubts import FOUND, SHOWN, doubts_of
from invsolve.restoration.job import Job
from invsolve.restoration.options import Options
from invsolve.restoration.prepare import prepare
from invsolve.restoration.spectrum import read_size
from invsolve.restoration.told import Doubts

SIDE = 64


def scene(height: int = SIDE, width: int = SIDE) -> Tensor:
    """An image [3, H, W] with edges, fine stripes and flat parts."""
    x = photograph(height, width)
    x[:, 10:30, 12:40] = 0.8
    x[:, 35:55, ::3] = 0.15
    return x.clamp(0, 1)


def noisy(x: Tensor, sigma: float) -> Tensor:
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def blur(x: Tensor, sigma: float) -> Tensor:
    kernel = gaussian_kernel(sigma).float()
    radius = len(kernel) // 2
    framed = F.pad(x[None], (radius,) * 4, mode="reflect")
    return F.conv2d(framed.transpose(0, 1), kernel[None, None])[:, 0]


def job(y: Tensor, task: str, **options: Any) -> Job:
    return prepare(y, Options.of(task, **options))


def doubts(which: Job, result: Tensor) -> Doubts:
    return doubts_of(which, result[None], {})


def test_nothing_is_said_of_a_right_restoration():
    clean = scene()
    assert doubts(job(noisy(clean, 0.05), "denoise"), clean).warnings == []
    assert doubts(job(noisy(clean, 0.05), "denoise", noise=0.05), clean).warnings == []
    hole = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    hole[20:44, 20:44] = True
    assert doubts(job(noisy(clean, 0.01), "inpaint", mask=hole.numpy()), clean).warnings == []


def test_hidden_pixels_do_not_tell_the_noise() -> None:
    """A cut-out: the image is noisy, and what its opacity hides is flat."""
    generator = torch.Generator().manual_seed(0)
    pixels = (0.5 + 0.1 * torch.randn(3, 128, 256, generator=generator)).clamp(0, 1)
    alpha = torch.ones(1, 128, 256)
    pixels[..., 128:], alpha[..., 128:] = 0.5, 0.0
    done = restore(Image(pixels, alpha), "denoise", noise=0.1, settings={"n_steps": 1})
    assert done.record["checks"]["noise_seen"] == pytest.approx(0.1, rel=0.2)


def test_highlights_of_a_float_image_are_clipped_with_a_warning():
    """They are no failure of the solver, whatever their share."""
    clean = scene()
    clean[:, :8, :8] = 2.5
    y = noisy(clean, 0.05)
    found = doubts(job(y, "denoise", noise=0.05), clean)
    assert found.failures == []
    (sentence,) = found.warnings
    assert sentence.startswith("1.6 % of the values are beyond black and white")
    assert doubts(job(y.clamp(0, 1), "denoise", noise=0.05), clean).failures != []


@pytest.mark.parametrize(("told", "word"), [(0.01, "less than the image shows"), (0.3, "times what the image shows")])
def test_a_noise_level_that_the_image_does_not_show(told: float, word: str):
    found = doubts(job(noisy(scene(), 0.05), "denoise", noise=told), scene())
    assert any(word in sentence for sentence in found.warnings)
    assert found.checks["noise_seen"] == pytest.approx(0.05, rel=0.35)


def test_nothing_is_read_where_nothing_can_be():
    """Noise that was told is taken as it is where the image is too small, or has too many holes, to show its own."""
    few = torch.rand(48, 48, generator=torch.Generator().manual_seed(0)) < 0.9
    assert "noise_seen" not in doubts(job(scene(48, 48), "inpaint", mask=few.numpy(), noise=0.01), scene(48, 48)).checks
    assert "noise_seen" not in doubts(job(scene()[:, :9, :9], "denoise", noise=0.01), scene()[:, :9, :9]).checks


def test_a_hole_is_as_wide_as_the_largest_disc_in_it():
    holes = torch.zeros(96, 96, dtype=torch.bool)
    holes[20:68, 20:68] = True
    holes[:, 80] = True  # a long scratch is none
    found = doubts(job(scene(96, 96), "inpaint", mask=holes.numpy()), scene(96, 96))
    assert found.checks["hole"] == pytest.approx(47, abs=1.5)
    assert any("pixels wide" in sentence for sentence in found.warnings)
    scratch = doubts(job(scene(96, 96), "inpaint", mask=(holes & (torch.arange(96) == 80)).numpy()), scene(96, 96))
    assert scratch.checks["hole"] <= 2
    assert scratch.warnings == []


def test_a_jpeg_that_was_stored_as_something_else():
    with io.BytesIO() as file:
        pillow.fromarray((scene(96, 96).permute(1, 2, 0) * 255).byte().numpy()).save(file, "JPEG", quality=30)
        y = torch.from_numpy(np.array(pillow.open(file))).permute(2, 0, 1) / 255
    found = doubts(job(y, "denoise", noise=0.002), y)
    assert any("--task jpeg" in sentence and "quality 30" in sentence for sentence in found.warnings)
    assert not any("JPEG" in sentence for sentence in doubts(job(scene(96, 96), "denoise", noise=0.002), y).warnings)


def speckle(side: int) -> Tensor:
    """Grey noise [3, side, side] with the spectrum of photographs, f^-2.4 in power."""
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    law = torch.hypot(rows, columns).clamp_min(1 / side) ** -1.2
    x = torch.randn(side, side, generator=torch.Generator().manual_seed(1))
    x = torch.fft.irfft2(torch.fft.rfft2(x) * law, s=(side, side))
    return (0.5 + 0.12 * x / x.std()).expand(3, -1, -1).clamp(0, 1)


KERNELS: dict[str, Tensor] = {
    "gaussian": gaussian_kernel(2.0).double(),
    "line": torch.full((1, 11), 1 / 11, dtype=torch.float64),
    "square": torch.full((7, 7), 1 / 49, dtype=torch.float64),
}


def wider(kernel: Tensor) -> Tensor:
    """The kernel stretched by 1.25, within a sixteenth of a pixel, and with odd sides."""
    fine = kernel.repeat_interleave(20, 0).repeat_interleave(20, 1)
    sides = [-(-side * 20 // 16) for side in kernel.shape]
    sides = [side + 1 - side % 2 for side in sides]
    spare = [16 * side - length for side, length in zip(sides, fine.shape, strict=True)]
    framed = F.pad(fine, (spare[1] // 2, spare[1] - spare[1] // 2, spare[0] // 2, spare[0] - spare[0] // 2))
    coarse = F.avg_pool2d(framed[None, None], 16)[0, 0]
    return coarse / coarse.sum()


def blurred(kernel: Tensor) -> Tensor:
    framed = F.pad(speckle(160)[None].double(), (8, 8, 8, 8), mode="reflect").transpose(0, 1)
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    y = F.conv2d(framed, kernel.flip(0, 1)[None, None])[:, 0, 8 - rows : 168 - rows, 8 - columns : 168 - columns]
    return noisy(y.float(), 0.004).clamp(0, 1)


@pytest.mark.parametrize("form", KERNELS)
def test_a_blur_that_was_told_too_wide(form: str):
    """The law of the fit is that of the image: the right size is never outdone by a squared misfit of 15."""
    y, kernel = blurred(KERNELS[form]), KERNELS[form]
    right, wide = (read_size(y.mean(0), told, 0.004 / 3**0.5) for told in (kernel, wider(kernel)))
    assert right.evidence < 10 < 30 < wide.evidence
    assert wide.size == pytest.approx(0.8, abs=0.09)
    options = [{"kernel": kernel.numpy()}, {"kernel": wider(kernel).numpy()}]
    if form == "gaussian":
        options = [{"blur_sigma": 2.0}, {"blur_sigma": 2.5}]
    for told, doubted in zip(options, (False, True), strict=True):
        which = job(y, "deblur", noise=0.004, **told)
        warnings = doubts(which, torch.zeros(3, *which.size)).warnings
        assert any("wider than the image shows" in sentence for sentence in warnings) == doubted


def test_a_residual_with_structure_and_one_of_more_noise():
    squares = (torch.arange(SIDE) // 8 % 2).float()
    clean = (0.3 + 0.4 * (squares[:, None] - squares).abs()).expand(3, -1, -1)
    y = noisy(clean, 0.05)
    soft = doubts(job(y, "denoise"), blur(clean, 1.0))
    assert any("has structure" in sentence for sentence in soft.warnings)
    assert soft.checks["structure"] > 0.2
    little = replace(job(y, "denoise"), noise=replace(job(y, "denoise").noise, sigma=0.025))
    (told,) = doubts(little, clean).warnings
    assert float(told.split("--noise ")[1]) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("value", [5.0, 1e30, 3e38])
def test_results_far_outside_are_failures(value: float):
    y = noisy(scene(), 0.05)
    found = doubts(job(y, "denoise"), scene() + value * (torch.rand(3, SIDE, SIDE) < 0.1))
    assert any("far outside [0, 1]" in sentence for sentence in found.failures)


def test_a_result_that_explains_the_image_worse_than_the_image_itself():
    y = noisy(scene(), 0.02)
    found = doubts(job(y, "deblur", blur_sigma=1.0), torch.zeros(3, *job(y, "deblur", blur_sigma=1.0).size))
    assert any("explains the image worse" in sentence for sentence in found.failures)
    assert found.checks["misfit"] > found.checks["misfit_of_input"]


class BlackPrior(SmoothPrior):
    """Makes black images of everything."""

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return torch.full_like(x_t, -1.0)


def test_the_record_and_its_status_say_so():
    y = noisy(scene(), 0.02)
    done = restore(y, "denoise", prior=BlackPrior(), noise=0.5)
    assert any("times what the image shows" in sentence for sentence in done.record["warnings"])
    assert done.record["status"] == ["ok"]
    black = restore(y, "deblur", blur_sigma=1.0, prior=BlackPrior(), solver="pnp-hqs")
    assert black.record["status"][0].startswith("failed: the result explains the image worse")
    assert black.record["status"][0] in black.record["warnings"]
    assert black.result.status == (tuple(black.record["status"]),)
    assert not black.result.ok


def test_the_search_for_a_blur_is_counted():
    y = noisy(blur(scene()[:, :28, :28], 1.0), 0.01)
    options: dict[str, Any] = {"prior": smooth(), "solver": "pnp-hqs", "settings": {"n_steps": 3}, "noise": 0.01}
    known = restore(y, "deblur", blur_sigma=1.0, **options).record["stats"]
    blind = restore(y, "blind-deblur", kernel_size=5, **options).record
    assert blind["stats"]["network_forwards"] == known["network_forwards"] + 40
    assert blind["task"]["kernel_network_calls"] == 40
    assert blind["stats"]["seconds"] > known["seconds"]


def motions() -> tuple[Tensor, Tensor]:
    """Blurs of nine pixels across and down, [11, 11]."""
    across = torch.zeros(11, 11)
    across[5, 1:10] = 1 / 9
    return across, across.T.contiguous()


def shaken() -> tuple[Tensor, Tensor]:
    """The scene [3, 106, 106] and what a motion across makes of its middle, [3, 96, 96]."""
    sharp = F.pad(speckle(96)[None], (5, 5, 5, 5), mode="reflect")
    return sharp[0], noisy(F.conv2d(sharp.transpose(0, 1), motions()[0][None, None])[:, 0], 0.004).clamp(0, 1)


def test_a_blur_that_was_found_is_not_doubted():
    sharp, y = shaken()
    prepared = job(y, "blind-deblur", kernel_size=11, noise=0.004)
    task = replace(prepared.task, kernel=motions()[0].double(), second_kernel=motions()[0].double())  # pyright: ignore
    _, height, width = task.operator(3, prepared.measured).in_shape
    whole = F.pad(sharp, (0, width - 106, 0, height - 106))
    found = doubts(replace(prepared, task=task), whole)
    assert found.checks["kernel_agreement"] == pytest.approx(1)
    assert found.checks["misfit_of_input"] > 2
    assert not found.warnings
    assert not found.nothing_found


def test_estimates_that_agree_too_little_are_no_blur_however_clearly_the_image_shows_one():
    sharp, y = shaken()
    prepared = job(y, "blind-deblur", kernel_size=11, noise=0.001)
    across, down = (kernel.double() for kernel in motions())
    for share, agreed in ((0.9, False), (0.2, True)):
        mixed = (1 - share) * across + share * down
        task = replace(prepared.task, kernel=mixed, second_kernel=across)  # pyright: ignore
        _, height, width = task.operator(3, prepared.measured).in_shape
        found = doubts(replace(prepared, task=task), F.pad(sharp, (0, width - 106, 0, height - 106)))
        shown = found.checks["kernel_agreement"] + SHOWN * math.log2(found.checks["misfit_of_input"])
        assert shown > FOUND
        assert found.nothing_found is not agreed


def test_a_blur_that_is_not_sure_is_said():
    sharp, y = shaken()
    prepared = job(y, "blind-deblur", kernel_size=11, noise=0.012)
    across, down = (kernel.double() for kernel in motions())
    for share, sure in ((0.5, False), (0.1, True)):
        task = replace(prepared.task, kernel=across, second_kernel=(1 - share) * across + share * down)  # pyright: ignore
        _, height, width = task.operator(3, prepared.measured).in_shape
        found = doubts(replace(prepared, task=task), F.pad(sharp, (0, width - 106, 0, height - 106)))
        assert not found.nothing_found
        assert any("is uncertain" in sentence for sentence in found.warnings) is not sure, found


def test_a_blur_that_fills_the_frame_of_its_kernel_may_be_wider():
    sharp, y = shaken()
    prepared = job(y, "blind-deblur", kernel_size=11, noise=0.004)
    for reach, told in ((4, False), (5, True)):
        kernel = torch.zeros(11, 11, dtype=torch.float64)
        kernel[5, 5 - reach : 6 + reach] = 1 / (2 * reach + 1)
        task = replace(prepared.task, kernel=kernel, second_kernel=kernel)  # pyright: ignore
        _, height, width = task.operator(3, prepared.measured).in_shape
        found = doubts(replace(prepared, task=task), F.pad(sharp, (0, width - 106, 0, height - 106)))
        assert found.checks["kernel_at_border"] == pytest.approx(2 / 11 if told else 0)
        assert any("fills its frame of 11 pixels" in sentence for sentence in found.warnings) is told


def test_a_blur_that_was_not_found_leaves_the_image_as_it_came(monkeypatch: pytest.MonkeyPatch):
    _, y = shaken()
    across, down = motions()
    monkeypatch.setattr("invsolve.tasks.blind.network.corrected_kernel", lambda *a: across)
    monkeypatch.setattr("invsolve.tasks.blind.joint.refine_kernel", lambda *a: down)
    options: dict[str, Any] = {"prior": smooth(), "solver": "pnp-hqs", "settings": {"n_steps": 3}, "noise": 0.004}
    missed = restore(y, "blind-deblur", kernel_size=11, **options)
    assert missed.record["checks"]["kernel_agreement"] == pytest.approx(1 / 9, abs=1e-3)
    assert any("not found" in sentence for sentence in missed.record["warnings"])
    assert torch.equal(missed.image.pixels, y)
    assert missed.record["estimate"] == "the unchanged image"
    drawn = restore(y, "blind-deblur", kernel_size=11, prior=smooth(), noise=0.004, samples=2)
    assert torch.equal(drawn.image.pixels, y)
    assert drawn.samples is None  # those of the solver are of another image
    assert drawn.uncertainty is None
    assert "uncertainty" not in drawn.record
    assert any("unchanged, without samples" in sentence for sentence in drawn.record["warnings"])


def test_warnings_are_lines_of_the_terminal_and_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_image(tmp_path / "in.png", Image(noisy(scene(), 0.05).clamp(0, 1)))
    words = ["restore", str(tmp_path / "in.png"), "--task", "denoise", "--prior", "test_restore:smooth", "--noise"]
    assert main([*words, "0.003"]) == 0
    assert "invsolve: warning:" in (told := capsys.readouterr().err)
    assert "less than the image shows" in told
    assert main([*words, "0.003", "--json", "--overwrite"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert any("less than the image shows" in sentence for sentence in line["warnings"])
