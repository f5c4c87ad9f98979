"""`train noise`: crops whose noise is known, a loss that is smallest at the truth, runs that can be repeated."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from invsolve.commands.cli import main
from invsolve.core.checks import InputError
from invsolve.noise.network import LEVELS, QUANTILES, NoiseReading, load_noise_network
from invsolve.train import noise_network
from invsolve.train.noise_network import noise_loss, train_noise_network
from invsolve.train.noisy_files import NoisyFiles, NoisyTiles, degraded
from invsolve.train.settings import NoiseTraining


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        coarse = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
        coarse.resize((360, 300), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def test_a_crop_depends_on_its_generator_alone(images: Path) -> None:
    data = NoisyFiles(sorted(images.iterdir()))
    first, again = (data.draw(6, np.random.default_rng(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True) if not a.isnan().any())
    assert first.tiles.shape == (6, 3, 96, 96)
    assert not torch.equal(first.tiles, data.draw(6, np.random.default_rng(6)).tiles)


def test_targets_are_what_was_done_to_the_crop(images: Path) -> None:
    """The level before clipping is at least that after it, and both come from the pixels."""
    data = NoisyFiles(sorted(images.iterdir()))
    rng = np.random.default_rng(0)
    histories = set()
    for _ in range(60):
        clean = data.clean(rng, 128)
        assert clean.shape == (128, 128, 3)
        assert 0 <= clean.min() <= clean.max() <= 1
        pixels, truth, noise, history = degraded(clean, rng)
        histories.add(history)
        if history == 0 and pixels.min() > 0 and pixels.max() < 1:
            assert np.abs(pixels - truth - noise).max() <= 0.5 / 255 + 1e-6
    assert histories == {0, 1, 2}
    batch = data.draw(60, np.random.default_rng(1))
    total, luma, chroma, unclipped = batch.levels.exp().unbind(1)
    assert bool((unclipped >= total - 1e-5).all())
    assert bool((luma <= total + 1e-3).all())
    assert bool((chroma <= total + 1e-5).all())
    mean = batch.energy.mean((1, 2)).sqrt()
    assert torch.allclose(mean, (total.square() + 0.0011**2).sqrt(), rtol=0.02, atol=1e-3)


def test_the_loss_is_smallest_at_the_truth() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randn(5, len(LEVELS), generator=generator) - 3
    energy = (2 * (torch.randn(5, 12, 12, generator=generator) * 0.3 - 3)).exp()
    correlation = torch.tensor([0.1, 0.5, math.nan, 0.0, -0.1])
    history = torch.tensor([0, 1, 2, 0, 1])
    batch = NoisyTiles(torch.empty(5, 3, 96, 96), levels, correlation, history, energy)
    odds = 20 * torch.nn.functional.one_hot(history, 3).float()
    truth = NoiseReading(
        levels[..., None].expand(-1, -1, len(QUANTILES)), correlation.nan_to_num(0.7), odds, energy.log() / 2
    )
    best = float(noise_loss(truth, batch))
    for changed in (
        truth._replace(levels=truth.levels + 0.1),
        truth._replace(levels=truth.levels - 0.1),
        truth._replace(correlation=truth.correlation + 0.1),
        truth._replace(history=-odds),
        truth._replace(map=truth.map + 0.1),
        truth._replace(map=truth.map - 0.1),
    ):
        assert float(noise_loss(changed, batch)) > best + 5e-4
    unknown = truth._replace(correlation=torch.where(correlation.isnan(), 0.0, truth.correlation))
    assert float(noise_loss(unknown, batch)) == pytest.approx(best)


def settings(images: Path, out: Path, **changes: object) -> NoiseTraining:
    return dataclasses.replace(NoiseTraining(images, out, steps=4, batch=4), **changes)  # pyright: ignore[reportArgumentType]


def test_a_run_repeats_and_resumes_bit_for_bit(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_network, "_HELD_TILES", 4)
    first = train_noise_network(settings(images, tmp_path / "first.safetensors"))
    again = train_noise_network(settings(images, tmp_path / "again.safetensors"))
    other = train_noise_network(settings(images, tmp_path / "other.safetensors", seed=1))
    stopped = settings(images, tmp_path / "stopped.safetensors")
    monkeypatch.setattr(noise_network, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(noise_network, "validate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_noise_network(dataclasses.replace(stopped))
    monkeypatch.undo()
    monkeypatch.setattr(noise_network, "_HELD_TILES", 4)
    state = torch.load(stopped.state, weights_only=True)
    assert state["step"] == 4
    assert all(torch.equal(state["network"][name], value) for name, value in first.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    resumed = train_noise_network(dataclasses.replace(stopped, resume=True))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), resumed.parameters(), strict=True))
    assert not stopped.state.exists()


def interrupt(*_: object) -> str:
    raise KeyboardInterrupt


def test_the_command_writes_a_file_that_loads(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(noise_network, "_HELD_TILES", 4)
    out = tmp_path / "noise.safetensors"
    words = ["train", "noise", "--images", str(images), "--out", str(out), "--steps", "2", "--batch", "4"]
    assert main(words) == 0
    assert out.stat().st_size < 300_000
    assert load_noise_network(out)(torch.rand(1, 3, 64, 40)).map.shape == (1, 8, 5)
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 2
    assert "omit --resume" in capsys.readouterr().err
    for extra, message in ((["--batch", "0"], "must be positive"), (["--images", str(tmp_path / "none")], "no folder")):
        assert main([*words, "--overwrite", *extra]) == 2
        assert message in capsys.readouterr().err


def test_the_state_of_an_interrupted_run_is_kept(images: Path, tmp_path: Path) -> None:
    """The weights are written at the end only, so the state is the only file of an interrupted run."""
    config = NoiseTraining(images, tmp_path / "noise.safetensors", steps=1, batch=2)
    config.state.write_bytes(b"hours")
    with pytest.raises(InputError, match="continue it with --resume"):
        train_noise_network(config)
    with pytest.raises(InputError):
        train_noise_network(dataclasses.replace(config, images=tmp_path / "nowhere", overwrite=True))
    with pytest.raises(InputError, match=r"noise\.state"):
        train_noise_network(dataclasses.replace(config, resume=True))
    assert config.state.read_bytes() == b"hours"


def test_a_state_of_another_run_is_not_resumed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(noise_network, "_HELD_TILES", 4)
    monkeypatch.setattr(noise_network, "_SAVE_SECONDS", 0.0)
    out = tmp_path / "noise.safetensors"
    words = ["train", "noise", "--images", str(images), "--out", str(out), "--batch", "4"]
    with monkeypatch.context() as patched:
        patched.setattr(noise_network, "validate", interrupt)
        assert main([*words, "--steps", "2"]) not in (0, 2)
    assert out.with_suffix(".state").is_file()
    assert main([*words, "--steps", "3", "--seed", "1", "--resume"]) == 2
    assert "another seed, batch or images" in capsys.readouterr().err
    assert main([*words, "--steps", "1", "--seed", "1"]) == 2  # it would delete the state
    assert main([*words, "--steps", "1", "--seed", "1", "--overwrite"]) == 0
    assert not out.with_suffix(".state").exists()
