"""The noise of a file: its level within a third of the right one, whatever the file went through; and its use."""

from __future__ import annotations

import dataclasses
import io
import math
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

import invsolve as iv
from benchmarks.noise.files import KINDS, noisy_file
from benchmarks.noise.levels import ESTIMATORS, standard_images
from invsolve.bench.data import packaged
from invsolve.core.checks import InputError, ShapeError
from invsolve.io import Image, read_image, write_image
from invsolve.noise.clipping import clipped_mean, undo_clipped_mean
from invsolve.noise.estimate import noise_of
from invsolve.noise.estimated import given_noise
from invsolve.noise.network import WEIGHTS, NoiseNetwork, packaged_noise_network
from invsolve.noise.sensor import SensorNoise
from invsolve.noise.stabilise import stabiliser_of
from invsolve.noise.tiles import MAX_TILES, tiles_of
from invsolve.noise.white import estimate_sigma
from invsolve.tasks.blind.network import packaged_kernel_network

RIGHT = (0.7, 1.35)
SIGMAS = (0.02, 0.1)


def rms(error: np.ndarray[Any, Any]) -> float:
    return math.sqrt(float((error**2).mean()))


def white(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def photograph(name: str = "chelsea") -> np.ndarray[Any, Any]:
    return standard_images()[name]


@pytest.fixture(scope="module")
def ratios() -> dict[str, list[float]]:
    """Estimates over right values of every kind of file, by estimator; the others' for the first image alone."""
    found: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for image in (photograph("astronaut"), photograph("chelsea")):
        for sigma in SIGMAS:
            for kind in KINDS:
                y, truth, _ = noisy_file(image, sigma, kind)
                for name, estimator in ESTIMATORS.items():
                    if name == "invsolve" or len(found[name]) < len(SIGMAS) * len(KINDS):
                        found[name].append(estimator(y) / rms(y - truth))
    return found


def wrong(ratios: list[float]) -> int:
    return sum(not RIGHT[0] <= ratio <= RIGHT[1] for ratio in ratios)


def test_estimating_leaves_the_random_numbers_of_the_caller_alone():
    packaged_noise_network.cache_clear()
    before = torch.get_rng_state()
    iv.estimate_noise(torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0)))
    packaged_kernel_network.cache_clear()
    packaged_kernel_network()
    assert torch.equal(torch.get_rng_state(), before)


def test_levels_are_right_in_files_of_every_kind(ratios: dict[str, list[float]]) -> None:
    ours = ratios["invsolve"]
    assert len(ours) == 2 * len(SIGMAS) * len(KINDS)
    assert wrong(ours) <= len(ours) * 4 / 84


def test_levels_are_better_than_those_of_other_libraries(ratios: dict[str, list[float]]) -> None:
    """What finds no number (deepinv's) is wrong, too."""
    shared = {name: np.nan_to_num(values[: len(SIGMAS) * len(KINDS)], nan=1e-3) for name, values in ratios.items()}
    errors = {name: float(np.abs(np.log(np.maximum(values, 1e-3))).mean()) for name, values in shared.items()}
    for name in ESTIMATORS:
        if name != "invsolve":
            assert wrong(list(shared["invsolve"])) < wrong(list(shared[name]))
            assert errors["invsolve"] < 0.7 * errors[name]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0.03, 0.1])
def test_white_noise_of_a_simulation_is_that_of_the_eigenvalues(channels: int, sigma: float) -> None:
    """Values that no file holds: the eigenvalues, which are exact there, are taken."""
    truth = torch.from_numpy(photograph("astronaut")).permute(2, 0, 1)[:channels] * 0.8 + 0.1
    found = noise_of((truth + sigma * white(truth.shape)).float())
    assert found.method == "eigenvalues"
    assert found.sigma == pytest.approx(estimate_sigma((truth + sigma * white(truth.shape)).float()), rel=0.01)
    if sigma > 0.05:
        assert found.sigma == pytest.approx(sigma, rel=0.05)
    assert found.effective == pytest.approx(found.sigma * (1 if channels == 3 else 3**0.5), rel=0.01)
    assert found.correlation_length == 0
    assert found.sure


