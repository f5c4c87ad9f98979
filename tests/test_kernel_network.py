"""The network that corrects blur kernels: its examples, its loss, what it sees, its training, and what it gains."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import invsolve as iv
from invsolve.commands.cli import main
from invsolve.io import read_image
from invsolve.operators import gaussian_kernel, motion_kernel
from invsolve.tasks.blind.edges import centred, estimate_kernel, grey_window, refitted
from invsolve.tasks.blind.evidence import CHANNELS, evidence_of
from invsolve.tasks.blind.network import (
    KernelNetwork,
    KernelNetworkConfig,
    corrected_kernel,
    load_kernel_network,
    packaged_kernel_network,
    save_kernel_network,
)
from invsolve.tasks.blind.spectrum import of_kernel
from invsolve.tasks.deblur import Deblur
from invsolve.train.blurred_files import BlurredFiles, Examples, examples
from invsolve.train.kernel_score import kernel_loss, score
from invsolve.train.kernels import FAMILIES, FRAME, draw_kernel

IMAGES = Path(str(files("invsolve.bench") / "images"))


def blurred(image: Tensor, kernel: Tensor, sigma: float) -> Tensor:
    """What a camera sees of [C, H, W]: smaller by the kernel's side less one."""
    y, _ = Deblur(kernel).degrade(image)
    return y + sigma * iv.Rng(0).normal(torch.empty(1, *y.shape))[0]


def framed(kernel: Tensor, side: int) -> Tensor:
    """The kernel in the middle of a frame."""
    frame = torch.zeros(side, side)
    top, left = ((side - length) // 2 for length in kernel.shape)
    frame[top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel.float()
    return frame


def files_of(true: Tensor) -> Examples:
    n = len(true)
    return Examples(torch.empty(n, CHANNELS, 33, 33), true, torch.full((n,), 0.005), torch.full((n,), 1e-5))


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_are_drawn_by_their_generator_alone(family):
    drawn = [draw_kernel(np.random.default_rng(seed), family) for seed in range(30)]
    again = [draw_kernel(np.random.default_rng(seed), family) for seed in range(30)]
    for kernel, same in zip(drawn, again, strict=True):
        assert np.array_equal(kernel, same)
        assert kernel.shape == (FRAME, FRAME)
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1)
    extents = [np.ptp(np.flatnonzero(kernel.any(0))) + 1 for kernel in drawn]
    assert min(extents) < 15
    assert max(extents) > 20


def test_the_loss_does_not_mind_where_a_kernel_lies_but_what_it_is():
    true = torch.stack([framed(kernel, FRAME) for kernel in (motion_kernel(7, 20.0), gaussian_kernel(1.4, 4))])
    grid = 96
    down, across = torch.fft.fftfreq(grid)[:, None], torch.fft.rfftfreq(grid)[None]
    moved = of_kernel(true, (grid, grid)) * torch.exp(-2j * math.pi * (1.375 * down - 2.625 * across))
    moved = torch.fft.irfft2(moved, (grid, grid)).roll((16, 16), (1, 2))[:, :33, :33]
    found = score(moved, files_of(true))
    assert found.correlation.tolist() == pytest.approx([1, 1], abs=1e-2)  # of what the frame cuts off
    assert found.excess.tolist() == pytest.approx([0, 0], abs=0.02)
    wide = framed(gaussian_kernel(2.2, 8), 33).expand(2, -1, -1)
    worse = score(wide, files_of(true))
    assert float(worse.correlation.max()) < 0.95
    assert float(worse.excess.min()) > 0.5
    assert (found.gain - worse.gain).tolist() == pytest.approx((worse.excess - found.excess).tolist(), abs=1e-4)
    assert float(kernel_loss(wide, files_of(true))) > float(kernel_loss(moved, files_of(true))) + 1


def test_the_gain_is_that_over_the_image_as_it_came():
    """Of a Gaussian image, whose blurred and restored versions are compared with it.

    The kernel has one largest entry: of a row of equal ones, rounding would decide where the blurred image lies best.
    """
    side, sigma, scale = 192, 0.005, 1e-5
    rounded = F.conv2d(
        framed(motion_kernel(9, 0.0), FRAME)[None, None], gaussian_kernel(1.0, 4)[None, None].float(), padding=4
    )
    true, kernel = rounded[0, 0] / rounded.sum(), framed(gaussian_kernel(1.8, 6), 33)
    radius = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]).clamp_min(1 / 96)
    spectrum = scale * radius**-2.4
    errors = []
    for seed in range(6):
        image = torch.fft.rfft2(iv.Rng(seed).normal(torch.empty(1, side, side))[0]) * spectrum.sqrt()
        noise = torch.fft.rfft2(sigma * iv.Rng(seed + 100).normal(torch.empty(1, side, side))[0])
        seen = image * of_kernel(true, (side, side)) + noise
        own = of_kernel(kernel, (side, side))
        restored = own.conj() * seen / (own.abs() ** 2 + 2.25 * sigma**2 / spectrum)
        errors.append([float(torch.fft.irfft2(x - image, (side, side)).square().mean()) for x in (seen, restored)])
    blurred_error, restored_error = np.mean(errors, 0)
    told = score(kernel[None], files_of(true[None]))
    assert float(told.gain) == pytest.approx(10 * math.log10(blurred_error / restored_error), abs=0.15)


