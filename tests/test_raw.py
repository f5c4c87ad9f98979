"""Raw files of cameras: sensor values -> colours, with demosaicing and denoising as one estimate."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import raw_files
import torch

import invsolve as iv
from invsolve import InputError, operators
from invsolve.commands.cli import main
from invsolve.costs import GaussianLikelihood, PoissonGaussianLikelihood
from invsolve.io import read_header, read_image
from invsolve.io.raw import Mosaic
from invsolve.noise.sensor import SensorNoise, estimate_sensor_noise
from invsolve.tasks.demosaic import Demosaic, Sensor

XTRANS = "GBGGRGRGRBGBGBGGRGGRGGBGBGBRGRGRGGBG"
QUICK = {"precision": "float32", "settings": {"n_steps": 10, "average": 2}}


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """[96, 128, 3] in [0, 1]."""
    import skimage.data

    return skimage.data.chelsea()[100:196, 110:238] / 255.0


def noisy(values: np.ndarray, a: float, b: float, seed: int = 0) -> np.ndarray:
    """Values of a sensor with noise of variance a + b x."""
    rng = np.random.default_rng(seed)
    return b * rng.poisson(values.clip(0) / b) + a**0.5 * rng.standard_normal(values.shape)


def psnr(image: torch.Tensor, truth: np.ndarray) -> float:
    return -10 * math.log10(float((image.permute(1, 2, 0) - torch.from_numpy(truth)).square().mean()))


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG", XTRANS])
def test_a_raw_file_gives_the_values_of_the_sensor(tmp_path, photo, pattern):
    if pattern == XTRANS:  # which LibRaw demosaics from 512 pixels on alone
        photo = np.tile(photo, (6, 5, 1))
    else:
        photo = photo[:90, :126]
    values = raw_files.mosaic_of(raw_files.seen_by_camera(photo), pattern)
    path = raw_files.write_dng(tmp_path / "a.dng", values, pattern)
    header, image = read_header(path), read_image(path)
    assert (header.format, header.height, header.width, header.depth) == ("raw", *photo.shape[:2], 16)
    mosaic = image.mosaic
    assert mosaic is not None
    assert mosaic.pattern == pattern
    step = 1 / (raw_files.WHITE - raw_files.BLACK)
    np.testing.assert_allclose(mosaic.values[0], values.clip(-raw_files.BLACK * step, 1), atol=0.51 * step)
    assert mosaic.white_balance == pytest.approx((2.0, 1.0, 1.6))
    np.testing.assert_allclose(mosaic.matrix, raw_files.camera_matrix(), atol=2e-4)
    assert image.depth == 16
    assert psnr(image.pixels, photo) > 25  # LibRaw's own


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sensor_values_are_turned_upright_with_their_pattern(tmp_path, photo, orientation):
    colours = raw_files.seen_by_camera(photo[:30, :42])
    path = raw_files.write_dng(tmp_path / "a.dng", raw_files.mosaic_of(colours), orientation=orientation)
    image = read_image(path)
    assert image.mosaic is not None
    assert image.mosaic.values.shape[1:] == image.pixels.shape[1:]
    task = Demosaic(Sensor(image.mosaic, SensorNoise(1e-6, 1e-4), "file"))
    developed = task.visible(task.observed(image), image.size)
    assert float((developed - image.pixels).abs().mean()) < 0.03  # LibRaw turns, too


def test_development_is_the_standard_one(tmp_path):
    """A smooth image, whose mosaic holds all there is: ours, LibRaw's and the image itself agree."""
    y, x = np.mgrid[0:64, 0:80]
    smooth = np.stack([0.2 + 0.6 * x / 80, 0.3 + 0.3 * y / 64, 0.7 - 0.4 * x / 80], 2)
    path = raw_files.write_dng(tmp_path / "a.dng", raw_files.mosaic_of(raw_files.seen_by_camera(smooth)))
    image = read_image(path)
    assert image.mosaic is not None
    sensor = Sensor(image.mosaic, SensorNoise(1e-6, 1e-5), "file")
    task = Demosaic(sensor)
    ours = task.visible(task.observed(image), image.size)
    inner = (slice(None), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(ours[inner], smooth.transpose(2, 0, 1)[inner], atol=0.004)
    np.testing.assert_allclose(image.pixels[inner], smooth.transpose(2, 0, 1)[inner], atol=0.004)


def test_highlights_beyond_the_weakest_channel_are_white():
    mosaic = Mosaic(torch.ones(1, 4, 4), "RGGB", (2.0, 1.0, 1.6), torch.tensor(raw_files.camera_matrix()).float())
    sensor = Sensor(mosaic, SensorNoise(1e-6, 1e-4), "file")
    task = Demosaic(sensor)
    y = task.observed(iv.io.Image(torch.zeros(3, 4, 4), mosaic=mosaic))
    torch.testing.assert_close(y, torch.ones(3, 4, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(task.visible(y, (4, 4)), torch.ones(3, 4, 4), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("a", "b"), [(1e-6, 1e-4), (1e-5, 2e-3), (1e-3, 1e-3)])
def test_encoded_noise_is_white_and_decoding_is_unbiased(a, b):
    """100 000 draws a value: standard deviations to 0.22 %, so that 1 % is 4.5 of theirs; means as precise."""
    noise, n = SensorNoise(a, b), 100_000
    x = torch.linspace(0.05, 1, 6, dtype=torch.float64)
    drawn = torch.from_numpy(noisy(x[:, None].expand(-1, n).numpy(), a, b))
    encoded = noise.encode(drawn)
    np.testing.assert_allclose(encoded.std(1) / noise.level, 1, atol=0.02)
    np.testing.assert_allclose(noise.encode(torch.tensor([0.0, 1.0])), [0, 1], atol=1e-6)
    spread = (a + b * x).sqrt() / n**0.5
    assert ((noise.decode(encoded.mean(1)) - x).abs() < 5 * spread + 2e-4 * b).all()


def test_decoding_is_unbiased_where_there_are_few_counts():
    """400 000 draws of 1 to 5 counts: means to 0.004 counts at most; the closed form itself is 0.007 off."""
    noise, counts = SensorNoise(0.0, 0.01), torch.tensor([1.0, 2.0, 3.0, 5.0], dtype=torch.float64)
    drawn = torch.poisson(counts[:, None].expand(-1, 400_000), generator=torch.Generator().manual_seed(0))
    found = noise.decode(noise.encode(0.01 * drawn).mean(1)) / 0.01
    torch.testing.assert_close(found, counts, atol=0.03, rtol=0)


def test_the_likelihood_is_that_of_poisson_gaussian_values():
    """Between two images energies differ as those of the exact likelihood do, to a few hundredths of a nat a pixel."""
    a, b, shape = 2e-5, 1e-3, (3, 16, 16)
    generator = torch.Generator().manual_seed(0)
    truth = 0.1 + 0.8 * torch.rand(1, *shape, generator=generator, dtype=torch.float64)
    y = torch.from_numpy(noisy(operators.Demosaicing(shape)(truth).numpy(), a, b))
    noise = SensorNoise(a, b)
    exact = PoissonGaussianLikelihood(operators.Demosaicing(shape), y, 1 / b, a**0.5)
    ours = GaussianLikelihood(operators.Demosaicing(shape), noise.encode(y), noise.level)
    for step in (0.003, 0.01, 0.02):
        other = truth + step * torch.randn(1, *shape, generator=generator, dtype=torch.float64)
        wanted = float(exact(other) - exact(truth))
        found = float(ours(noise.encode(other)) - ours(noise.encode(truth)))
        assert found == pytest.approx(wanted, abs=0.02 * 256, rel=0.05)


def test_noise_is_read_off_the_values():
    """Flat patches of many brightnesses; eight seeds were within 1.32, 1.06 and 1.02 times the variances."""
    a, b = 4e-5, 2e-3
    clean = np.random.default_rng(1).uniform(0, 0.8, (4, 24, 24)).repeat(16, 1).repeat(16, 2)
    clean[:, ::16, 200:] += 0.1  # edges, which do not count
    found = estimate_sensor_noise(torch.from_numpy(noisy(clean, a, b)).float())
    for x, tolerance in ((0.01, 0.5), (0.1, 0.12), (0.5, 0.06)):
        assert found.a + found.b * x == pytest.approx(a + b * x, rel=tolerance)
    with pytest.raises(InputError, match="too few"):
        estimate_sensor_noise(torch.zeros(4, 4, 4))
    with pytest.raises(InputError, match="between black and white"):
        estimate_sensor_noise(torch.ones(4, 64, 64))


def test_restore_demosaics_and_denoises_as_one(tmp_path, photo):
    a, b = 2e-5, 2e-3
    values = noisy(raw_files.mosaic_of(raw_files.seen_by_camera(photo)), a, b)
    path = raw_files.write_dng(tmp_path / "photo.dng", values.clip(max=1), noise=(b, a))
    found = {task: iv.restore(path, task, **QUICK) for task in ("auto", "denoise")}
    assert torch.equal(found["auto"].image.pixels, found["denoise"].image.pixels)
    done = found["auto"]
    assert done.record["task"]["name"] == "demosaic"
    assert done.record["task"]["sensor_noise"] == {"a": pytest.approx(a), "b": pytest.approx(b), "source": "file"}
    assert "colour filters RGGB" in done.record["auto"]["found"][1]
    assert done.record["misfit"][0] == pytest.approx(1, abs=0.15)
    assert psnr(done.image.pixels, photo) > psnr(read_image(path).pixels, photo) + 2
    assert psnr(done.image.pixels, photo) > psnr(done.degraded, photo) + 2
    assert done.image.mosaic is None
    for ending in ("png", "tif", "jpg"):
        out = done.save(tmp_path / f"out.{ending}", comparison=False, record=False)[0]
        written = read_image(out)
        assert written.depth == (8 if ending == "jpg" else 16)
        assert b"Camera" in (written.metadata.exif or b"")
        assert psnr(written.pixels, done.image.pixels.permute(1, 2, 0).numpy()) > 35
    told = ["--precision", "float32", "--set", "n_steps=2", "--set", "average=1", "--no-comparison", "-q"]
    assert main(["restore", str(tmp_path), "-o", str(tmp_path / "many"), "--skip-existing", *told]) == 0
    assert (tmp_path / "many" / "photo-restored.png").is_file()


def test_a_simulation_of_demosaicing(photo):
    done = iv.restore(photo[:64, :64].astype(np.float32), "demosaic", simulate=True, noise=0.02, **QUICK)
    scores = done.record["scores"]
    assert scores["restored"]["psnr"] > scores["interpolated"]["psnr"] + 2
    flat = Demosaic().noisy(torch.full((3, 64, 64), 0.5), 0.02, iv.Rng(0))
    assert float(Demosaic().noise_sample(flat).std()) == pytest.approx(0.02, rel=0.1)  # 3072 draws, 1.3 %
    assert float(flat.std()) < 0.018  # between them are means
    with pytest.raises(InputError, match="in colour"):
        iv.restore(photo[:64, :64, 0], "demosaic", simulate=True)
    with pytest.raises(InputError, match="is already demosaiced"):
        iv.restore(photo, "demosaic")


def test_without_rawpy_a_sentence_names_the_extra(tmp_path, monkeypatch):
    path = raw_files.write_dng(tmp_path / "a.dng", np.full((32, 32), 0.5))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(InputError, match=r"pip install 'invsolve\[raw\]'"):
        read_image(path)


def test_what_the_camera_has_demosaiced_is_refused(tmp_path, photo):
    path = raw_files.write_dng(tmp_path / "a.dng", raw_files.seen_by_camera(photo))
    with pytest.raises(InputError, match="develop it to TIFF, and restore that"):
        read_image(path)


def test_what_is_no_raw_file_is_refused(tmp_path):
    path: Path = tmp_path / "a.dng"
    path.write_bytes(b"II*\0" + b"nonsense" * 20)
    with pytest.raises(InputError, match=r"a\.dng"):
        read_image(path)
    whole = raw_files.write_dng(tmp_path / "b.dng", np.full((64, 64), 0.5)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.dng"):
        read_image(path)