def test_equal_channels_have_the_noise_of_one() -> None:
    truth = torch.from_numpy(photograph()).permute(2, 0, 1).mean(0)
    y = (truth + 0.1 * white(truth.shape)).clamp(-0.4, 1.4).float()
    one, three = noise_of(y[None]), noise_of(y.expand(3, -1, -1))
    assert three.sigma == pytest.approx(0.1, abs=0.02)
    assert three.chroma < 0.3 * three.luma
    assert three.effective == pytest.approx(one.effective, rel=0.15)
    assert given_noise(0.1, y.expand(3, -1, -1)).effective == pytest.approx(0.1 * 3**0.5)
    assert given_noise(0.1, torch.stack([y, y, y + 0.1])).effective == pytest.approx(0.1)


def test_a_clean_image_has_almost_no_noise() -> None:
    for image in (photograph("astronaut"), photograph("coffee")):
        found = iv.estimate_noise((image * 255).round().astype(np.uint8))
        assert found.sigma < 0.012


def test_correlation_and_colour_are_read() -> None:
    image = photograph("astronaut")
    soft = iv.estimate_noise(noisy_file(image, 0.05, "correlated-0.7")[0])
    assert 0.4 < soft.correlation_length < 1.1
    assert soft.effective > 1.2 * soft.sigma
    jpeg = iv.estimate_noise(noisy_file(image, 0.05, "jpeg75")[0])
    assert jpeg.history == "jpeg"
    assert jpeg.chroma < jpeg.luma
    assert "JPEG" in jpeg.description
    grey = iv.estimate_noise(noisy_file(image, 0.05, "grey")[0])
    assert grey.chroma < 0.2 * grey.luma
    assert grey.history == "none"


def test_noise_that_grows_with_brightness_gives_its_curve() -> None:
    ramp = np.broadcast_to(np.linspace(0.1, 0.9, 256)[None, :, None], (256, 256, 3))
    noise = np.random.default_rng(0).standard_normal(ramp.shape)
    y = np.clip(ramp + 0.2 * np.sqrt(ramp) * noise * 0.5, 0, 1)
    found = iv.estimate_noise((y * 255).round().astype(np.uint8))
    assert found.depends_on_brightness
    for x in (0.3, 0.7):
        assert found.gain[0] + found.gain[1] * x == pytest.approx(0.01 * x, rel=0.35)
    same = iv.estimate_noise(np.clip(ramp + 0.05 * noise, 0, 1))
    assert not same.depends_on_brightness


def test_the_interval_is_wider_where_the_level_is_hard_to_tell() -> None:
    image = photograph("astronaut")
    easy, hard = (iv.estimate_noise(noisy_file(image, sigma, "jpeg75")[0]) for sigma in (0.1, 0.01))
    assert easy.low <= easy.sigma <= easy.high
    assert math.log(easy.high / easy.low) < math.log(hard.high / hard.low)
    assert easy.sure


@pytest.mark.parametrize("size", [(40, 1000), (96, 96), (257, 300), (1000, 1500), (3000, 2000)])
def test_the_work_does_not_grow_with_the_image(size: tuple[int, int]) -> None:
    coordinates = torch.stack(torch.meshgrid(*(torch.arange(s) for s in size), indexing="ij")).int()
    tiles = tiles_of(coordinates)
    assert 1 <= len(tiles) <= MAX_TILES
    assert max(tiles.shape[2:]) <= 96
    assert bool((tiles[:, :, 0, 0] % 8 == 0).all())
    assert len(torch.unique(tiles[:, :, 0, 0], dim=0)) == len(tiles)
    if min(size) >= 192:
        assert {0, 1} <= {int(t[0, 0, 0] > size[0] / 2) for t in tiles}
        assert {0, 1} <= {int(t[1, 0, 0] > size[1] / 2) for t in tiles}


