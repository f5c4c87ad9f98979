"""Blind deblurring: the kernel is found, centred, written, and used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import invsolve as iv
from invsolve.commands.cli import main
from invsolve.io import read_image, write_image
from invsolve.io.image import Image
from invsolve.operators import camera_shake_kernel, gaussian_kernel, motion_kernel
from invsolve.tasks.blind.edges import centred, estimate_kernel
from invsolve.tasks.inputs import read_kernel


def cartoon(side: int = 120, seed: int = 0) -> Tensor:
    """Overlapping discs and boxes of plain colours: an image of edges."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    x = np.full((3, side, side), 0.5)
    for i in range(60):
        r, c, size = rng.integers(0, side), rng.integers(0, side), rng.integers(4, side // 5)
        disc = (rows - r) ** 2 + (columns - c) ** 2 < size**2
        box = (np.abs(rows - r) < size) & (np.abs(columns - c) < size // 2 + 1)
        x[:, disc if i % 2 else box] = rng.uniform(0.05, 0.95, (3, 1))
    return torch.from_numpy(x).float()


def blurred(x: Tensor, kernel: Tensor, sigma: float = 0.005) -> Tensor:
    y = F.conv2d(x[:, None], kernel.flip(-2, -1)[None, None].float())[:, 0]
    return y + sigma * iv.Rng(0).normal(y[None])[0]


def correlation(a: Tensor, b: Tensor) -> float:
    """The largest normalised correlation over shifts."""
    grid = (64, 64)
    product = torch.fft.rfft2(a.double(), grid).conj() * torch.fft.rfft2(b.double(), grid)
    return float(torch.fft.irfft2(product, grid).max() / (a.double().norm() * b.double().norm()))


KERNELS = {
    "motion": lambda: motion_kernel(8, 30.0),
    "gaussian": lambda: gaussian_kernel(1.5, 4),
    "shake": lambda: camera_shake_kernel(10, 0.3, iv.Rng(4)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_kernel_of_a_image_of_edges_is_found(name):
    kernel = KERNELS[name]()
    found = estimate_kernel(blurred(cartoon(), kernel), 13)
    assert correlation(found, kernel) > 0.8
    assert found.shape == (13, 13)
    assert float(found.min()) >= 0
    assert float(found.sum()) == pytest.approx(1)
    assert torch.allclose(centred(found), found)


def test_a_kernel_is_put_half_way_between_its_centre_of_mass_and_the_middle_of_its_extent():
    kernel = torch.zeros(9, 9)
    kernel[0, 5], kernel[4, 5] = 0.75, 0.25  # row 1 by mass, row 2 by extent
    moved = centred(kernel)
    assert moved[2, 4] == 0.75
    assert moved[6, 4] == 0.25


def test_an_image_shaken_along_a_path_that_fills_its_frame_is_moved_less_than_by_the_centre_of_mass():
    moved, by_mass = [], []
    for seed in range(20):
        drawn = np.random.default_rng(seed)
        path = np.cumsum(np.cumsum(drawn.standard_normal((400, 2)), 0), 0)
        path = (path - path.min(0)) / np.ptp(path, 0) * 13 + 0.5
        kernel = np.zeros((15, 15))
        np.add.at(kernel, tuple(path.astype(int).T), 1 / 400)
        framed = F.pad(torch.from_numpy(kernel), (9, 9, 9, 9))
        for dim in (0, 1):
            by_mass.append(abs(_mean(framed, dim)))
            moved.append(abs(_mean(framed, dim) - _mean(centred(framed), dim)))
    assert np.mean(moved) < 0.7 * np.mean(by_mass)


def _mean(kernel: Tensor, dim: int) -> float:
    at = torch.arange(len(kernel), dtype=kernel.dtype) - len(kernel) // 2
    return float(kernel.sum(1 - dim) @ at)


@pytest.mark.parametrize(("image", "size", "words"), [
    (cartoon(60), 4, "odd"),
    (cartoon(60), 31, "cannot be found in an image of 60 x 60"),
    (cartoon(60)[:, :27], 3, "it takes at least 28 on each side"),
    (torch.full((3, 60, 60), 0.5), 9, "no contrast"),
])  # fmt: skip
def test_what_cannot_be_estimated_is_refused(image, size, words):
    with pytest.raises(iv.InputError, match=words):
        estimate_kernel(image, size)


def test_the_command_writes_image_and_kernel(tmp_path: Path, capsys: pytest.CaptureFixture):
    clean, kernel = cartoon(102), motion_kernel(6, 0.0)
    write_image(tmp_path / "clean.png", Image(clean))
    np.save(tmp_path / "kernel.npy", kernel.numpy())
    words = [
        "restore",
        str(tmp_path / "clean.png"),
        "--task",
        "blind-deblur",
        "--kernel-size",
        "11",
        "--noise",
        "0.005",
    ]
    words += ["--simulate", "--kernel", str(tmp_path / "kernel.npy")]
    assert main(words) == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "clean-restored.json").read_text())
    assert record["task"] | {"kernel_size": 11, "kernel_network_calls": 40} == record["task"]
    assert record["noise"]["used"] == pytest.approx(1.5 * 0.005)
    assert record["scores"]["restored"]["psnr"] > record["scores"]["blurred"]["psnr"] + 2
    found = read_kernel(tmp_path / "clean-restored-kernel.png")
    assert found.shape == (11, 11)
    assert correlation(found, kernel) > 0.8
    assert read_image(tmp_path / "clean-restored.png").size == (96, 96)


@pytest.mark.parametrize(("words", "told"), [
    (["--kernel-size", "9", "--task", "deblur", "--blur-sigma", "1"], "belongs to the task blind-deblur"),
    (["--task", "blind-deblur", "--blur-sigma", "1"], "belongs to the task deblur"),
    (["--task", "blind-deblur", "--simulate"], "needs the blur"),
    (["--task", "blind-deblur", "--kernel-size", "8"], "odd"),
    (["--task", "blind-deblur", "--kernel-size", "33"], "at most a third"),
])  # fmt: skip
def test_wrong_options_are_one_sentence(words, told, tmp_path: Path, capsys: pytest.CaptureFixture):
    write_image(tmp_path / "x.png", Image(cartoon(60)))
    assert main(["restore", str(tmp_path / "x.png"), *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
