"""What bounds the noise of a file, and what denoising and JPEG restoration make of files that have hardly any."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from PIL import ImageDraw
from torch import Tensor
from torch.nn import functional as F

import invsolve as iv
from invsolve.bench.data import packaged
from invsolve.io import read_image
from invsolve.io.cosines import cosines, inverse_cosines
from invsolve.io.jpeg import JPEGTables
from invsolve.io.jpeg_history import found_quality
from invsolve.noise.estimate import noise_of
from invsolve.noise.evidence import bounds_of
from invsolve.noise.white import QUANTISATION
from invsolve.tasks.jpeg_cells import reach_of, within_cells
from invsolve.tasks.jpeg_codec import coefficients

SIGMA = 0.04


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ramp(height: int = 192, width: int = 192) -> Tensor:
    y, x = torch.meshgrid(torch.linspace(0.3, 0.6, height), torch.linspace(0.3, 0.7, width), indexing="ij")
    return torch.stack([x, y, (x + y) / 2])


def photograph(index: int, side: int = 96) -> Tensor:
    """A part of a photograph in the package, half as large: without noise of its own."""
    x = read_image(packaged()[index]).pixels[:, : 2 * side, : 2 * side]
    return (F.interpolate(x[None], scale_factor=0.5, mode="area")[0] * 255).round() / 255


def texture(side: int = 192) -> Tensor:
    """Forty waves of 4 to 9 pixels in all directions: fine texture all over, nothing at the highest frequencies."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    turns = torch.rand(40, 3, generator=torch.Generator().manual_seed(1))
    waves = sum(
        torch.sin(2 * math.pi * (x * math.cos(6.3 * a) + y * math.sin(6.3 * a)) / (4 + 5 * b) + 6.3 * c)
        for a, b, c in turns.tolist()
    )
    assert isinstance(waves, Tensor)
    return (0.5 + 0.1 * waves / waves.std()).clamp(0.02, 0.98).expand(3, -1, -1)


def text(side: int = 128) -> Tensor:
    page = Pil.new("RGB", (side, side), (246, 244, 238))
    draw = ImageDraw.Draw(page)
    for row in range(5):
        draw.text((12, 12 + 15 * row), "quick brown fox", fill=(20, 20, 60))
    return torch.from_numpy(np.array(page)).permute(2, 0, 1) / 255


def saved(x: Tensor, path: Path | io.BytesIO, **how) -> Path | io.BytesIO:
    values = (x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Pil.fromarray(values).save(path, **how)
    return path


def decoded(x: Tensor, quality: int, subsampling: int = 2) -> Tensor:
    file = saved(x, io.BytesIO(), format="JPEG", quality=quality, subsampling=subsampling)
    return torch.from_numpy(np.array(Pil.open(file))).permute(2, 0, 1) / 255


def psnr(x: Tensor, truth: Tensor) -> float:
    return -10 * math.log10(float((x - truth).square().mean()) + 1e-12)


def test_block_cosines_are_orthonormal() -> None:
    x = normal(2, 16, 24).double()
    assert torch.allclose(inverse_cosines(cosines(x)), x)
    assert float(cosines(x).square().sum()) == pytest.approx(float(x.square().sum()))


@pytest.mark.parametrize("sigma", [0.01, SIGMA, 0.1])
def test_white_noise_is_bounded_by_itself(sigma: float) -> None:
    y = ramp() + sigma * normal(3, 192, 192)
    found = bounds_of(y)
    assert found.before is None
    for bound in (found.flat, found.white):
        assert bound == pytest.approx(sigma / 3**0.5, rel=0.12)


@pytest.mark.parametrize("quality", [75, 90, 95])
def test_quantisation_steps_bound_the_noise_before_compression(quality: int) -> None:
    """What zeroes hide is told by their share, also where the decoded blocks show a half of the noise."""
    y = decoded(ramp() + SIGMA * normal(3, 192, 192), quality)
    found = bounds_of(y, None, JPEGTables.of_quality(quality)).before
    assert found is not None
    assert 0.8 * SIGMA / 3**0.5 < found < 1.4 * SIGMA / 3**0.5


def test_noise_that_grows_with_brightness_is_bounded_at_its_mean() -> None:
    x = torch.linspace(0.1, 0.9, 192).expand(3, 192, 192)
    y = x + (0.002 * x).sqrt() * normal(3, 192, 192)
    level = (0.002 * 0.5 / 3) ** 0.5
    assert bounds_of(y, gain=(0.0, 0.002)).flat == pytest.approx(level, rel=0.15)
    assert bounds_of(y).flat < 0.75 * level


def test_clipped_places_tell_nothing() -> None:
    """Half of the image is black, where the file holds half of the noise."""
    x = ramp()
    x[:, :, :96] = 0.0
    y = decoded((x + 0.03 * normal(3, 192, 192)).clamp(0, 1), 75)
    tables = JPEGTables.of_quality(75)
    near, clear = bounds_of(y, None, tables), bounds_of(y, None, tables, clear=0.06)
    assert near.flat < 0.6 * clear.flat
    assert clear.before == pytest.approx(0.03 / 3**0.5, rel=0.3)


def test_unknown_pixels_do_not_count() -> None:
    y = ramp() + SIGMA * normal(3, 192, 192)
    known = torch.ones(192, 192, dtype=torch.bool)
    known[40:90, 40:140] = False
    hidden = torch.where(known, y, 0.5)
    assert bounds_of(hidden, known).flat == pytest.approx(bounds_of(y, known).flat, rel=0.02)
    assert bounds_of(hidden).flat < 0.5 * bounds_of(y).flat
    nothing = bounds_of(y[:, :10, :10])
    assert nothing.flat == nothing.white == math.inf


def test_texture_is_not_noise() -> None:
    """The network takes it for noise; the high frequencies of its quietest places do not hold any."""
    for quality in (75, 90, 95):
        found = noise_of(decoded(texture(), quality), tables=JPEGTables.of_quality(quality))
        assert not found.shown
        assert not found.sure
        assert found.cautious < 0.01
        assert found.description.startswith("noise of at most")
    noisy = noise_of(((ramp() + SIGMA * normal(3, 192, 192)) * 255).round() / 255)
    assert noisy.shown
    assert noisy.cautious == noisy.effective == pytest.approx(SIGMA, rel=0.1)


@pytest.mark.parametrize("index", [2, 3])
def test_a_clean_file_reads_little_noise_before_compression(index: int) -> None:
    x = photograph(index, 128)
    found = noise_of(decoded(x, 90), tables=JPEGTables.of_quality(90))
    assert found.at_most < 0.02
    assert found.cautious < 0.02


@pytest.mark.parametrize("sigma", [0.05, 0.15])
def test_correlated_noise_in_a_jpeg_file_is_shown_by_its_flat_places(sigma: float) -> None:
    """Its high frequencies hold little, which white noise of this level would fill."""
    line = torch.exp(-torch.arange(-3.0, 4.0).square() / (2 * 0.7**2))
    kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, -1, -1)
    soft = F.conv2d(normal(1, 3, 198, 198), kernel, groups=3)[0]
    y = decoded((ramp() + sigma * soft / soft.std()).clamp(0, 1), 90)
    found = noise_of(y, tables=JPEGTables.of_quality(90))
    assert found.shown
    assert found.cautious > 0.8 * found.effective > 0.8 * sigma


