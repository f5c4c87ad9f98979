"""Enlarging images that were made smaller in different ways."""

from __future__ import annotations

import io
import math
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from test_restore import SmoothPrior, photograph

import invsolve as iv
from invsolve.bench.data import packaged
from invsolve.core.checks import InputError
from invsolve.core.linalg import conjugate_gradient
from invsolve.io import Image, read_image
from invsolve.io.jpeg import turned
from invsolve.tasks.decimation import Decimation
from invsolve.tasks.superres import Superres
from invsolve.testing import check_operator

PILLOW = {"bicubic": Pil.Resampling.BICUBIC, "area": Pil.Resampling.BOX, "lanczos": Pil.Resampling.LANCZOS}


@pytest.mark.parametrize("how", PILLOW)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_operators_do_what_pillow_does(how, factor):
    x = torch.rand(1, 24 * factor, 30 * factor, generator=torch.Generator().manual_seed(0))
    small = np.asarray(Pil.fromarray(x[0].numpy()).resize((30, 24), PILLOW[how]))
    made = Superres(factor, how).operator(1, (24, 30))(x[None])[0, 0].numpy()
    # Pillow cuts its filters at the border, the operators mirror the image there
    inner = slice(4, -4)
    assert np.abs(made[inner, inner] - small[inner, inner]).max() < 1e-5


@pytest.mark.parametrize("factor", [2, 3])
def test_decimation_keeps_its_contract(factor):
    operator = Decimation((1, 2 * factor, 3 * factor), factor)
    check_operator(operator).raise_if_failed()
    x = torch.rand(1, 1, 2 * factor, 3 * factor)
    assert torch.equal(operator(x), x[..., ::factor, ::factor])
    assert torch.equal(operator(operator.pinv(operator(x))), operator(x))
    solved = operator.solve_normal(x, 0.3)
    torch.testing.assert_close(operator.normal(solved) + 0.3 * solved, x)
    y = operator(x)
    torch.testing.assert_close(operator.ridge(y, 0.3), operator.solve_normal(operator.adjoint(y), 0.3))


@pytest.mark.parametrize("how", ["bicubic", "area", "lanczos", "nearest"])
def test_the_right_filter_restores_best(how):
    """The image that was made smaller one way is restored better when that is told than when another way is."""
    small = Superres(2, how).degrade(photograph())[0]
    scores = {}
    for told in ("bicubic", "area", "lanczos", "nearest"):
        done = iv.restore(
            small, "superres", factor=2, downsampling=told, noise=0.003, prior=SmoothPrior(), settings={"n_steps": 30}
        )
        scores[told] = float((done.image.pixels - photograph()).square().mean())
    assert scores[how] < 1.02 * min(scores.values())
    assert scores["nearest"] == max(scores.values()) or how == "nearest"
    assert done.record["task"]["downsampling"] == "nearest"


def small_jpeg(x: torch.Tensor, quality: int, **how) -> Image:
    """The image made half as large by Pillow, through a real file."""
    whole = Pil.fromarray((x * 255).round().byte().permute(1, 2, 0).numpy().squeeze())
    file = io.BytesIO()
    half = whole.resize((whole.width // 2, whole.height // 2), Pil.Resampling.BICUBIC)
    half.save(file, "JPEG", quality=quality, **how)
    return file_image(file)


def file_image(file: io.BytesIO) -> Image:
    with tempfile.NamedTemporaryFile(suffix=".jpg") as named:
        named.write(file.getvalue())
        named.flush()
        return read_image(named.name)


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("how", ["bicubic", "nearest"])
def test_the_compressed_small_image_keeps_its_contract(colour, how):
    image = small_jpeg(photograph(30, 32, 3 if colour else 1), 60)
    task = Superres.from_options(Superres(2, how), image, None)
    assert task.codec is not None
    operator = task.operator(3, image.size)
    assert operator.in_shape == (3, 32, 32)
    check_operator(operator).raise_if_failed()
    y = torch.rand(1, *operator.out_shape, dtype=torch.float64)
    exact = conjugate_gradient(lambda v: operator(operator.adjoint(v)) + 0.3 * v, y, max_iter=4000).x
    found, right = operator.ridge(y, 0.3), operator.adjoint(exact)
    assert (found - right).norm() < 0.01 * right.norm()


def test_what_a_file_holds_is_compared_in_its_cells():
    x = (photograph(64, 64) * 255).round() / 255
    image = small_jpeg(x, 50, subsampling=0)
    task = Superres.from_options(Superres(2), image, None)
    assert task.noise_level is not None
    off = (task.operator(3, image.size)(x[None])[0] - task.measurement(image.pixels, 3)) / task.noise_level
    assert 0.2 < off.square().mean().sqrt() < 1.3  # what was taken was foretold


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_a_turned_file_is_enlarged_upright(orientation):
    exif = Pil.Exif()
    exif[0x0112] = orientation
    options = {"factor": 2, "prior": SmoothPrior(), "settings": {"n_steps": 2, "turns": False}}
    done = iv.restore(small_jpeg(photograph(52, 68), 60, exif=exif), "superres", **options)
    plain = iv.restore(small_jpeg(photograph(52, 68), 60), "superres", **options)
    assert done.image.size == ((52, 68) if orientation == 1 else (68, 52))
    assert (done.image.pixels - turned(plain.image.pixels, orientation)).abs().max() < 2e-3
    assert done.record["task"]["compression"]["quality"] == 60
    assert done.record["noise"]["source"] == "task"


def test_a_noisy_file_counts_as_noisy():
    noise = 0.2 * torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(0))
    image = small_jpeg((photograph(128, 128) + noise).clamp(0, 1), 92)
    assert Superres.from_options(Superres(2), image, None).codec is None


@pytest.mark.parametrize("quality", [75, 90])
def test_an_enlarged_jpeg_is_above_bicubic(quality):
    """Crops of photographs in the package: floors in dB."""
    gains = []
    for path in packaged()[1:3]:
        x = read_image(path).pixels[:, 96:192, 96:192]
        image = small_jpeg(x, quality)
        done = iv.restore(image, "superres", factor=2, quality="fast").image.pixels
        before, after = (
            float((y.clamp(0, 1) - x).square().mean()) for y in (Superres(2).baseline(image.pixels)[1], done)
        )
        gains.append(10 * math.log10(before / after))
    assert min(gains) > 0.1, gains


def test_an_unknown_filter_is_refused():
    with pytest.raises(InputError, match=r"downsampling is one of .*'lanczos'"):
        iv.restore(photograph(), "superres", downsampling="cubic", prior=SmoothPrior())
