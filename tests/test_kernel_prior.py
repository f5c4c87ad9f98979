"""The prior of blur kernels: drawn kernels, a training that repeats, and a network that denoises what it never saw."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import invsolve as iv
from invsolve.commands.cli import main
from invsolve.operators import camera_shake_kernel, gaussian_kernel, motion_kernel
from invsolve.priors.kernels import WEIGHTS, KernelDenoiser, packaged_kernels
from invsolve.priors.networks.unet import Denoiser, load_denoiser
from invsolve.train.kernels import FAMILIES, FRAME, NETWORK, KernelSet, draw_kernel, train_kernels
from invsolve.train.settings import KernelTraining

LEVEL = 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_kernels_are_kernels_and_depend_on_their_generator_alone(family: str) -> None:
    for seed in range(20):
        kernel, again = (draw_kernel(np.random.default_rng(seed), 40, family) for _ in range(2))
        assert np.array_equal(kernel, again)
        assert kernel.shape == (40, 40)
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1)
        at = np.arange(40) - 19.5
        inside = [at[kernel.sum(1 - axis) > 1e-3 * kernel.sum(1 - axis).max()] for axis in (0, 1)]
        assert max(abs(places[0] + places[-1]) / 2 for places in inside) < 8
    assert not np.array_equal(kernel, draw_kernel(np.random.default_rng(99), 40, family))


def unseen() -> list[Tensor]:
    """Kernels of the package's operators on frames of 33, which training does not draw."""
    kernels = [camera_shake_kernel(6 + 2.5 * i, 0.3, iv.Rng(i)) for i in range(8)]
    kernels += [motion_kernel(5 + 4 * i, 40 * i) for i in range(4)] + [gaussian_kernel(0.8 + 0.6 * i) for i in range(4)]
    framed = []
    for kernel in kernels:
        margin = 20
        k = F.pad(kernel, (margin,) * 4)
        middle = len(k) // 2
        k = k[middle - 16 : middle + 17, middle - 16 : middle + 17]
        framed.append(k / k.sum())
    return framed


def test_unseen_kernels_are_denoised_far_better_than_by_smoothing_or_a_threshold() -> None:
    denoise, generator = packaged_kernels(), torch.Generator().manual_seed(0)
    errors = []
    for kernel in unseen():
        noisy = kernel + LEVEL * kernel.max() * torch.randn(kernel.shape, generator=generator, dtype=torch.float64)
        found = denoise(noisy, LEVEL)
        assert float(found.min()) >= 0
        assert float(found.sum()) == pytest.approx(1)
        others = [torch.where(noisy > share * noisy.max(), noisy, 0.0) for share in (0.1, 0.2, 0.3, 0.4)]
        others += [smoothed(noisy, std).clamp_min(0) for std in (0.5, 0.8, 1.2)]
        errors.append([10 * math.log10((k / k.sum() - kernel).square().sum()) for k in (found, *others)])
    gains = np.array(errors)[:, 1:] - np.array(errors)[:, :1]
    assert gains.mean(0).min() > 4
    assert np.median(gains, 0).min() > 4


def smoothed(kernel: Tensor, std: float) -> Tensor:
    window = gaussian_kernel(std, 4)
    return F.conv2d(kernel[None, None], window[None, None], padding=4)[0, 0]


def test_a_kernel_is_left_nearly_alone_and_turned_with_its_frame() -> None:
    denoise, kernel = packaged_kernels(), unseen()[3]
    assert float((denoise(kernel, 0.02) - kernel).norm() / kernel.norm()) < 0.1
    turned = denoise(kernel.rot90(1).flip(0), LEVEL)
    assert torch.allclose(turned, denoise(kernel, LEVEL).rot90(1).flip(0), atol=1e-4)
    assert torch.allclose(denoise(3 * kernel, LEVEL), denoise(kernel, LEVEL), atol=1e-6)
    small = denoise(gaussian_kernel(0.7, 2), LEVEL)
    assert small.shape == (5, 5)


def test_what_is_no_kernel_is_refused() -> None:
    denoise = packaged_kernels()
    for kernel, level, words in (
        (torch.zeros(5, 5), 0.1, "above 0"),
        (torch.ones(5, 7), 0.1, "s, s"),
        (torch.ones(5, 5), 0.0, "level"),
    ):
        with pytest.raises(iv.InputError, match=words):
            denoise(kernel, level)
    with pytest.raises(iv.InputError, match="one channel"):
        KernelDenoiser(Denoiser(dataclasses.replace(NETWORK, image_channels=3)))


def test_the_packaged_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size < 1_000_000
    assert load_denoiser(WEIGHTS).config == NETWORK


def settings(out: Path, **changes: object) -> KernelTraining:
    return dataclasses.replace(KernelTraining(out, steps=4, batch=4), **changes)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invsolve.train.kernels.HELD_OUT", 4)


@pytest.mark.usefixtures("short")
def test_a_training_repeats_bit_for_bit_and_depends_on_its_seed(tmp_path: Path) -> None:
    weights = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        out = tmp_path / f"{name}.safetensors"
        train_kernels(settings(out, seed=seed))
        weights[name] = load_denoiser(out).state_dict()
    assert all(torch.equal(weights["first"][key], value) for key, value in weights["again"].items())
    assert not all(torch.equal(weights["first"][key], value) for key, value in weights["other"].items())
    x, labels = KernelSet().draw(3, FRAME, np.random.default_rng(0))
    assert labels is None
    assert x.shape == (3, 1, FRAME, FRAME)
    assert bool((x.amax((1, 2, 3)) < 1.21).all())


@pytest.mark.usefixtures("short")
def test_the_command_writes_a_file_that_denoises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "kernels.safetensors"
    words = ["train", "kernels", "--out", str(out), "--steps", "2", "--batch", "4"]
    assert main(words) == 0
    assert KernelDenoiser(load_denoiser(out))(gaussian_kernel(1.0, 5), 0.1).shape == (11, 11)
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words[:5], "0"]) == 2
    assert main(["train", "kernels", "--out", str(tmp_path / "none.safetensors"), "--resume"]) == 2
    assert "nothing to resume" in capsys.readouterr().err