def test_channels_that_are_equal_are_one_in_very_small_images() -> None:
    """Too small for the network: the level of the mean of the channels counts, not a third of it."""
    y = ramp(24, 24).mean(0, keepdim=True) + 0.1 * normal(1, 24, 24)
    one, three = noise_of(y), noise_of(y.expand(3, -1, -1))
    assert one.method == three.method == "differences"
    assert three.effective == pytest.approx(one.effective, rel=0.02)
    assert three.chroma < 0.01 * three.luma
    assert 0.7 * 0.1 * 3**0.5 < one.effective < 1.4 * 0.1 * 3**0.5


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("orientation", [1, 6])
def test_results_stay_in_the_cells(subsampling: int, orientation: int) -> None:
    sampling = (2, 2) if subsampling else (1, 1)
    tables = JPEGTables(*_tables(60), sampling, orientation)
    x = photograph(2, 64)[:, :60, :50]
    from invsolve.io.jpeg import turned, unturned

    y = turned(decoded(x, 60, subsampling), orientation)
    wild = (y + 0.1 * normal(*y.shape)).double()
    far, near = (coefficients(unturned(image, orientation), tables)[0] for image in (wild, y))
    assert float(((far - near).abs() < 0.56).double().mean()) < 0.9
    kept = within_cells(wild, y, tables, 0.5)
    before, found = (coefficients(unturned(image, orientation), tables) for image in (y, kept))
    inside = [(a - b).abs()[:7, :6] for a, b in zip(found, before, strict=True)]
    shares = (0.99, 0.9, 0.9) if subsampling else (0.99,) * 3  # colours: the decoder's interpolation is undone
    assert all(float((off < 0.56).double().mean()) >= least for off, least in zip(inside, shares, strict=True))
    assert (within_cells(y, y, tables) - y).abs().max() < 0.02


def _tables(quality: int) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    tables = JPEGTables.of_quality(quality)
    return tables.luma, tables.chroma


def test_the_reach_is_smaller_at_high_qualities() -> None:
    assert reach_of(JPEGTables.of_quality(20)) == reach_of(JPEGTables.of_quality(50)) == 0.25
    assert reach_of(JPEGTables.of_quality(85)) == reach_of(JPEGTables.of_quality(98)) == pytest.approx(0.1)
    assert reach_of(JPEGTables.of_quality(67)) == pytest.approx(0.25 - 0.15 * 17 / 35)


@pytest.mark.parametrize("task", ["denoise", "jpeg"])
@pytest.mark.parametrize(("quality", "subsampling"), [(75, 2), (90, 2), (95, 0)])
def test_a_clean_jpeg_file_is_never_worse_than_before(
    tmp_path: Path, task: str, quality: int, subsampling: int
) -> None:
    for truth in (photograph(2), photograph(3), text()):
        path = saved(truth, tmp_path / "a.jpg", quality=quality, subsampling=subsampling)
        done = iv.restore(path, task, quality="fast")
        assert psnr(done.image.pixels, truth) > psnr(done.degraded, truth) - 0.1


def test_a_clean_lossless_file_is_hardly_touched(tmp_path: Path) -> None:
    for truth in (photograph(1), photograph(3), text()):
        path = saved(truth, tmp_path / "a.png")
        done = iv.restore(path, "denoise", quality="fast")
        assert psnr(done.image.pixels, (truth * 255).round() / 255) > 45


def test_the_quality_of_a_former_jpeg_file_is_found_among_clipped_blocks() -> None:
    x = photograph(2, 128)
    x[:, :, 96:] = 1.0
    x[:, 20:70, 100:120] = 0.0
    for quality in (30, 75, 90):
        assert found_quality(decoded(x, quality)) == quality
    assert found_quality(x) is None


def test_levels_are_at_least_that_of_rounding() -> None:
    found = noise_of(torch.full((3, 128, 128), 0.5))
    assert found.sigma == found.cautious == pytest.approx(QUANTISATION, rel=0.01)
