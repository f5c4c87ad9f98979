"""JPEG: what a file tells about the image it was made of, and its artefacts removed."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from PIL import Image as Pil
from test_restore import SmoothPrior, photograph

import invsolve as iv
from invsolve.bench.suite import TaskSpec
from invsolve.bench.tasks import Measurement, measure
from invsolve.core.checks import InputError
from invsolve.io import read_image
from invsolve.io.jpeg import JPEGTables, turned, unturned
from invsolve.tasks.jpeg import JPEG, encoded
from invsolve.tasks.jpeg_codec import JPEGCoefficients, coefficients, expected_error
from invsolve.tasks.jpeg_history import find_tables
from invsolve.testing import check_operator

SAMPLINGS = {0: (1, 1), 1: (1, 2), 2: (2, 2)}


def detailed(height: int = 96, width: int = 112, channels: int = 3) -> torch.Tensor:
    """A smooth image with fine texture, so that coefficients of many frequencies are not zero."""
    texture = torch.randn(1, height, width, generator=torch.Generator().manual_seed(2))
    return (photograph(height, width, channels) + 0.04 * texture).clamp(0.02, 0.98)


def pillow_of(x: torch.Tensor) -> Pil.Image:
    values = (x * 255).round().byte().permute(1, 2, 0).numpy()
    return Pil.fromarray(values[..., 0] if len(x) == 1 else values)


def write_jpeg(path: Path, x: torch.Tensor, **how) -> Path:
    pillow_of(x).save(path, "JPEG", **how)
    return path


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_the_coefficients_of_a_file_are_found_in_its_pixels(tmp_path, quality, subsampling):
    x = photograph()
    image = read_image(write_jpeg(tmp_path / "a.jpg", x, quality=quality, subsampling=subsampling))
    assert image.jpeg is not None
    assert image.jpeg.quality == quality
    assert image.jpeg.sampling == SAMPLINGS[subsampling]
    assert image.jpeg == JPEGTables.of_quality(quality, sampling=SAMPLINGS[subsampling])
    found = coefficients(image.pixels, image.jpeg)
    whole = [float((plane == plane.round()).double().mean()) for plane in found]
    assert min(whole) > (0.9 if quality > 90 else 0.99)
    # the image's own coefficients lie in the cells, but for the encoder's rounding to 8 bits
    operator = JPEGCoefficients((3, 96, 112), image.jpeg, 1.0)
    exact = operator(((x * 255).round() / 255)[None].double())[0]
    told = JPEG(image.jpeg, 12**-0.5).measurement(image.pixels, 3).double()
    assert float(((exact - told).abs() < 0.5 + 1 / min(image.jpeg.luma)).double().mean()) > 0.99


def test_a_grey_file_has_one_plane(tmp_path):
    image = read_image(write_jpeg(tmp_path / "a.jpg", photograph(channels=1), quality=50))
    assert image.jpeg is not None
    assert image.jpeg.chroma is None
    assert len(coefficients(image.pixels, image.jpeg)) == 1


def test_other_files_have_no_tables(tmp_path):
    pillow_of(photograph()).save(tmp_path / "a.png")
    pillow_of(photograph()).convert("CMYK").save(tmp_path / "b.jpg", "JPEG")
    pillow_of(photograph()).save(tmp_path / "c.jpg", "JPEG", keep_rgb=True)
    for name in ("a.png", "b.jpg", "c.jpg"):
        assert read_image(tmp_path / name).jpeg is None


@pytest.mark.parametrize("sampling", [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("colour", [True, False])
def test_the_operator_keeps_its_contract(sampling, colour):
    tables = JPEGTables.of_quality(60, colour=colour, sampling=sampling if colour else (1, 1))
    operator = JPEGCoefficients((3, 16, 32), tables, 0.1)
    check_operator(operator).raise_if_failed()
    b = torch.rand(2, 3, 16, 32, dtype=torch.float64)
    matrix = torch.stack([operator(e.view(1, 3, 16, 32))[0] for e in torch.eye(3 * 16 * 32, dtype=torch.float64)], 1)
    y = torch.rand(2, *operator.out_shape, dtype=torch.float64)
    exact = matrix.T @ torch.linalg.solve(matrix @ matrix.T + 0.3 * torch.eye(len(matrix)), y.T)
    assert (operator.ridge(y, 0.3).flatten(1).T - exact).norm() < 1e-3 * exact.norm()
    assert operator.solve_normal(b, 0.3).shape == b.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_mark_is_undone_and_applied(tmp_path, orientation):
    x = photograph(40, 56)
    assert torch.equal(turned(unturned(x, orientation), orientation), x)
    exif = Pil.Exif()
    exif[0x0112] = orientation
    image = read_image(write_jpeg(tmp_path / "a.jpg", x, quality=50, exif=exif))
    plain = read_image(write_jpeg(tmp_path / "b.jpg", x, quality=50))
    assert torch.equal(unturned(image.pixels, orientation), plain.pixels)
    options = {"prior": SmoothPrior(), "settings": {"n_steps": 2, "turns": False}}
    a = iv.restore(tmp_path / "a.jpg", "jpeg", **options).image.pixels
    b = iv.restore(tmp_path / "b.jpg", "jpeg", **options).image.pixels
    assert (a - turned(b, orientation)).abs().max() < 1e-4


@pytest.mark.parametrize("mark", [0, 9, 300])
def test_an_orientation_mark_without_a_meaning_is_no_turn(tmp_path, mark):
    """Tables with such a mark swapped the sides of the image, which was not turned."""
    x = photograph(40, 56)
    exif = Pil.Exif()
    exif[0x0112] = mark
    image = read_image(write_jpeg(tmp_path / "a.jpg", x, quality=50, exif=exif))
    assert image.jpeg is not None
    assert image.jpeg.orientation == 1
    restored = iv.restore(image, "jpeg", prior=SmoothPrior(), settings={"n_steps": 2, "turns": False})
    assert restored.image.size == image.size == (40, 56)


@pytest.mark.parametrize("quality", [15, 50, 85])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_the_history_of_an_array_is_found(quality, subsampling):
    file = io.BytesIO()
    pillow_of(detailed()).save(file, "JPEG", quality=quality, subsampling=subsampling)
    import numpy as np

    pixels = torch.from_numpy(np.array(Pil.open(file))).permute(2, 0, 1) / 255
    found = find_tables(pixels)
    assert found is not None
    assert abs(found.quality - quality) <= 1
    assert found.sampling == SAMPLINGS[subsampling]
    assert find_tables(pixels[:, 3:, 5:]) is None


@pytest.mark.parametrize("seed", range(4))
def test_no_history_is_found_where_there_is_none(seed):
    noise = torch.randn(3, 96, 112, generator=torch.Generator().manual_seed(seed))
    for x in (photograph(), (photograph() + 0.1 * noise).clamp(0, 1)):
        assert find_tables((x * 255).round() / 255) is None


@pytest.mark.parametrize(("make", "quality"), [(photograph, 10), (photograph, 30), (photograph, 75), (detailed, 75)])
def test_the_expected_error_is_near_the_true_one(tmp_path, quality, make):
    x = make()
    image = read_image(write_jpeg(tmp_path / "a.jpg", x, quality=quality, subsampling=0))
    true = float((image.pixels - x).square().mean().sqrt())
    assert 0.7 * true < expected_error(image.pixels, image.jpeg) < 1.8 * true


def test_an_image_without_history_is_refused_in_one_sentence():
    with pytest.raises(InputError, match="--compression QUALITY"):
        iv.restore(photograph(), "jpeg", prior=SmoothPrior())
    with pytest.raises(InputError, match="compression must be a whole number in"):
        iv.restore(photograph(), "jpeg", compression=0, prior=SmoothPrior())


@pytest.mark.parametrize("channels", [1, 3])
def test_artefacts_are_removed(tmp_path, channels):
    x = photograph(90, 101, channels)
    path = write_jpeg(tmp_path / "a.jpg", x, quality=20)
    done = iv.restore(path, "jpeg", prior=SmoothPrior())
    before = float((done.degraded - x).square().mean())
    after = float((done.image.pixels - x).square().mean())
    assert after < 0.7 * before  # 1.5 dB
    assert done.record["task"] == {
        "name": "jpeg", "simulated": False, "quality": 20, "sampling": [2, 2] if channels == 3 else [1, 1],
        "tables": "file",
    }  # fmt: skip
    assert done.record["noise"]["source"] == "task"
    assert done.record["misfit"][0] < 1


def test_simulations_and_suites_compress():
    done = iv.restore(photograph(), "jpeg", compression=15, simulate=True, prior=SmoothPrior())
    scores = done.record["scores"]
    assert scores["restored"]["psnr"] > scores["JPEG"]["psnr"] + 1
    spec = TaskSpec("j", "jpeg", 0.01, {"compression": 20})
    made = measure(spec, photograph(64, 64), "item", 0)
    again = Measurement.from_tensors(spec, made.tensors())
    solved = iv.solve(again.problem(SmoothPrior()), iv.solvers.PnPHQS(n_steps=4))
    assert (again.visible(solved.samples[0])[0] - made.truth).square().mean() < (made.y - made.truth).square().mean()
    assert again.residual(solved.samples[0], {}).square().mean() < 2


@pytest.mark.parametrize("quality", [10, 40, 75])
def test_photographs_gain_with_the_packaged_prior(tmp_path, quality):
    """Crops of the photographs in the package at their own sharpness, default settings: floors in dB."""
    from invsolve.bench.data import packaged

    gains = []
    for path in packaged()[1:3]:
        x = read_image(path).pixels[:, 96:176, 96:176]
        done = iv.restore(write_jpeg(tmp_path / path.with_suffix(".jpg").name, x, quality=quality), "jpeg")
        before, after = (float((image - x).square().mean()) for image in (done.degraded, done.image.pixels))
        gains.append(10 * math.log10(before / after))
    assert min(gains) > 0.25, gains


def written(x: torch.Tensor, tables: list[list[int]], sampling: str = "4:2:0") -> io.BytesIO:
    file = io.BytesIO()
    pillow_of(x).save(file, "JPEG", qtables=tables, subsampling=sampling)
    return file


def test_each_colour_has_its_own_table(tmp_path):
    """Also where two slots hold one table, which some encoders write."""
    luma, cb = (list(table) for table in (JPEGTables.of_quality(40).luma, JPEGTables.of_quality(70).chroma or ()))
    luma = [min(255, step + 3) for step in luma]
    for cr in (cb, [min(255, 2 * step + 1) for step in cb]):
        (tmp_path / "a.jpg").write_bytes(written(detailed(), [luma, cb, cr], "4:4:4").getvalue())
        image = read_image(tmp_path / "a.jpg")
        assert image.jpeg is not None
        assert image.jpeg.second == (None if cr == cb else tuple(cr))
        found = coefficients(image.pixels, image.jpeg)
        assert min(float((plane == plane.round()).double().mean()) for plane in found) > 0.99
        check_operator(JPEGCoefficients((3, 16, 32), image.jpeg, 0.1)).raise_if_failed()
        again = coefficients(encoded(image.pixels, image.jpeg), image.jpeg)
        assert min(float((plane == plane.round()).double().mean()) for plane in again) > 0.99


def test_samplings_count_relative_to_the_colours(tmp_path):
    """4:2:2 written as 2x2, 1x2, 1x2."""
    content = bytearray(written(detailed(), [[7] * 64, [9] * 64], "4:2:2").getvalue())
    start = content.index(b"\xff\xc0")
    factors = [start + 11 + 3 * k for k in range(3)]
    assert [content[place] for place in factors] == [0x21, 0x11, 0x11]
    for place, value in zip(factors, (0x22, 0x12, 0x12), strict=True):
        content[place] = value
    (tmp_path / "a.jpg").write_bytes(content)
    with Pil.open(tmp_path / "a.jpg") as image:
        tables = JPEGTables.read(image)
    assert tables is not None
    assert tables.sampling == (1, 2)


def test_the_history_is_looked_for_where_there_is_detail():
    """A photograph on a white sheet."""
    sheet = torch.ones(3, 768, 800)
    sheet[:, 640:736, 672:784] = detailed()
    file = io.BytesIO()
    pillow_of(sheet).save(file, "JPEG", quality=50, subsampling=2)
    import numpy as np

    pixels = torch.from_numpy(np.array(Pil.open(file))).permute(2, 0, 1) / 255
    found = find_tables(pixels)
    assert found is not None
    assert (found.quality, found.sampling) == (50, (2, 2))
