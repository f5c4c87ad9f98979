"""Enlarging images that were made smaller in different ways."""

from __future__ import annotations

import io
import json
import math
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from test_restore import SmoothPrior, photograph

import invsolve as iv
from invsolve.bench.data import packaged
from invsolve.commands.cli import main
from invsolve.core.checks import InputError
from invsolve.core.linalg import conjugate_gradient
from invsolve.io import Image, read_image, write_image
from invsolve.io.jpeg import turned
from invsolve.noise.white import QUANTISATION
from invsolve.operators import SuperResolution
from invsolve.operators.resize import taps
from invsolve.restoration.options import Options
from invsolve.restoration.prepare import prepare
from invsolve.tasks.decimation import Decimation
from invsolve.tasks.sampling import DROPPED, KINDS, Sampling, read_sampling, spectral_bands
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
    assert operator.in_shape == (3, 30, 32)
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
    with pytest.raises(InputError, match=r"downsampling must be one of .*'lanczos'"):
        iv.restore(photograph(), "superres", downsampling="cubic", prior=SmoothPrior())


def law(side: int) -> torch.Tensor:
    """Grey noise [3, side, side] with the spectrum of photographs, f^-2.4 in power."""
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    x = torch.randn(side, side, generator=torch.Generator().manual_seed(2))
    x = torch.fft.irfft2(torch.fft.rfft2(x) * torch.hypot(rows, columns).clamp_min(1 / side) ** -1.2, s=(side, side))
    return (0.5 + 0.12 * x / x.std()).expand(3, -1, -1).clamp(0, 1)


def made(x: torch.Tensor, how: str, factor: int) -> torch.Tensor:
    return x[:, ::factor, ::factor] if how == "nearest" else Superres(factor, how).degrade(x)[0]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_spectrum_tells_how_an_image_was_made_smaller(factor):
    found = {how: read_sampling(made(law(360), how, factor), factor, compressed=False) for how in KINDS}
    for how, reading in found.items():
        assert reading is not None
        assert sum(reading.probabilities.values()) == pytest.approx(1)
        others = [other.probabilities[how] for name, other in found.items() if name != how and other is not None]
        assert reading.probabilities[how] > max(others)
    assert found["nearest"].safest == "nearest"
    assert found["bicubic"].safest == "bicubic"


def test_dropped_pixels_are_rarer_in_jpeg_files(monkeypatch: pytest.MonkeyPatch):
    def odds() -> float:
        reading = read_sampling(law(96), 2, compressed=True)
        assert reading is not None
        return reading.probabilities["nearest"] / reading.probabilities["area"]

    rare = odds()
    monkeypatch.setitem(DROPPED, "jpeg", 1.0)
    assert odds() == pytest.approx(4 * rare)


def test_the_bands_of_a_spectrum():
    """White noise has as much power in each (standard error of a band: 4 %), a constant none."""
    white = torch.randn(1, 512, 512, generator=torch.Generator().manual_seed(0))
    assert spectral_bands(white).abs().max() < 0.2
    rows = torch.arange(64.0)
    fine = 0.5 + 0.2 * torch.cos(0.9 * math.pi * rows)[:, None] * torch.cos(0.9 * math.pi * rows)
    assert int(spectral_bands(fine[None]).argmax()) == 13  # the corner


def test_what_is_assumed_when_it_cannot_be_told():
    def safest(*probabilities: float) -> str:
        return Sampling(dict(zip(KINDS, probabilities, strict=True))).safest

    assert [safest(*row) for row in ((1, 0, 0), (0, 1, 0), (0, 0, 1))] == list(KINDS)
    assert safest(0.45, 0.43, 0.12) == "area"  # though bicubic is likelier
    assert safest(0.1, 0.3, 0.6) == "nearest"
    assert safest(0.1, 0.6, 0.3) == "area"
    jpeg = [Sampling(dict(zip(KINDS, (0.1, 0.6, 0.3), strict=True)), "jpeg", factor).safest for factor in (2, 3, 4)]
    assert jpeg == ["nearest", "area", "area"]
    assert read_sampling(torch.rand(3, 20, 40), 2, compressed=False) is None


