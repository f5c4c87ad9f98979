"""Blurred images that were compressed: what a JPEG file tells about each frequency is what a restoration goes by."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from PIL import Image as Pil
from test_blind_deblur import blurred
from test_restore import SmoothPrior, photograph
from test_superres_kinds import file_image
from torch import Tensor
from torch.nn import functional as F

import invsolve as iv
from invsolve.bench.data import packaged
from invsolve.core.linalg import conjugate_gradient
from invsolve.io import Image, read_image, write_image
from invsolve.io.jpeg import turned
from invsolve.operators import camera_shake_kernel
from invsolve.tasks.blind_deblur import BlindDeblur, BlindOptions
from invsolve.tasks.deblur import Deblur, DeblurOptions
from invsolve.testing import check_operator

KERNEL = camera_shake_kernel(9.0, 0.4, iv.Rng(3)).float()


def file_of(x: Tensor, quality: int, **how: Any) -> Image:
    """The image [C, H, W] through a real JPEG file."""
    values = (x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Pil.fromarray(values[..., 0] if len(x) == 1 else values).save(file, "JPEG", quality=quality, **how)
    return file_image(file)


def told(image: Image) -> Deblur:
    """The task of a user who knows the kernel."""
    return Deblur.from_options(DeblurOptions(kernel=KERNEL), image, None)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_blurred_and_compressed_image_keeps_its_contract(channels: int, orientation: int) -> None:
    exif = Pil.Exif()
    exif[0x0112] = orientation
    image = file_of(photograph(30, 41, channels), 60, exif=exif)
    operator = told(image).operator(3, image.size)
    check_operator(operator).raise_if_failed()
    y = torch.rand(1, *operator.out_shape, dtype=torch.float64)
    exact = conjugate_gradient(lambda v: operator(operator.adjoint(v)) + 0.3 * v, y, max_iter=4000).x
    found, right = operator.ridge(y, 0.3), operator.adjoint(exact)
    assert (found - right).norm() < 0.01 * right.norm()


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_what_a_file_does_not_tell_is_foretold(noise: float) -> None:
    """Noise that was there before the compression counts as well."""
    x = read_image(packaged()[1]).pixels[:, :184, :200]
    y = blurred(x, KERNEL, noise)
    task = told(file_of(y, 75, subsampling=0))
    assert task.noise_level is not None
    shown = file_of(y, 75, subsampling=0).pixels
    scene = torch.zeros(task.operator(3, (y.shape[1], y.shape[2])).in_shape)
    scene[:, : x.shape[1], : x.shape[2]] = x
    operator = task.operator(3, (y.shape[1], y.shape[2]))
    off = (operator(scene[None])[0] - task.measurement(shown, 3)) / task.noise_level
    assert 0.4 < off.square().mean().sqrt() < 1.2
    true = float((shown - blurred(x, KERNEL, 0.0)).square().mean().sqrt())
    assert 0.7 * true < task.noise_level < 1.5 * true


@pytest.mark.parametrize("orientation", [6, 3])
def test_a_turned_file_is_restored_upright(orientation: int) -> None:
    exif = Pil.Exif()
    exif[0x0112] = orientation
    y = blurred(photograph(72, 88), KERNEL)
    options: dict[str, Any] = {"prior": SmoothPrior(), "settings": {"n_steps": 2, "turns": False}}
    done = iv.restore(file_of(y, 70, exif=exif), "deblur", kernel=turned(KERNEL, orientation), **options)
    plain = iv.restore(file_of(y, 70), "deblur", kernel=KERNEL, **options)
    assert (done.image.pixels - turned(plain.image.pixels, orientation)).abs().max() < 5e-3
    assert done.record["task"]["compression"]["quality"] == 70
    assert done.record["noise"]["source"] == "task"


def test_pixels_of_a_file_count_as_the_file(tmp_path) -> None:
    image = file_of(blurred(read_image(packaged()[1]).pixels[:, :200, :200], KERNEL), 60)
    write_image(tmp_path / "saved.png", Image(image.pixels))
    task = told(read_image(tmp_path / "saved.png"))
    assert task.codec is not None
    assert (task.codec.tables.quality, task.codec.source) == (60, "pixels")
    assert told(Image(blurred(photograph(), KERNEL))).codec is None


def test_looking_for_a_kernel_goes_by_the_file_as_well() -> None:
    image = file_of(blurred(photograph(), KERNEL), 60)
    task = BlindDeblur.from_options(BlindOptions(kernel_size=9), image, None)
    assert task.noise_level == told(image).noise_level
    assert task.joint().noise_level == task.noise_level


def test_the_corrected_kernel_from_edges_restores_and_another_one_checks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Correction and check allow for the noise before the compression, which the file hides in part."""
    image, told_sigma, of_grey = file_of(blurred(photograph(), KERNEL, 0.03), 60), [], []
    edges, second = torch.eye(9, dtype=torch.float64) / 9, torch.ones(9, 9, dtype=torch.float64) / 81
    first = edges.flip(0)
    monkeypatch.setattr("invsolve.tasks.blind.edges.estimate_kernel", lambda *a: edges)
    monkeypatch.setattr(
        "invsolve.tasks.blind.network.corrected_kernel",
        lambda y, k, sigma: of_grey.append((k is edges, sigma)) or first,
    )
    monkeypatch.setattr(
        "invsolve.tasks.blind.joint.refine_kernel",
        lambda y, k, sigma, p: told_sigma.append((k is first, sigma)) or second,
    )
    task = BlindDeblur.from_options(BlindOptions(kernel_size=9), image, None)
    found = task.identified(image.pixels, 0.001, SmoothPrior())
    assert found.codec is not None
    assert told_sigma == [(True, found.codec.noise)]
    assert of_grey == [(True, pytest.approx(found.codec.noise / 3**0.5))]
    assert found.codec.noise > 0.001
    assert found.estimated_kernel is first
    assert found.second_kernel is second