def test_the_evidence_knows_the_true_kernel_from_others():
    """In an image whose spectrum is that of photographs in the mean."""
    side = 360
    radius = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]).clamp_min(1 / side)
    white = torch.fft.rfft2(iv.Rng(0).normal(torch.empty(1, side, side))[0])
    image = 0.5 + torch.fft.irfft2(3e-3 * white * radius**-1.2, (side, side))
    true = framed(motion_kernel(11, 35.0), 33)
    grey = blurred(image[None], true, 0.003)[0]
    distances = []
    for kernel in (true, framed(motion_kernel(11, 125.0), 33), framed(gaussian_kernel(0.5, 6), 33)):
        pictures = evidence_of(grey, kernel, 0.003)
        assert pictures.shape == (CHANNELS, 33, 33)
        distances.append(float(pictures[4].norm()))
        assert torch.equal(pictures[4], pictures[2] - pictures[3])
    assert distances[0] < 0.5 * min(distances[1:])


def test_edges_that_are_known_give_the_kernel_without_a_constraint():
    image = read_image(IMAGES / "coffee.png").pixels[:, 20:236, 20:236]
    true = framed(motion_kernel(11, 35.0), 33)
    deconvolved = evidence_of(grey_window(blurred(image, true, 0.003)), true, 0.003 / 3**0.5)[8]
    assert float((deconvolved * true).sum() / (deconvolved.norm() * true.norm())) > 0.6


def test_a_network_that_has_learnt_nothing_leaves_the_kernel_as_it_is():
    evidence = torch.randn(3, CHANNELS, 21, 21, generator=torch.Generator().manual_seed(0))
    evidence[:, 0] = evidence[:, 0].clamp_min(0)
    expected = evidence[:, 0] / evidence[:, 0].sum((-2, -1), keepdim=True)
    assert torch.allclose(KernelNetwork().eval()(evidence), expected)


def test_an_image_that_is_turned_has_the_turned_kernel():
    network = packaged_kernel_network()
    pictures = torch.randn(CHANNELS, 33, 33, generator=torch.Generator().manual_seed(0)).abs()
    as_it_is = network.over_turns(pictures)
    assert not torch.allclose(as_it_is, pictures[0] / pictures[0].sum(), atol=1e-3)
    for turn in (lambda p: torch.rot90(p, 1, (-2, -1)), lambda p: p.flip(-1)):
        assert torch.allclose(network.over_turns(turn(pictures)), turn(as_it_is), atol=1e-5)