def test_the_middle_of_each_block_is_what_is_seen_of_an_aliased_image():
    x = torch.rand(1, 3, 12, 18, generator=torch.Generator().manual_seed(0))
    point = SuperResolution((3, 12, 18), 3, "point")
    torch.testing.assert_close(point(x), x[..., 1::3, 1::3])
    right = torch.tensor([np.sinc(t) * np.sinc(t / 3) for t in (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)])
    assert [taps(factor, "point")[0] for factor in (2, 3, 4)] == [-2, -1, -1]
    torch.testing.assert_close(taps(2, "point")[1], right / right.sum())
    check_operator(SuperResolution((3, 12, 16), 4, "point")).raise_if_failed()


def test_the_image_is_asked_unless_its_downsampling_is_told():
    small = Image(made(read_image(packaged()[1]).pixels, "nearest", 2))
    looked = Superres.from_options(Superres(2), small, None)
    assert (looked.downsampling, looked.automatic) == ("nearest", True)
    assert isinstance(looked.operator(3, small.size), SuperResolution)  # at the middles of the pixels
    told = Superres.from_options(Superres(2, "nearest"), small, None)
    assert isinstance(told.operator(3, small.size), Decimation)  # the first of every two pixels
    noisy = replace(
        small, pixels=small.pixels + 0.05 * torch.randn(small.pixels.shape, generator=torch.Generator().manual_seed(0))
    )
    assert Superres.from_options(Superres(2), noisy, None) == Superres(2, "area", automatic=True)
    assert Superres.from_options(Superres(2), small, lambda what: iv.Rng(0)) == Superres(2)
    assert torch.equal(Superres(2).degrade(law(64))[0], Superres(2, "bicubic").degrade(law(64))[0])


def test_what_was_found_is_said(tmp_path, capsys):
    write_image(tmp_path / "in.png", Image(made(read_image(packaged()[1]).pixels, "nearest", 2)))
    words = [
        "restore",
        str(tmp_path / "in.png"),
        "--task",
        "superres",
        "--factor",
        "2",
        "--prior",
        "test_restore:smooth",
    ]
    assert main([*words, "--set", "n_steps=2"]) == 0
    told, record = capsys.readouterr().out, json.loads((tmp_path / "in-restored.json").read_text())
    assert record["task"]["found"] in told
    assert "close to interpolation" in told
    assert record["task"]["downsampling"] == "nearest"
    assert main([*words, "--set", "n_steps=2", "--downsampling", "bicubic", "--overwrite"]) == 0
    assert "aliased" in capsys.readouterr().err


def test_what_may_be_aliased_is_interpolated_at_larger_factors():
    """At a factor of 4 a sixteenth of the pixels is left: restorations of it were 4 to 10 dB below interpolation."""
    x = read_image(packaged()[1]).pixels
    small = made(x, "nearest", 4)
    done = iv.restore(small, "superres", factor=4, prior=SmoothPrior(), samples=2)
    assert done.record["task"]["found"].endswith("enlarged by interpolation")
    assert done.record["estimate"] == "bicubic interpolation"
    assert done.record["stats"]["network_forwards"] == 0
    assert done.samples is None
    assert not done.record["warnings"]
    size = (4 * small.shape[1], 4 * small.shape[2])
    right = torch.nn.functional.interpolate(small[None], size=size, mode="bicubic")[0].clamp(0, 1)
    torch.testing.assert_close(done.image.pixels, right)


def test_kept_pixels_are_restored_as_those_of_inpainting():
    """Told that every second pixel was kept, what lies between is filled: above linear interpolation in place."""
    x = read_image(packaged()[1]).pixels[:, 64:128, 64:128]
    done = iv.restore(x[:, ::2, ::2], "superres", factor=2, downsampling="nearest")
    assert "for inpaint" in done.record["solver"]["chosen"]["reason"]
    linear = x[:, ::2, ::2]
    for _ in (0, 1):
        following = torch.cat([linear[:, 1:], linear[:, -1:]], 1)
        linear = torch.stack([linear, (linear + following) / 2], 2).flatten(1, 2).transpose(1, 2)
    gained = (linear - x).square().mean() / (done.image.pixels - x).square().mean()
    assert gained > 1