def test_intervals_of_blurred_files_are_outside_the_calibration() -> None:
    """It was measured on simulations, which compress nothing."""
    assert told(file_of(blurred(photograph(), KERNEL), 60)).severity[0] == "deblur-motion-jpeg"
    assert told(Image(blurred(photograph(), KERNEL))).severity[0] == "deblur-motion"


@pytest.mark.parametrize("quality", [60, 75])
def test_a_blurred_file_is_restored_by_what_it_tells(quality: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops of photographs in the package: better than with white noise of the level that is read or that was taken."""
    errors = []
    for path in packaged()[1:3]:
        x = read_image(path).pixels[:, 64:208, 64:208]
        image = file_of(blurred(x, KERNEL, 0.003), quality)
        task = told(image)
        clean = task.visible(x, image.size)
        done = [iv.restore(image, "deblur", kernel=KERNEL)]
        with monkeypatch.context() as patch:
            patch.setattr(Deblur, "codec_of", staticmethod(lambda image, simulation: None))
            done += [iv.restore(image, "deblur", kernel=KERNEL, noise=level) for level in ("auto", task.noise_level)]
        errors.append([float((each.image.pixels - clean).square().mean()) for each in done])
    by_file, read, taken = torch.tensor(errors).log10().mean(0)
    assert by_file < min(read, taken), errors


@pytest.mark.parametrize("quality", [75, 90])
def test_the_right_blur_of_a_file_is_not_doubted(quality: int) -> None:
    """Rounding fills the zeros of a kernel's spectrum, and coefficients that became zero show no power."""
    image = file_of(blurred(read_image(packaged()[1]).pixels[:, :256, :256], KERNEL), quality)
    done = iv.restore(image, "deblur", kernel=KERNEL, quality="fast")
    assert done.record["warnings"] == []
    wide = F.interpolate(KERNEL[None, None], scale_factor=1.6, mode="bicubic").clamp_min(0)[0, 0]
    wide = F.pad(wide, (0, 1 - wide.shape[1] % 2, 0, 1 - wide.shape[0] % 2))
    done = iv.restore(image, "deblur", kernel=wide / wide.sum(), quality="fast")
    assert any("wider than the image shows" in sentence for sentence in done.record["warnings"])


def test_a_file_that_tells_no_frequency_does_not_doubt_the_blur() -> None:
    flat = 0.5 + 0.004 * torch.randn(3, 48, 48, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"prior": SmoothPrior(), "settings": {"n_steps": 2, "turns": False}}
    done = iv.restore(file_of(flat, 10), "deblur", blur_sigma=1.5, **options)
    assert (done.record["checks"]["blur_size"], done.record["checks"]["blur_evidence"]) == (1, 0)