def test_weights_are_written_and_read(tmp_path: Path):
    network = KernelNetwork(KernelNetworkConfig((4, 6), 1)).eval()
    save_kernel_network(network, tmp_path / "k.safetensors", {"steps": "0"})
    again = load_kernel_network(tmp_path / "k.safetensors")
    evidence = torch.rand(1, CHANNELS, 9, 9)
    assert torch.allclose(again(evidence), network(evidence), atol=1e-3)
    (tmp_path / "text.safetensors").write_text("no")
    for name, words in (("text.safetensors", "is not a safetensors file"), ("none.safetensors", "there is no file")):
        with pytest.raises(iv.InputError, match=words):
            load_kernel_network(tmp_path / name)
    with pytest.raises(iv.InputError, match="train kernels"):
        load_kernel_network(Path(str(files("invsolve.noise") / "weights" / "noise.safetensors")))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for i in range(3):
        coarse = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
        coarse.resize((360, 300), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    Image.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(folder / "small.png")
    return folder


def test_an_example_depends_on_seed_and_number_alone(photographs: Path):
    data = BlurredFiles(sorted(photographs.iterdir()), 3)
    assert [path.name for path in data.paths] == ["0.png", "1.png", "2.png"]  # the small one cannot serve
    pixels, sigma, true = data.file(np.random.default_rng(1))
    again = data.file(np.random.default_rng(1))
    assert torch.equal(pixels, again[0])
    assert np.array_equal(true, again[2])
    assert pixels.shape[1:] == (256, 256)
    assert 0.0005 < sigma < 0.1
    with pytest.raises(iv.InputError, match="smaller than 290 pixels"):
        BlurredFiles([photographs / "small.png"])


def test_examples_are_read_where_they_were_made(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[int] = []

    def example(self: BlurredFiles, index: int) -> Examples:
        made.append(index)
        return Examples(
            torch.full((1, CHANNELS, 33, 33), index / 8), torch.zeros(1, FRAME, FRAME), torch.ones(1), torch.ones(1)
        )

    monkeypatch.setattr(BlurredFiles, "example", example)
    monkeypatch.setattr("invsolve.train.blurred_files._PART", 2)
    monkeypatch.setattr("invsolve.train.blurred_files.ProcessPoolExecutor", lambda n, mp_context: InPlace())
    data = BlurredFiles(sorted(photographs.iterdir()))
    first = examples(data, 3, tmp_path, 1)
    assert first.evidence[:, 0, 0, 0].tolist() == [0, 1 / 8, 2 / 8]
    assert made == [0, 1, 2, 3]
    more = examples(data, 5, tmp_path, 1)
    assert made == [0, 1, 2, 3, 4, 5]
    assert torch.equal(more.evidence[:3], first.evidence)


class InPlace:
    """A pool of processes that is none."""

    map = staticmethod(map)

    def __enter__(self) -> InPlace:
        return self

    def __exit__(self, *args: object) -> None: ...


def test_the_command_makes_examples_and_a_network(photographs: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("invsolve.train.blurred_files._PART", 2)
    monkeypatch.setattr("invsolve.train.blurred_files.ProcessPoolExecutor", lambda n, mp_context: InPlace())
    monkeypatch.setattr("invsolve.train.kernel_network._FEWEST_CHECKS", 2)
    monkeypatch.setattr("invsolve.tasks.blind.edges.estimate_kernel", lambda *a: framed(gaussian_kernel(1.0, 16), 33))
    out = tmp_path / "new" / "k.safetensors"
    words = ["train", "kernels", "--images", str(photographs), "--out", str(out), "--examples", "4", "--workers", "1"]
    words += ["--steps", "3", "--batch", "2", "--validation", "2"]
    assert main(words) == 0, capsys.readouterr().err
    first = load_kernel_network(out)
    changed = first.tail.weight
    assert float(changed.abs().max()) > 0
    assert main(words) == 2
    assert "already exists" in capsys.readouterr().err
    generator = torch.get_rng_state()
    assert main([*words, "--overwrite"]) == 0  # from the examples that are there, to the same network
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(load_kernel_network(out).tail.weight, changed)
    assert main([*words, "--overwrite", "--seed", "1"]) == 2
    assert "of another run" in capsys.readouterr().err
    first = min(photographs.iterdir())
    first.write_bytes(first.read_bytes() + b"another photograph of this name")
    assert main([*words, "--overwrite"]) == 2
    assert "of another run" in capsys.readouterr().err


@pytest.fixture(scope="module")
def out_of_focus() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Four photographs that nothing was trained on behind discs of 13 pixels: the file, the kernel, that from edges."""
    cases = []
    for k, name in enumerate(("coffee.png", "chelsea.png", "astronaut.png", "rocket.png")):
        kernel = torch.from_numpy(FAMILIES["disc"][1](np.random.default_rng((99, k)), 14.0)).float()
        y = blurred(read_image(IMAGES / name).pixels, kernel, 0.008)
        y = (y.clamp(0, 1) * 255).round() / 255
        cases.append((y, kernel, estimate_kernel(y, 33)))
    return cases


def correlations(kernels: list[Tensor], cases: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    true = torch.stack([kernel for _, kernel, _ in cases])
    return score(torch.stack(kernels).float(), files_of(true)).correlation


def test_discs_are_found_at_edges(out_of_focus: list[tuple[Tensor, Tensor, Tensor]]):
    """By fits of few steps: with 80 a turn the mean is 0.59."""
    found = correlations([first for _, _, first in out_of_focus], out_of_focus)
    assert float(found.mean()) > 0.88
    assert float(found.min()) > 0.75


def test_the_packaged_network_finds_better_kernels_than_edges_alone(
    out_of_focus: list[tuple[Tensor, Tensor, Tensor]],
):
    better = [corrected_kernel(y, first, 0.008 / 3**0.5) for y, _, first in out_of_focus]
    without = [refitted(grey_window(y), first) for y, _, first in out_of_focus]
    gains = correlations(better, out_of_focus) - correlations(without, out_of_focus)
    assert float(gains.mean()) > 0.015
    assert float(gains.min()) > 0
    for kernel in better:
        assert float(kernel.sum()) == pytest.approx(1)
        assert torch.allclose(centred(kernel), kernel)
        assert float(kernel[kernel > 0].min()) > 0.035 * float(kernel.max())  # edges have the last word, and are tidy
    assert packaged_kernel_network().config == KernelNetworkConfig()


def test_files_have_the_noise_that_was_drawn(photographs: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("invsolve.train.blurred_files._FORMATS", ((".png", {}),))
    data = BlurredFiles(sorted(photographs.iterdir()), 3)
    for level in (0.02, 0.05):
        monkeypatch.setattr("invsolve.train.blurred_files._NOISE", (level, level))
        pixels, sigma, _ = data.file(np.random.default_rng(1))
        assert len(pixels) == 3
        assert sigma == pytest.approx(level / 3**0.5, rel=0.15)
