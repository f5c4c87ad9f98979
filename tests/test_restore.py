"""`restore`: good images from degraded ones, the same ones on every run, and clear words where none can be had."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve.core.checks import InputError, InvsolveError
from invsolve.core.linalg import Solution, conjugate_gradient
from invsolve.core.prior import Prior
from invsolve.core.registry import Registry
from invsolve.io import Image, read_image, write_image
from invsolve.noise.white import estimate_sigma
from invsolve.operators.transforms import dct2, idct2
from invsolve.restoration import Restoration, restore
from invsolve.restoration.memory import plan
from invsolve.restoration.settings import build, table
from invsolve.tasks.observed_blur import ObservedBlur

CHROMA = 0.1


class SmoothPrior(Prior):
    """Exact denoiser of Gaussian colour images of any size: cosine coefficients of falling variances, nearly grey."""

    schedule = iv.DDPMSchedule()

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause

    def variances(self, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        rows, columns = torch.arange(height) / height, torch.arange(width) / width
        radius = rows.square()[:, None] + columns.square()
        return (0.25 * height * width / (1 + radius * 3000) ** 3 / 20).clamp_min(1e-5).to(like)

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        time.sleep(self.pause)
        alpha, sigma = self.schedule(t)
        grey = x_t.mean(1, keepdim=True)
        law = self.variances(x_t)
        return sum(
            idct2(alpha * s / (alpha**2 * s + noise) * dct2(part))
            for part, s, noise in ((grey, law, sigma**2 / 3), (x_t - grey, CHROMA * law, sigma**2))
        )  # pyright: ignore[reportReturnType]

    def identity_state(self) -> tuple[()]:
        """The pause decides no result: a run may go on with another."""
        return ()

    def __repr__(self) -> str:
        return "SmoothPrior()"


def smooth(**_: Any) -> Prior:
    """For `--prior test_restore:smooth`."""
    return SmoothPrior()


def photograph(height: int = 96, width: int = 112, channels: int = 3) -> Tensor:
    """A draw from the prior, in [0, 1]."""
    prior = SmoothPrior()
    draw = torch.randn(1 + channels, height, width, generator=torch.Generator().manual_seed(5))
    fields = idct2(prior.variances(draw).sqrt() * draw)
    colour = fields[1:] - fields[1:].mean(0)
    return (0.5 + 0.5 * (fields[:1] + CHROMA**0.5 * colour)).clamp(0.02, 0.98)


SETTINGS: dict[str, dict[str, Any]] = {
    "denoise": {"n_steps": 3},
    "superres": {"n_steps": 6, "sigma_start": 0.5},
    "inpaint": {"n_steps": 8, "sigma_start": 2.0},
    "deblur": {"n_steps": 8, "sigma_start": 2.0},
}
EXTRA: dict[str, dict[str, Any]] = {"superres": {"factor": 2}, "deblur": {"blur_sigma": 2.0}}
GAINS = {"denoise": 10.0, "superres": 2.0, "inpaint": 6.0, "deblur": 3.0}


def simulated(task: str, image: Any = None, **options: Any) -> Restoration:
    base = {"prior": SmoothPrior(), "solver": "pnp-hqs", "settings": SETTINGS[task], "simulate": True}
    return restore(photograph() if image is None else image, task, **{**base, **EXTRA.get(task, {}), **options})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("task", ["deblur", "denoise", "inpaint", "superres"])
def test_restorations_beat_their_baselines(task: str, channels: int) -> None:
    """Against the degraded image for denoising, deblurring and inpainting, against bicubic for super-resolution."""
    noise = 0.1 if task == "denoise" else 0.03
    restored = simulated(task, photograph(channels=channels), noise=noise)
    baseline = next(v for k, v in restored.record["scores"].items() if k != "restored")["psnr"]
    if task == "inpaint":
        baseline = -10 * np.log10(float((restored.degraded - photograph(channels=channels)).square().mean()))
    assert restored.record["scores"]["restored"]["psnr"] > baseline + GAINS[task]
    assert restored.image.pixels.shape == ((channels, 80, 96) if task == "deblur" else (channels, 96, 112))


def test_grey_images_are_denoised_as_well_as_their_noise_allows() -> None:
    """As well as the exact posterior mean of grey images, although three equal channels go through the prior."""
    truth = photograph(channels=1)
    restored = simulated("denoise", truth, noise=0.1, settings={"n_steps": 1, "sigma_start": 0.35, "lam": 1e-6})
    prior, y = SmoothPrior(), restored.degraded[None] * 2 - 1
    gain = prior.variances(y) / (prior.variances(y) + 0.2**2)
    exact = (idct2(gain * dct2(y))[0] + 1) / 2
    best = -10 * np.log10(float((exact.clamp(0, 1) - truth).square().mean()))
    assert restored.record["scores"]["restored"]["psnr"] > best - 0.05


@pytest.mark.parametrize("level", [0.005, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("masked", [False, True])
def test_noise_is_estimated_from_the_image_alone(level: float, masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    truth = photograph(200, 200)
    y = truth + level * torch.randn(truth.shape, generator=generator)
    known = torch.rand(200, 200, generator=generator) < 0.5 if masked else None
    assert estimate_sigma(y, known) == pytest.approx(level, rel=0.2 if masked else 0.05)


def test_estimated_noise_is_what_the_solver_is_told(tmp_path: Path) -> None:
    restored = simulated("denoise", photograph(200, 200), noise="auto")
    assert restored.record["noise"]["source"] == "estimated"
    assert restored.record["noise"]["sigma"] == pytest.approx(0.1, rel=0.05)
    assert restored.record["misfit"][0] == pytest.approx(1.0, rel=0.1)


def test_a_mask_file_and_transparency_mean_the_same(tmp_path: Path) -> None:
    missing = torch.rand(96, 112, generator=torch.Generator().manual_seed(1)) < 0.4
    write_image(tmp_path / "mask.png", Image(missing.float()[None]))
    write_image(tmp_path / "erased.png", Image(photograph(), (~missing).float()[None], 16))
    write_image(tmp_path / "whole.png", Image(photograph(), None, 16))
    options: dict[str, Any] = {"prior": SmoothPrior(), "settings": SETTINGS["inpaint"], "noise": 0.01}
    erased = restore(tmp_path / "erased.png", "inpaint", **options)
    masked = restore(tmp_path / "whole.png", "inpaint", mask=tmp_path / "mask.png", **options)
    assert torch.equal(erased.image.pixels, masked.image.pixels)
    assert erased.image.alpha is None
    hole = (erased.image.pixels - photograph())[:, missing]
    assert float(hole.square().mean().sqrt()) < 0.1


def test_missing_pixels_do_not_count(tmp_path: Path) -> None:
    missing = torch.zeros(96, 112, dtype=torch.bool)
    missing[20:40, 30:60] = True
    options: dict[str, Any] = {
        "prior": SmoothPrior(), "settings": SETTINGS["inpaint"], "noise": 0.01, "mask": missing,
    }  # fmt: skip
    a = restore(photograph(), "inpaint", **options).image.pixels
    b = restore(torch.where(missing, 1.0, photograph()), "inpaint", **options).image.pixels
    assert torch.equal(a, b)


def test_opacity_is_kept(tmp_path: Path) -> None:
    alpha = torch.linspace(0.2, 1, 96)[None, :, None].expand(1, 96, 112).contiguous()
    image = Image(photograph(), alpha, 16)
    kept = restore(image, "denoise", noise=0.02, prior=SmoothPrior(), settings={"n_steps": 1})
    assert kept.image.alpha is not None
    assert torch.equal(kept.image.alpha, alpha)
    larger = restore(image, "superres", factor=2, noise=0.02, prior=SmoothPrior(), settings={"n_steps": 1})
    assert larger.image.alpha is not None
    assert larger.image.alpha.shape == (1, 192, 224)


def test_a_kernel_file_says_what_a_point_became(tmp_path: Path) -> None:
    kernel = torch.zeros(5, 7)
    kernel[0, 6], kernel[2, 3] = 0.25, 0.75
    np.save(tmp_path / "kernel.npy", kernel.numpy())
    point = torch.zeros(3, 40, 40)
    point[:, 20, 20] = 1.0
    blurred = simulated(
        "deblur", point, kernel=tmp_path / "kernel.npy", blur_sigma=None, noise=0.0, settings={"n_steps": 1}
    ).degraded
    assert blurred.shape == (3, 36, 34)  # what can be seen of the scene without knowing what lies around it
    assert blurred[0, 20 - 2, 20 - 3].item() == pytest.approx(0.75, abs=1e-5)
    assert blurred[0, 18 - 2, 23 - 3].item() == pytest.approx(0.25, abs=1e-5)


def test_deblurring_is_as_good_at_the_border_as_inside() -> None:
    """No border is invented: mirroring the image, say, leaves several times the error there."""
    restored = simulated("deblur", photograph(128, 128), noise=0.005)
    assert restored.truth is not None
    error = (restored.image.pixels - restored.truth).square().mean(0)
    inside = torch.zeros_like(error, dtype=torch.bool)
    inside[8:-8, 8:-8] = True
    assert error[~inside].mean() < 2.5 * error[inside].mean()


@pytest.mark.parametrize("lam", [1.0, 1e-2, 1e-4])
def test_the_data_step_of_deblurring_is_solved(lam: float) -> None:
    kernel = torch.rand(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator = ObservedBlur((1, 20, 25), kernel / kernel.sum())
    n = operator.in_shape[1] * operator.in_shape[2]
    basis = torch.eye(n, dtype=torch.float64).view(n, 1, *operator.in_shape)
    matrix = torch.stack([operator(e)[0].flatten() for e in basis], 1)
    b = torch.randn(2, *operator.in_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    system = matrix.T @ matrix + lam * torch.eye(n, dtype=torch.float64)
    exact = torch.linalg.solve(system, b.flatten(1).T).T
    assert (operator.solve_normal(b, lam).flatten(1) - exact).norm() < 0.05 * exact.norm()
    y = torch.randn(2, *operator.out_shape, dtype=torch.float64)
    assert torch.allclose((operator(b) * y).sum(), (b * operator.adjoint(y)).sum())
    exact = torch.linalg.solve(system, matrix.T @ y.flatten(1).T).T
    assert (operator.ridge(y, lam).flatten(1) - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("lam", [1.0, 1e-2, torch.tensor([1e-3, 0.1])])
@pytest.mark.parametrize("error", [1e-1, 1e-3, torch.tensor([1e-2, 1e-4])])
def test_a_data_step_of_deblurring_leaves_no_more_error_than_it_may(lam: Any, error: Any) -> None:
    """<r, P r> bounds the energy of the error: (M F M^T)^-1 <= M F^-1 M^T for any F that is positive definite."""
    kernel = torch.rand(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator = ObservedBlur((1, 20, 25), kernel / kernel.sum())
    y = torch.randn(2, *operator.out_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left = operator.ridge_within(y, lam, error) - operator.ridge_within(y, lam, 1e-12)
    assert (left.flatten(1).square().mean(1).sqrt() <= torch.as_tensor(error)).all()


def test_data_steps_of_deblurring_take_few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(*args: Any, **options: Any) -> Solution:
        solution = conjugate_gradient(*args, **options)
        made.append(solution.iterations)
        return solution

    monkeypatch.setattr("invsolve.tasks.observed_blur.conjugate_gradient", counted)
    simulated("deblur", photograph(64, 64), noise=0.01)
    assert len(made) == 5
    assert made == sorted(made, reverse=True)  # less is left to do as the estimate settles
    assert sum(made) <= 110


def test_a_kernel_that_does_not_sum_to_one_is_normalised_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"noise": 0.01, "prior": SmoothPrior(), "settings": {"n_steps": 2}}
    box = torch.ones(3, 3)
    a = restore(photograph(), "deblur", kernel=box, **options)
    assert "sums to 9" in caplog.text
    caplog.clear()
    b = restore(photograph(), "deblur", kernel=box / 9, **options)
    assert "sums to" not in caplog.text
    assert torch.allclose(a.image.pixels, b.image.pixels, atol=1e-5)


def test_arrays_and_tensors_are_images_too() -> None:
    values = (photograph() * 255).round().byte().permute(1, 2, 0).numpy()
    options: dict[str, Any] = {"noise": 0.05, "prior": SmoothPrior(), "settings": {"n_steps": 2}}
    a = restore(values, "denoise", **options)
    b = restore(torch.from_numpy(values).permute(2, 0, 1) / 255.0, "denoise", **options)
    assert torch.allclose(a.image.pixels, b.image.pixels, atol=1e-6)
    assert restore(values[..., 0], "denoise", **options).image.pixels.shape == (1, 96, 112)


def test_samples_spread_and_their_mean_is_returned(tmp_path: Path) -> None:
    options: dict[str, Any] = {"solver": "dps", "settings": {"form": "ddim", "n_steps": 8, "t_start": 0.3}}
    drawn = simulated("denoise", samples=3, **options)
    assert drawn.samples is not None
    assert drawn.std is not None
    assert float(drawn.std.mean()) > 1e-3
    assert torch.allclose(drawn.image.pixels, drawn.samples.mean(0))
    again = simulated("denoise", samples=3, **options)
    assert again.samples is not None
    assert torch.equal(drawn.samples, again.samples)
    other = simulated("denoise", samples=3, seed=1, **options)
    assert other.samples is not None
    assert not torch.equal(drawn.samples, other.samples)
    alone = simulated("denoise", samples=2, memory=0.05, **options)
    assert alone.samples is not None
    assert (alone.samples - drawn.samples[:2]).abs().max() < 1e-4


def test_everything_is_written_and_the_record_says_how(tmp_path: Path) -> None:
    source = write_image(tmp_path / "in.tif", Image(photograph(), None, 16))
    options: dict[str, Any] = {"solver": "dps", "settings": {"form": "ddim", "n_steps": 4, "t_start": 0.3}}
    written = simulated("denoise", source, samples=2, **options).save(tmp_path / "out.tif")
    names = {"out.tif", "out-comparison.png", "out.json", "out-interval.png"}
    drawn = {"sample1.tif", "sample2.tif"}
    assert {path.name for path in written} == names | drawn
    assert {path.name for path in tmp_path.iterdir()} == names | {"in.tif", "out-samples"}
    assert {path.name for path in (tmp_path / "out-samples").iterdir()} == drawn
    assert read_image(tmp_path / "out.tif").depth == 16
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["input"]["sha256"]
    assert record["solver"]["name"] == "dps"
    assert record["solver"]["chosen"]["source"] == "natural/denoise"
    assert record["solver"]["settings"]["n_steps"] == 4
    assert record["status"] == ["ok", "ok"]
    assert record["stats"]["network_forwards"] == 4
    assert set(record["versions"]) >= {"invsolve", "torch", "python"}
    with pytest.raises(InputError, match="exists"):
        simulated("denoise", source, samples=2, **options).save(tmp_path / "out.tif")


def test_a_failed_run_returns_no_image() -> None:
    class Broken(SmoothPrior):
        def denoise(self, x_t: Tensor, t: float) -> Tensor:
            return super().denoise(x_t, t) * torch.nan

    with pytest.raises(InvsolveError, match="no finite estimate"):
        simulated("denoise", prior=Broken())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "denoize"}, "did you mean 'denoise'"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"noise": 25}, "from 0 to 1"),
        ({"task": "superres", "factor": 0}, "factor"),
        ({"task": "superres", "factor": 97}, "larger than the image"),
        ({"task": "superres", "factor": 97, "simulate": True}, "larger than the image"),
        ({"task": "inpaint"}, "missing"),
        ({"task": "inpaint", "mask": torch.ones(96, 111)}, "same size"),
        ({"task": "inpaint", "mask": torch.ones(96, 112)}, "everything"),
        ({"task": "inpaint", "mask": torch.zeros(96, 112)}, "nothing"),
        ({"task": "superres", "mask": "nowhere.png"}, "belongs to the task inpaint"),
        ({"task": "denoise", "blur_sigma": 2.0}, "belongs to the task blind-deblur or deblur"),
        ({"task": "deblur"}, "blur-sigma"),
        ({"task": "deblur", "blur_sigma": -1.0}, "blur-sigma"),
        ({"task": "deblur", "kernel": torch.zeros(3, 3)}, "sum"),
        ({"task": "deblur", "kernel": torch.ones(3, 3, 3)}, "must be 2-D"),
        ({"task": "deblur", "kernel": torch.ones(300, 300)}, "larger than the image"),
        ({"solver": "ndtn"}, "did you mean 'ndtm'"),
        ({"solver": "ndtm", "settings": {"n_step": 3}}, "n_steps"),
        ({"solver": "ndtm", "settings": {"n_steps": "many"}}, "n_steps"),
        ({"solver": "pnp-hqs", "samples": 4}, "point estimate"),
        ({"samples": 0}, "samples"),
        ({"prior": "naturl"}, "did you mean 'natural'"),
        ({"prior": "natural", "device": "cudda"}, "cudda"),
        ({"device": "cpu"}, "device"),
        ({"memory": 0.0}, "memory"),
        ({"memory": 1e-6}, "GiB"),
        ({"tile": 100}, "multiple of 16"),
        ({"tile": 0}, "at least 32"),
        ({"noise": None}, "noise"),
        ({"samples": "4"}, "samples must be a whole number"),
        ({"time_limit": "10"}, "time_limit must be a finite number"),
        ({"memory": "4"}, "memory must be a finite number"),
        ({"simulate": "no"}, "simulate must be True or False"),
        ({"tiles": 128}, "'tile'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(options: dict[str, Any], words: str) -> None:
    arguments = {"task": "denoise", "noise": 0.05, "prior": SmoothPrior(), **options}
    with pytest.raises(InputError, match=words) as caught:
        restore(photograph(), **arguments)
    assert "\n" not in str(caught.value)


def test_a_simulation_from_a_cut_out_is_restored_for_every_task() -> None:
    """An operator of three channels cannot degrade the opacity alone; it failed after the computation."""
    clean = Image(photograph(32, 32), torch.linspace(0, 1, 32).expand(1, 32, 32).contiguous())
    done = restore(
        clean, "demosaic", noise=0.02, simulate=True, prior=SmoothPrior(), solver="pnp-hqs", settings={"n_steps": 2}
    )
    assert done.image.alpha is not None
    torch.testing.assert_close(done.image.alpha, clean.alpha)


class Lost(SmoothPrior):
    """A network whose estimates run away at low noise."""

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        alpha, sigma = self.schedule(t)
        return super().denoise(x_t, t) + (50.0 if sigma < 0.3 * alpha else 0.0)


def test_a_point_estimate_beside_samples_is_checked_and_counted() -> None:
    """The restored image is the point estimate, so its failure and its network calls belong to the record."""
    options = {"noise": 0.1, "samples": 2, "settings": {"n_steps": 3}}
    rows = []

    class Counted(SmoothPrior):
        def denoise(self, x_t: Tensor, t: float) -> Tensor:
            rows.append(len(x_t))
            return super().denoise(x_t, t)

    done = restore(photograph(32, 32), "denoise", prior=Counted(), **options)
    assert done.record["estimate"].startswith("point estimate")
    assert done.record["stats"]["network_forwards"] == sum(rows) / 2
    lost = restore(photograph(32, 32), "denoise", prior=Lost(), **options)
    assert lost.record["status"][0].startswith("failed")


def test_tiny_images_work_or_are_refused_clearly() -> None:
    pixel = torch.full((3, 1, 1), 0.4)
    with pytest.raises(InputError, match="--noise"):
        restore(pixel, "denoise", prior=SmoothPrior())
    restored = restore(pixel, "denoise", noise=0.05, prior=SmoothPrior(), settings={"n_steps": 1})
    assert restored.image.size == (1, 1)


def test_plans_keep_to_the_budget() -> None:
    roomy = plan((512, 512), 4, gradient=True, available=2**34)
    assert (roomy.microbatch, roomy.tile) == (4, None)
    tight = plan((3000, 4000), 4, gradient=True, available=2**33)
    assert tight.tile is not None
    assert tight.tile % 16 == 0
    used = 240 * 12_000_000 * tight.microbatch + 3300 * max(tight.max_pixels, tight.tile**2)
    assert used <= 2**33
    with pytest.raises(InputError, match="GiB"):
        plan((13_000, 13_000), 1, gradient=False, available=2**34)


def test_every_preset_makes_a_solver() -> None:
    from invsolve.solvers import SOLVERS

    assert isinstance(SOLVERS, Registry)
    for task in ("denoise", "superres2", "superres4", "inpaint", "deblur", "jpeg"):
        rows = table("natural")[task]
        for name in {rows["point"], rows["samples"], *(key for key in rows if isinstance(rows[key], dict))}:
            assert isinstance(build(name, "natural", task, {}), iv.Solver)


RUN = """
import sys, pathlib, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_restore import SmoothPrior, slow_run
slow_run(SmoothPrior({pause}), pathlib.Path({checkpoint!r})).save(pathlib.Path({out!r}))
"""


def slow_run(prior: Prior, checkpoint: Path | None) -> Restoration:
    """Eight samples, not all at a time, of which an interrupted run has finished some and begun others."""
    return simulated(
        "denoise", photograph(40, 40), prior=prior, solver="dps", samples=8, memory=0.0055, checkpoint=checkpoint,
        checkpoint_seconds=0.0, settings={"form": "ddim", "n_steps": 10, "t_start": 0.3},
    )  # fmt: skip


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "run.checkpoint", tmp_path / "out.png"
    code = RUN.format(tests=str(Path(__file__).parent), pause=0.01, checkpoint=str(checkpoint), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _has_begun_the_second_chunk(checkpoint):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    resumed = slow_run(SmoothPrior(), checkpoint)
    straight = slow_run(SmoothPrior(), None)
    assert resumed.samples is not None
    assert straight.samples is not None
    assert torch.equal(resumed.samples, straight.samples)
    assert straight.record["plan"]["microbatch"] < 8
    resumed.save(tmp_path / "resumed.png")
    straight.save(tmp_path / "straight.png")
    assert (tmp_path / "resumed.png").read_bytes() == (tmp_path / "straight.png").read_bytes()


def _has_begun_the_second_chunk(checkpoint: Path) -> bool:
    if not checkpoint.is_file():
        return False
    content = torch.load(checkpoint, weights_only=True)
    return len(content["finished"]) >= 1 and content["pending"] is not None and content["pending"]["k"] >= 3