def test_tiles_hold_known_pixels_alone() -> None:
    known = torch.zeros(300, 400, dtype=torch.bool)
    known[:120] = True
    marked = torch.where(known, 1.0, 0.0)[None]
    tiles = tiles_of(marked, known)
    assert len(tiles) >= 4
    assert bool((tiles == 1).all())
    assert len(tiles_of(marked, torch.rand(300, 400) > 0.5)) == 0


def test_missing_pixels_do_not_count() -> None:
    y = torch.from_numpy(noisy_file(photograph("astronaut"), 0.05, "jpeg85")[0]).permute(2, 0, 1).float()
    known = torch.ones(256, 256, dtype=torch.bool)
    known[100:140, 100:140] = False
    other = torch.where(known, y, 1.0)
    assert noise_of(y, known) == noise_of(other, known)
    assert noise_of(y, known).sigma == pytest.approx(noise_of(y).sigma, rel=0.2)


@pytest.mark.parametrize("form", ["png", "webp"])
def test_transparent_pixels_do_not_count(tmp_path: Any, form: str) -> None:
    """What an editor leaves under a cut-out is flat, which pulled the level down to almost nothing."""
    clean = torch.as_tensor(photograph("astronaut")).permute(2, 0, 1)[:, :256, :256]
    pixels = (clean + 0.08 * white(tuple(clean.shape))).float().clamp(0, 1)
    alpha = torch.ones(1, 256, 256)
    alpha[:, :, 96:] = 0
    pixels[:, :, 96:] = 0.5
    path = write_image(tmp_path / f"a.{form}", Image(pixels, alpha))
    level = iv.estimate_noise(path).sigma
    assert RIGHT[0] * 0.08 < level < RIGHT[1] * 0.08
    assert level == pytest.approx(iv.estimate_noise(pixels[:, :, :96]).sigma, rel=0.2)
    left = torch.zeros(256, 256, dtype=torch.bool)
    left[:, :200] = True
    assert iv.estimate_noise(path, left).sigma == level


def test_small_images_go_on_as_their_mirror_image() -> None:
    x = torch.rand(3, 20, 100, generator=torch.Generator().manual_seed(0))
    tile = tiles_of(x)[0]
    assert tile.shape == (3, 32, 96)
    assert torch.equal(tile[:, :16], x[:, :16, :96])
    assert torch.equal(tile[:, 16:], x[:, :16, :96].flip(1))
    assert len(tiles_of(x[:, :7])) == 0


def test_a_tile_is_read_alone() -> None:
    tiles = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    network = packaged_noise_network()
    for whole, part in zip(network(tiles), network(tiles[1:2]), strict=True):
        assert torch.allclose(whole[1:2], part, atol=1e-5)


def test_files_arrays_and_tensors_are_the_same_image(tmp_path: Any) -> None:
    y = noisy_file(photograph(), 0.05, "png")[0]
    tensor = torch.from_numpy(y).permute(2, 0, 1)
    write_image(tmp_path / "y.png", Image(tensor.float()))
    expected = iv.estimate_noise(tensor)
    assert iv.estimate_noise(y) == iv.estimate_noise(tmp_path / "y.png") == expected
    assert iv.estimate_noise((y * 255).round().astype(np.uint8)) == expected


def test_what_cannot_be_read_is_told_in_a_sentence() -> None:
    with pytest.raises(ShapeError, match="known must have the shape of the image"):
        iv.estimate_noise(torch.rand(3, 64, 64), torch.ones(64, 63, dtype=torch.bool))
    with pytest.raises(InputError, match="too small to estimate"):
        iv.estimate_noise(torch.rand(3, 6, 6))