@pytest.mark.parametrize("how", ["bicubic", "area", "lanczos", "nearest"])
def test_an_image_that_is_enlarged_by_default_is_not_below_bicubic(how):
    """A crop of a photograph in the package, made smaller in each way: floors in dB."""
    x = read_image(packaged()[2]).pixels[:, 80:192, 80:192]
    y = (made(x, how, 2) * 255).round() / 255
    done = iv.restore(y, "superres", factor=2, quality="fast").image.pixels
    before, after = (float((z.clamp(0, 1) - x).square().mean()) for z in (Superres(2).baseline(y)[1], done))
    assert 10 * math.log10(before / after) > (-0.05 if how == "nearest" else 0.3)


def test_noise_that_is_not_sure_is_not_taken_from_an_enlarged_image():
    """Where the level read off the image may be detail, its lower bound counts; in denoising the cautious one."""
    small = made(read_image(packaged()[1]).pixels, "area", 2)
    jobs = {
        task: prepare(small, Options.of(task, **told)) for task, told in (("superres", {"factor": 2}), ("denoise", {}))
    }
    assert not jobs["superres"].noise.sure
    assert jobs["superres"].channel_sigma == pytest.approx(max(jobs["superres"].noise.low, QUANTISATION))
    assert jobs["denoise"].channel_sigma == pytest.approx(jobs["denoise"].noise.cautious)
    noisy = small + 0.05 * torch.randn(small.shape, generator=torch.Generator().manual_seed(0))
    sure = prepare(noisy, Options.of("superres", factor=2))
    assert sure.noise.sure
    assert sure.channel_sigma == pytest.approx(sure.noise.effective)


def test_a_jpeg_file_is_known_by_its_pixels():
    """The same as from the file, where what was a JPEG file comes as an array."""
    x = read_image(packaged()[1]).pixels
    image = small_jpeg(x, 60)
    looked, of_pixels = (Superres.from_options(Superres(2), one, None) for one in (image, replace(image, jpeg=None)))
    assert looked.codec is not None
    assert of_pixels.codec is not None
    assert of_pixels.codec.tables.quality == looked.codec.tables.quality == 60
    assert (looked.codec.source, of_pixels.codec.source) == ("file", "pixels")
    assert of_pixels.downsampling == looked.downsampling


def test_tiny_images_are_enlarged_where_their_noise_is_told():
    small = torch.rand(3, 6, 5)
    done = iv.restore(
        small, "superres", factor=2, noise=0.01, prior=SmoothPrior(), solver="pnp-hqs", settings={"n_steps": 1}
    )
    assert done.image.pixels.shape == (3, 12, 10)
    with pytest.raises(InputError, match="give it with --noise"):
        iv.restore(small, "superres", factor=2, prior=SmoothPrior(), solver="pnp-hqs", settings={"n_steps": 1})


def test_hidden_colours_do_not_tell_how_an_image_was_made_smaller():
    """A cut-out on hidden black or white is looked at as what is seen of it."""
    x = read_image(packaged()[1]).pixels[:, :192, :192]
    small = torch.nn.functional.interpolate(x[None], scale_factor=0.5, mode="bicubic", antialias=True)[0].clamp(0, 1)
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    alpha = ((rows - 48) ** 2 + (columns - 48) ** 2 < 40**2).float()[None]
    looked = []
    for hidden in (0.0, 1.0, 0.5):
        image = Image(torch.where(alpha > 0, small, hidden), alpha)
        looked.append(Superres.from_options(Superres(2), image, None))
    assert looked[0].sampling == looked[1].sampling == looked[2].sampling
    assert {each.downsampling for each in looked} == {looked[0].downsampling}


def test_the_noise_of_a_turned_file_is_read_by_its_own_tables(monkeypatch: pytest.MonkeyPatch):
    told = []
    from invsolve.noise import estimate

    real = estimate.noise_of
    monkeypatch.setattr(estimate, "noise_of", lambda *a: told.append(a[3]) or real(*a))
    image = small_jpeg(read_image(packaged()[1]).pixels, 60)
    Superres.from_options(Superres(2), image, None)
    assert told == [image.jpeg]
