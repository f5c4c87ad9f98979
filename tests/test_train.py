"""Training of the denoising prior: reproducibility, its parts, and what wrong inputs say."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from invsolve.commands.cli import main
from invsolve.core.checks import InputError, InvsolveError
from invsolve.priors.networks.unet import LabelledDenoiser, load_denoiser, save_denoiser
from invsolve.priors.networks.unet_config import DenoiserConfig
from invsolve.train.average import PowerAverage
from invsolve.train.data import PhotoSet, find_images, split_images
from invsolve.train.denoiser import train_denoiser
from invsolve.train.noise import LevelWeights, NoiseLaw
from invsolve.train.optim import Muon, orthogonalise
from invsolve.train.report import SmoothedLoss
from invsolve.train.runtime import Runtime, without_denormals
from invsolve.train.settings import DenoiserTraining, learning_rate_factor
from invsolve.train.trainer import Trainer

TINY = DenoiserConfig(channels=(8, 8), blocks=(1, 1), embedding=8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four small images, each flat on the left and of coloured squares on the right."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        image = np.full((48, 64, 3), 40 * i + 30, np.uint8)
        image[:, 32:] = rng.integers(0, 256, (6, 4, 3)).repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def settings(images: Path, out: Path, steps: int = 8) -> DenoiserTraining:
    return DenoiserTraining(
        images, out, steps=steps, network=TINY, batch=4, crop=16, final_crop=16, warmup=2,
        checkpoint_steps=4, precision="fp32", workers=1,
    )  # fmt: skip


def trainer(config: DenoiserTraining, workers: int = 1) -> Trainer:
    photos = PhotoSet(split_images(find_images(config.images), ())[0], 16)
    return Trainer(config, photos, Runtime(torch.device("cpu"), bf16=False, workers=workers))


def test_a_resumed_run_has_exactly_the_losses_of_an_uninterrupted_one(images: Path, tmp_path: Path) -> None:
    config = settings(images, tmp_path / "w.safetensors")
    whole = trainer(config)
    losses = [whole.train_step() for _ in range(8)]
    first = trainer(config)
    for _ in range(5):
        first.train_step()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = trainer(config)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [second.train_step() for _ in range(3)] == losses[5:]
    for name, average in second.averages.items():
        for a, b in zip(average.weights.values(), whole.averages[name].weights.values(), strict=True):
            assert torch.equal(a, b)


def test_the_command_resumes_exactly(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(path: Path) -> list[tuple[str, str]]:
        with path.with_suffix(".csv").open() as file:
            return [(r["step"], r["loss"]) for r in csv.DictReader(file)]

    whole = settings(images, tmp_path / "whole.safetensors")
    train_denoiser(whole)
    parts = settings(images, tmp_path / "parts.safetensors")
    step = Trainer.train_step

    def interrupted(self: Trainer) -> float:
        if self.step == 4:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_denoiser(parts)
    monkeypatch.setattr(Trainer, "train_step", step)
    train_denoiser(dataclasses.replace(parts, resume=True))
    assert rows(parts.out) == rows(whole.out)
    a, b = load_denoiser(parts.out), load_denoiser(whole.out)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_sharing_a_batch_among_threads_changes_only_rounding(images: Path, tmp_path: Path) -> None:
    config = settings(images, tmp_path / "w.safetensors")
    one, two = trainer(config), trainer(config, workers=2)
    for _ in range(3):
        assert one.train_step() == pytest.approx(two.train_step(), rel=1e-4)


def test_training_computes_without_denormal_numbers() -> None:
    def survives() -> bool:
        return bool(torch.full((4,), 1e-40).mul(2.0).count_nonzero())

    assert survives()
    assert not Runtime(torch.device("cpu"), bf16=False, workers=2).pool.submit(survives).result()
    with without_denormals():
        assert not survives()
    assert survives()


def test_training_lowers_the_loss(images: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(settings(images, tmp_path / "w.safetensors", steps=100), learning_rate=5e-3)
    run_ = trainer(config)
    losses = [run_.train_step() for _ in range(100)]
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])


def test_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    factor = [learning_rate_factor(s, s / 100, warmup=10, decay=0.5) for s in range(101)]
    assert factor[0] == pytest.approx(0.1)
    assert factor[10:51] == [1.0] * 41
    assert factor[75] == pytest.approx(0.5)
    assert factor[100] == 0


def test_stratified_noise_levels_follow_the_law() -> None:
    law = NoiseLaw(narrow=(-1.0, 0.5), wide=(-1.0, 2.0), wide_share=0.25)
    generator = torch.Generator().manual_seed(0)
    log_sigma = torch.cat([law.sample(16, generator) for _ in range(2000)]).log()
    # 32000 stratified draws: the standard error is below 0.007 for the mean and 0.01 for the standard deviation.
    assert float(log_sigma.mean()) == pytest.approx(-1.0, abs=0.03)
    assert float(log_sigma.std()) == pytest.approx(math.sqrt(0.75 * 0.25 + 0.25 * 4), abs=0.05)
    assert float(log_sigma.min()) >= math.log(law.low) - 1e-5
    assert float(log_sigma.max()) <= math.log(law.high) + 1e-5


def test_level_weights_even_out_the_levels() -> None:
    levels = LevelWeights(decay=0.9)
    sigma = torch.tensor([0.01, 1.0])
    for _ in range(200):
        levels.update(sigma, torch.tensor([0.5, 0.02]))
    torch.testing.assert_close(levels(sigma) * torch.tensor([0.5, 0.02]), torch.ones(2), rtol=1e-3, atol=0)


def test_orthogonalise_keeps_singular_vectors_and_evens_singular_values() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 6, 40), (2, 40, 6)):
        g = torch.randn(shape, generator=generator)
        u, _, v = torch.linalg.svd(g, full_matrices=False)
        inner = u.mT @ orthogonalise(g) @ v.mT
        values = inner.diagonal(dim1=-2, dim2=-1)
        assert values.min() > 0.6
        assert values.max() < 1.3
        torch.testing.assert_close(inner, torch.diag_embed(values), atol=1e-3, rtol=0)


def test_muon_minimises_a_quadratic() -> None:
    target = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    w = torch.nn.Parameter(torch.zeros_like(target))
    optimizer = Muon([w], lr=0.05)
    for i in range(200):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - i / 200)
        optimizer.zero_grad()
        (w - target).square().sum().backward()
        optimizer.step()
    assert float((w - target).detach().square().mean()) < 0.05 * float(target.square().mean())


def test_power_average_weighs_steps_by_a_power() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    average = PowerAverage(module, 0.1, every=1)
    steps = np.arange(1, 401)
    for t in steps:
        module.weight.data.fill_(float(t))
        average.update(module, int(t))
    weights = steps**average.gamma / np.sum(steps**average.gamma)
    assert float(average.weights["weight"]) == pytest.approx(float(weights @ steps), rel=5e-3)
    profile = steps / 400
    assert np.sqrt(weights @ profile**2 - (weights @ profile) ** 2) == pytest.approx(0.1, rel=0.02)


def test_crops_prefer_contrast_and_depend_on_the_generator_only(images: Path) -> None:
    photos = PhotoSet(find_images(images), 16)
    crops = photos.crops(200, 16, np.random.default_rng(3), augment=False)
    assert torch.equal(crops, photos.crops(200, 16, np.random.default_rng(3), augment=False))
    assert crops.shape == (200, 3, 16, 16)
    assert crops.abs().max() <= 1
    assert (crops.std(dim=(1, 2, 3)) > 0.2).float().mean() > 0.8


def test_validation_images_are_held_out(images: Path) -> None:
    paths = find_images(images)
    train, held = split_images(paths, ("2",))
    assert [p.name for p in held] == ["2.png"]
    assert len(train) == 3
    with pytest.raises(ValueError, match="cat"):
        split_images(paths, ("cat",))


def arguments(*words: str) -> int:
    return main(["train", "denoiser", *words])


def test_wrong_inputs_of_the_command_are_one_sentence(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "w.safetensors")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        (["--images", str(tmp_path / "absent"), "--out", out], "there is no folder"),
        (["--images", str(empty), "--out", out], "no images in"),
        (["--images", str(images), "--out", out, "--resume"], "nothing to resume"),
        (["--images", str(images), "--out", out, "--batch", "0"], "must be positive"),
        (["--images", str(images), "--out", out, "--crop", "512"], "smaller than 512 pixels"),
        (["--images", str(images), "--out", out, "--channels", "8,8"], "equally long"),
    ]
    for words, message in cases:
        assert arguments(*words) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    Path(out).touch()
    assert arguments("--images", str(images), "--out", out) == 2
    assert "--overwrite" in capsys.readouterr().err
    (images / "0.png").write_text("no image")
    assert arguments("--images", str(images), "--out", out, "--overwrite") == 2
    assert "0.png" in capsys.readouterr().err


def test_a_run_may_start_from_trained_weights(images: Path, tmp_path: Path) -> None:
    first = settings(images, tmp_path / "first.safetensors")
    train_denoiser(first)
    given = load_denoiser(first.out)
    config = dataclasses.replace(settings(images, tmp_path / "second.safetensors"), init=first.out)
    second = trainer(config)
    before = second.levels.mean.clone()
    second.start_from(given)
    assert all(torch.equal(a, b) for a, b in zip(second.denoiser.parameters(), given.parameters(), strict=True))
    assert bool((second.levels.mean != before).all())  # each noise level weighs by what the start can do
    x0 = torch.full((1, 3, 16, 16), 0.2)
    assert torch.equal(second.averages["ema0.05"].module(x0, torch.tensor([0.1])), given(x0, torch.tensor([0.1])))


def test_a_deeper_network_begins_as_the_one_it_grew_from(images: Path, tmp_path: Path) -> None:
    """New blocks are the identity."""
    first = settings(images, tmp_path / "first.safetensors")
    train_denoiser(first)
    asked = dataclasses.replace(TINY, blocks=(1, 3))
    config = dataclasses.replace(
        settings(images, tmp_path / "second.safetensors", steps=4), init=first.out, network=asked
    )
    train_denoiser(config)
    grown, given = load_denoiser(config.out), load_denoiser(first.out)
    assert grown.config == asked
    started = trainer(dataclasses.replace(config, network=grown.config))
    started.start_from(given)
    x0, sigma = torch.full((1, 3, 16, 16), 0.2), torch.tensor([0.1])
    with torch.no_grad():
        assert torch.equal(started.denoiser(x0, sigma), given(x0, sigma))
        assert not torch.equal(grown(x0, sigma), given(x0, sigma))
    fewer = dataclasses.replace(
        config, overwrite=True, init=config.out, network=dataclasses.replace(TINY, blocks=(1, 1))
    )
    with pytest.raises(ValueError, match="--blocks 1,1: the network of --init has 1,3"):
        train_denoiser(fewer)


def test_a_run_from_trained_weights_keeps_their_network_and_resumes_without_them(images: Path, tmp_path: Path) -> None:
    first = settings(images, tmp_path / "first.safetensors")
    train_denoiser(first)
    config = dataclasses.replace(
        settings(images, tmp_path / "second.safetensors", steps=4), init=first.out, network=DenoiserConfig()
    )
    train_denoiser(config)
    assert load_denoiser(config.out).config == TINY
    first.out.unlink()
    train_denoiser(dataclasses.replace(config, steps=8, resume=True))
    with pytest.raises(ValueError, match="--init: there is no weight file"):
        train_denoiser(dataclasses.replace(config, overwrite=True))


def test_a_run_is_continued_only_if_its_state_is_there(images: Path, tmp_path: Path) -> None:
    config = settings(images, tmp_path / "w.safetensors", steps=2)
    config.out.write_text("mine")
    with pytest.raises(InputError, match="already exists, and the run would write it: name another --out, or use"):
        train_denoiser(config)
    config.state_path.write_text("mine")
    with pytest.raises(InputError, match="write it: continue it with --resume, name another --out, or use --overwrite"):
        train_denoiser(config)
    with pytest.raises(InputError, match="checkpoint_minutes"):
        dataclasses.replace(config, checkpoint_minutes=0)


def test_a_mistake_in_the_options_keeps_the_state_of_an_interrupted_run(images: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(settings(images, tmp_path / "w.safetensors", steps=2), overwrite=True)
    config.state_path.write_bytes(b"hours")
    with pytest.raises(InputError):
        train_denoiser(dataclasses.replace(config, images=tmp_path / "nowhere"))
    with pytest.raises(InputError, match="--init"):
        train_denoiser(dataclasses.replace(config, init=tmp_path / "none.safetensors"))
    assert config.state_path.read_bytes() == b"hours"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created"):
        train_denoiser(dataclasses.replace(config, out=tmp_path / "file" / "w.safetensors"))


def test_the_smoothed_loss_ends_a_run_that_diverges() -> None:
    smoothed = SmoothedLoss(0.75)
    smoothed.add(4.0, 1)
    smoothed.add(8.0, 2)
    assert smoothed.mean == 5.0
    with pytest.raises(InvsolveError, match="the loss became nan at step 3: use a lower --learning-rate"):
        smoothed.add(math.nan, 3)


@pytest.mark.parametrize("ending", [".csv", ".png", ".state.pt"])
def test_files_beside_the_weights_are_not_overwritten(images: Path, tmp_path: Path, ending: str) -> None:
    config = settings(images, tmp_path / "w.safetensors", steps=2)
    mine = config.out.with_suffix(ending)
    mine.write_text("mine")
    with pytest.raises(InputError, match="already exists, and the run would write it"):
        train_denoiser(config)
    assert mine.read_text() == "mine"
    with pytest.raises(InputError, match=r"end in \.safetensors"):
        settings(images, tmp_path / "v1.0")


def test_the_plot_of_a_run_is_no_image_of_it(images: Path) -> None:
    config = settings(images, images / "a.safetensors", steps=4)
    train_denoiser(config)
    assert config.out.with_suffix(".png").is_file()
    held = config.out.with_suffix(".csv").read_text().splitlines()[-1].split(",")[5:]
    train_denoiser(dataclasses.replace(config, overwrite=True))
    assert config.out.with_suffix(".csv").read_text().splitlines()[-1].split(",")[5:] == held


def test_a_run_resumes_as_what_it_was(images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = settings(images, tmp_path / "w.safetensors", steps=4)
    train_denoiser(config)
    again = dataclasses.replace(config, resume=True)
    for change in ({"optimizer": "adamw"}, {"labels": True}):
        with pytest.raises(InputError, match="give the settings it was started with"):
            train_denoiser(dataclasses.replace(again, **change))
    train_denoiser(again)
    assert "nothing is left to train: 4 steps" in caplog.text
    train_denoiser(dataclasses.replace(again, steps=6))
    assert "the run was planned for 4 steps, and continues to 6 steps" in caplog.text


def test_a_start_of_other_classes_is_refused(images: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(np.full((16, 16, 3), 20 * i, np.uint8)).save(tmp_path / "classes" / name / f"{i}.png")
    start = tmp_path / "first.safetensors"
    save_denoiser(LabelledDenoiser(dataclasses.replace(TINY, classes=3)), start)
    config = settings(tmp_path / "classes", tmp_path / "w.safetensors", steps=1)
    with pytest.raises(InputError, match=r"has 3 classes of images with 3 channels, the images .* have 2 with 3"):
        train_denoiser(dataclasses.replace(config, labels=True, init=start))