def test_the_packaged_network_is_small_and_has_a_card() -> None:
    assert WEIGHTS.stat().st_size < 300_000
    card = WEIGHTS.with_suffix(".md").read_text()
    assert "licence" in card
    assert sum(p.numel() for p in NoiseNetwork().parameters()) == sum(
        p.numel() for p in packaged_noise_network().parameters()
    )


@pytest.mark.parametrize("curve", [(0.01, 0.0), (0.04, 0.0), (0.001, 0.03)])
def test_the_mean_of_clipped_noise(curve: tuple[float, float]) -> None:
    """Against quadrature, and undone: in the middle and at both ends."""
    x = torch.tensor([0.0, 0.03, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    n = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    density = (-n.square() / 2).exp() / math.sqrt(2 * math.pi)
    level = (curve[0] + curve[1] * x).sqrt()[:, None]
    expected = torch.trapezoid((x[:, None] + level * n).clamp(0, 1) * density, n, dim=1)
    mean = clipped_mean(x, *curve)
    assert torch.allclose(mean, expected, atol=1e-6)
    assert torch.allclose(undo_clipped_mean(mean, *curve), x, atol=1e-4)
    assert undo_clipped_mean(torch.tensor([0.0, 1.0]), *curve).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("sigma", "allowed"), [(0.1, 0.5), (0.2, 1.0)])
def test_noise_that_a_file_clips_costs_little(sigma: float, allowed: float) -> None:
    """Against noise that nothing clipped; without the correction it costs one to three decibels."""
    truth = photograph("coffee")[64:160, 64:160]
    noise = sigma * np.random.default_rng(0).standard_normal(truth.shape)
    free = restored_psnr(truth + noise, truth, sigma)
    assert restored_psnr(np.clip(truth + noise, 0, 1), truth, sigma) > free - allowed


def restored_psnr(y: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], sigma: float) -> float:
    done = iv.restore(np.clip(y, -0.5, 1.5), "denoise", noise=sigma, quality="fast")
    error = done.image.pixels.permute(1, 2, 0).numpy() - truth
    return -10 * math.log10(float((error**2).mean()))


@pytest.mark.parametrize("curve", [(4e-4, 0.007), (2e-3, 0.01)])
def test_stabilised_noise_has_one_level_and_its_mean_leads_back(curve: tuple[float, float]) -> None:
    """4e5 draws at each brightness: the standard error of a level is 0.1 %."""
    a, b = curve
    f = SensorNoise(a, b)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(f.encode(ends), ends)
    for x in (0.15, 0.4, 0.9):
        drawn = f.encode(x + math.sqrt(a + b * x) * white((400_000,)))
        assert float(drawn.std()) == pytest.approx(f.level, rel=0.04)
        assert float(f.decode(drawn.mean())) == pytest.approx(x, abs=0.1 * b)
        assert abs(float(f.decode(drawn.mean())) - b / 4 - x) > 0.15 * b  # what the correction is for


def test_a_curve_without_noise_at_black_is_lifted_there() -> None:
    found = dataclasses.replace(given_noise(0.1, torch.zeros(3, 8, 8)), gain=(0.0, 0.02), unclipped=0.1)
    lifted = stabiliser_of(found)
    assert lifted is not None
    assert (lifted.a, lifted.b) == pytest.approx((0.003, 0.014))  # the same at the mean brightness, 0.5
    kept = dataclasses.replace(found, gain=(0.004, 0.012))
    assert stabiliser_of(kept) == SensorNoise(0.004, 0.012)
    assert stabiliser_of(given_noise(0.1, torch.zeros(3, 8, 8))) is None


def test_noise_that_grows_with_brightness_is_removed_by_its_curve() -> None:
    """0.5 dB more than at its mean level on this photograph."""
    truth = photograph("astronaut")[40:200, 40:200]
    noise = np.sqrt(2e-4 + 0.015 * truth) * np.random.default_rng(0).standard_normal(truth.shape)
    y = (np.clip(truth + noise, 0, 1) * 255).round() / 255
    pixels = torch.from_numpy(y).permute(2, 0, 1).float()
    done = iv.restore(pixels, "denoise", quality="fast")
    with mock.patch("invsolve.restoration.job.stabiliser_of", return_value=None):
        level = iv.restore(pixels, "denoise", quality="fast")
    clean = torch.from_numpy(truth).permute(2, 0, 1)
    errors = [float((d.image.pixels - clean).square().mean()) for d in (done, level)]
    assert errors[0] < 0.9 * errors[1]
    assert 0.8 < done.record["checks"]["misfit"] < 1.2
    assert done.record["status"] == ["ok"]
    assert done.record["warnings"] == []


def test_what_nothing_clipped_is_left_alone() -> None:
    x = torch.rand(3, 8, 8)
    inside = given_noise(0.1, x * 0.5 + 0.2)
    beyond = given_noise(0.1, x * 1.5 - 0.2)
    weak = given_noise(0.001, (x * 1.5 - 0.2).clamp(0, 1))
    assert not inside.lifts_black
    assert not beyond.lifts_black
    assert not weak.lifts_black
    assert inside.unbiased(x) is x
    assert given_noise(0.1, (x * 1.5 - 0.2).clamp(0, 1)).lifts_black


def test_a_jpeg_is_denoised_at_its_level() -> None:
    truth = photograph()[60:188, 120:248]
    noisy = np.clip(truth + 0.1 * np.random.default_rng(0).standard_normal(truth.shape), 0, 1)
    with io.BytesIO() as buffer:
        Pillow.fromarray((noisy * 255).round().astype("uint8")).save(buffer, "JPEG", quality=95)
        y = np.asarray(Pillow.open(buffer)) / 255
    done = iv.restore(y, "denoise", quality="fast")
    noise = done.record["noise"]
    assert noise["source"] == "estimated"
    assert noise["sigma"] == pytest.approx(rms(y - truth), rel=0.3)
    assert noise["used"] >= noise["sigma"]
    assert "noise of" in noise["found"]
    assert rms(done.image.pixels.permute(1, 2, 0).numpy() - truth) < 0.5 * rms(y - truth)


def test_blind_deblurring_and_enlarging_use_the_effective_level() -> None:
    from invsolve.restoration.options import Options
    from invsolve.restoration.prepare import prepare

    image = torch.from_numpy(noisy_file(photograph(), 0.05, "correlated-0.7")[0]).permute(2, 0, 1).float()
    expected = noise_of(image)
    for task in ("superres", "blind-deblur", "denoise"):
        job = prepare(image, Options.of(task))
        assert job.noise == expected
        assert job.channel_sigma == (expected.cautious if task == "denoise" else expected.effective)
    assert expected.effective > expected.sigma


@pytest.mark.parametrize("side", [16, 20, 28])
def test_detail_of_a_thumbnail_is_not_surely_noise(side: int):
    """A crop of a photograph made smaller has as much detail as noise would make."""
    readings, noisy = [], []
    for path in packaged():
        whole = read_image(path).pixels
        small = torch.nn.functional.interpolate(whole[None], scale_factor=0.25, mode="area")[0]
        crop = small[:, 10 : 10 + side, 10 : 10 + side]
        readings.append(iv.estimate_noise((crop * 255).round() / 255))
        noise = 0.1 * torch.randn(crop.shape, generator=torch.Generator().manual_seed(side))
        noisy.append(iv.estimate_noise(((crop + noise).clamp(0, 1) * 255).round() / 255))
    assert all(reading.low < 0.02 for reading in readings)
    assert not any(reading.sure for reading in readings if reading.sigma > 0.01)
    assert 0.6 < float(np.median([reading.sigma for reading in noisy])) / 0.1 < 1.35
