"""Inputs of every kind at every public door: taken rightly, or refused in one sentence."""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from skimage import data

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.io import Image, png, read_image, write_image
from invsolve.io.inputs import as_image, describe, without_hidden_colours
from invsolve.tasks.inputs import read_kernel, read_mask

EIGHT = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
EXACT = EIGHT.astype(np.float32) / 255
PLANES = torch.from_numpy(EXACT).permute(2, 0, 1).contiguous()
INT: Any = np.int64


class Net(torch.nn.Module):
    """A small network that predicts noise."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1, dtype=torch.float32)
        values = torch.randn(self.conv.weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        self.conv.weight.data = 0.2 * values
        self.conv.bias.data = torch.zeros(3, dtype=torch.float32)  # pyright: ignore[reportOptionalMemberAccess]

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.conv(x))


def toy_prior() -> priors.NetworkPrior:
    return priors.NetworkPrior(Net(), "eps", shape=(3, 8, 8))


def inference(make: Callable[[], Any]) -> Any:
    with torch.inference_mode():
        return make()


KINDS: dict[str, tuple[Any, float]] = {
    "numpy uint8": (EIGHT, 0),
    "numpy uint16": (EIGHT.astype(np.uint16) * 257, 0),
    "numpy float32": (EXACT, 0),
    "numpy float64": (EIGHT / 255, 0),
    "numpy half": (EXACT.astype(np.float16), 1e-3),
    "numpy, not contiguous": (np.asfortranarray(EIGHT), 0),
    "numpy, big-endian": ((EIGHT / 255).astype(">f8"), 0),
    "torch uint8": (torch.from_numpy(EIGHT).permute(2, 0, 1), 0),
    "torch uint16": (torch.from_numpy(EIGHT.astype(np.uint16) * 257).permute(2, 0, 1), 0),
    "torch float32": (PLANES, 0),
    "torch float64": (torch.from_numpy(EIGHT / 255).permute(2, 0, 1), 0),
    "torch half": (PLANES.half(), 1e-3),
    "torch bfloat16": (PLANES.bfloat16(), 5e-3),
    "torch, one item": (PLANES[None], 0),
    "torch, in a graph": (PLANES.clone().requires_grad_() * 1, 0),
    "torch, of inference": (inference(lambda: PLANES * 1), 0),
    "PIL RGB": (pillow.fromarray(EIGHT), 0),
    "PIL palette": (pillow.fromarray(EIGHT).quantize(256), 0.2),
    "Image": (Image(PLANES), 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_the_same_whatever_holds_it(kind: str) -> None:
    source, error = KINDS[kind]
    image = as_image(source)
    assert image.pixels.dtype == torch.float32
    assert not image.pixels.requires_grad
    assert float((image.pixels - PLANES).abs().max()) <= error + 1e-7
    assert len(describe(source)["sha256"]) == 64


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA", "CMYK", "YCbCr", "F", "I;16"])
def test_pillow_images_are_read_as_their_files(tmp_path: Path, mode: str) -> None:
    values = {"F": EXACT[..., 0], "I;16": EIGHT[..., 0].astype(np.uint16) * 257}.get(mode)
    image = pillow.fromarray(EIGHT).convert(mode) if values is None else pillow.fromarray(values)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr", "F") else "a.png")
    image.save(path)
    held, read = as_image(image), as_image(path)
    assert torch.equal(held.pixels, read.pixels)
    assert (held.alpha is None) == (read.alpha is None)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (EIGHT.astype(np.int32), "uint8"),
        (torch.from_numpy(EIGHT).permute(2, 0, 1).long(), "uint8"),
        (EXACT.astype(complex), "complex"),
        (PLANES.to(torch.complex64), "complex"),
        (EIGHT.astype(np.float32), "scale it"),
        (EXACT * 2 - 1, r"\[-1, 1\]"),
        (np.full((4, 4), np.nan), "NaN"),
        (torch.full((3, 4, 4), torch.inf), "NaN or infinite"),
        (PLANES.permute(1, 2, 0), r"\[C, H, W\]"),
        (EXACT.transpose(2, 0, 1), r"\[H, W, C\]"),
        (np.zeros((0, 4)), "shape"),
        (np.zeros((2, 2, 2, 2)), "shape"),
        ([[1, 2], [3]], "an image must be"),
        ([["a"]], "integers or floating"),
        (None, "image"),
        (pillow.new("I", (4, 4)), "mode I"),
        (np.dstack([EXACT, EXACT[..., :1] + 3]), "opacity"),
    ],
    ids=range(17),
)
def test_what_is_no_image_is_refused_in_a_sentence(source: Any, match: str) -> None:
    with pytest.raises(iv.InputError, match=match) as caught:
        as_image(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sigma", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 1.0])
def test_honest_noise_is_not_refused(sigma: float, level: float) -> None:
    """Values stay within 6 sigma, and 5 % beyond [-1, 2] would need sigma > 0.6."""
    noise = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-6, 6)
    assert as_image(level + sigma * noise).size == (64, 64)


MASK = np.zeros((32, 40), np.uint8)
MASK[8:16, 8:16], MASK[6:8] = 255, 20
MASKS: dict[str, Any] = {
    "uint8": MASK,
    "torch uint8": torch.from_numpy(MASK),
    "bool": MASK > 127,
    "torch bool": torch.from_numpy(MASK > 127),
    "zeros and ones": (MASK > 127).astype(np.uint8),
    "int64": (MASK > 127).astype(np.int64),
    "int64 of 255": MASK.astype(np.int64),
    "torch long": torch.from_numpy((MASK > 127).astype(np.int64)),
    "float": MASK / 255,
    "float of ones": (MASK > 127).astype(float),
    "half": torch.from_numpy(MASK / 255).half(),
    "uint16": MASK.astype(np.uint16) * 257,
    "list": (MASK > 127).tolist(),
    "list of integers": (MASK > 127).astype(int).tolist(),
    "colours": np.dstack([MASK] * 3),
    "one channel": torch.from_numpy(MASK)[None],
    "white strokes on transparent": np.dstack([np.full_like(MASK, 255), MASK]),
    "PIL": pillow.fromarray(MASK),
    "PIL bits": pillow.fromarray(MASK > 127),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_means_the_same_in_a_file_and_in_memory(tmp_path: Path, kind: str) -> None:
    pillow.fromarray(MASK).save(tmp_path / "m.png")
    expected = torch.from_numpy(MASK > 127)
    assert torch.equal(read_mask(tmp_path / "m.png", (32, 40)), expected)
    assert torch.equal(read_mask(MASKS[kind], (32, 40)), expected)


@pytest.mark.parametrize(
    ("mask", "match"),
    [(MASK.astype(np.int64) * 3, "0 to 255"), (MASK * 0, "nothing"), (MASK * 0 + 1, "everything"),
     (MASK[1:], "same size"), (np.full(MASK.shape, np.nan), "NaN"), (MASK.astype(float), "scale")],
    ids=range(6),
)  # fmt: skip
def test_what_is_no_mask_is_refused(mask: Any, match: str) -> None:
    with pytest.raises(iv.InputError, match=match):
        read_mask(mask, (32, 40))


def test_kernels_of_every_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    np.save(tmp_path / "k.npy", kernel)
    np.savetxt(tmp_path / "k.txt", kernel)
    in_graph = torch.from_numpy(kernel).requires_grad_()
    held = [kernel, kernel.astype(np.float32), torch.from_numpy(kernel).half(), in_graph, kernel.tolist()]
    for source in [*held, tmp_path / "k.npy", tmp_path / "k.txt", inference(lambda: in_graph * 1)]:
        assert np.allclose(read_kernel(source).numpy(), kernel, atol=1e-4)
    assert caplog.text == ""
    shape = np.zeros((5, 5, 4), np.uint8)
    shape[..., :3], shape[1:4, 1:4, 3] = 255, np.round(255 * 4 * kernel)  # white paint on a transparent layer
    pillow.fromarray(shape).save(tmp_path / "k.png")
    for source in (tmp_path / "k.png", read_image(tmp_path / "k.png")):
        assert np.allclose(read_kernel(source).numpy()[1:4, 1:4], kernel, atol=1e-3)
    caplog.clear()
    read_kernel(np.ones((4, 5)) / 20)
    assert "even side, 4 x 5: its entry [2, 2]" in caplog.text
    for wrong, match in (
        (kernel.astype(complex), "real"),
        ("k", "no image|there is no"),
        (np.zeros((3, 3)), "sum"),
        ([[1, 2], [3]], "rows of equal length"),
    ):
        with pytest.raises(iv.InputError, match=match):
            read_kernel(wrong)
    (tmp_path / "o.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n")
    with pytest.raises(iv.InputError, match="table of numbers"):
        read_kernel(tmp_path / "o.npy")


def test_an_even_kernel_has_its_middle_where_the_message_says() -> None:
    """A point under a kernel with all weight at [h // 2, w // 2] stays where it is."""
    from invsolve.tasks.deblur import Deblur

    kernel = torch.zeros(4, 6, dtype=torch.float64)
    kernel[2, 3] = 1
    y = torch.rand(1, 9, 9, dtype=torch.float64)
    operator = Deblur(kernel).operator(1, (9, 9))
    scene = torch.zeros(1, 1, *operator.in_shape[1:], dtype=torch.float64)
    scene[..., 2 : 2 + 9, 3 : 3 + 9] = y
    assert torch.allclose(operator(scene)[0], y)


Y = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
A = operators.Denoising((3, 8, 8))


PRIOR = toy_prior()


def run(y: Any, solver: Any = None, **options: Any) -> torch.Tensor:
    cost = costs.GaussianLikelihood(A, y, 0.1)
    return iv.solve(iv.Problem(PRIOR, cost), solver or solvers.DPS(n_steps=3), **options).samples


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Y.numpy(), 0),
        (lambda: Y.double(), 1e-6),
        (lambda: Y.numpy().astype(np.float64), 1e-6),
        (lambda: Y.half(), 2e-2),
        (lambda: Y.bfloat16(), 5e-2),
        (lambda: Y.clone().requires_grad_(), 0),
        (lambda: inference(lambda: Y * 1), 0),
    ],
    ids=["numpy", "double", "numpy double", "half", "bfloat16", "graph", "inference"],
)
def test_measurements_of_every_kind_give_the_same_samples(make: Callable[[], Any], error: float) -> None:
    samples = run(make())
    assert not samples.requires_grad
    assert float((samples - run(Y)).abs().max()) <= error


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.bool])
def test_integers_are_no_measurements_and_no_images_of_an_operator(kind: torch.dtype) -> None:
    values = (Y * 255).to(kind)
    for call in (lambda: run(values), lambda: A(values), lambda: run(values.numpy())):
        with pytest.raises(iv.InputError, match="divide 8 bit"):
            call()


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


SOLVERS = {
    "dps": lambda: solvers.DPS(n_steps=2), "ndtm": lambda: solvers.NDTM(n_steps=2),
    "ddrm": lambda: solvers.DDRM(n_steps=2),
    "pnp-hqs": lambda: solvers.PnPHQS(n_steps=2), "red-diff": lambda: solvers.REDdiff(n_steps=2),
    "pigdm": lambda: solvers.PiGDM(n_steps=2), "daps": lambda: solvers.DAPS(n_steps=2),
}  # fmt: skip


@pytest.mark.parametrize("name", SOLVERS)
def test_torchs_default_precision_changes_nothing(name: str, double: None) -> None:
    samples = run(Y, SOLVERS[name]())
    assert samples.dtype == torch.float32
    torch.set_default_dtype(torch.float32)
    assert torch.equal(samples, run(Y, SOLVERS[name]()))


@pytest.mark.parametrize("name", SOLVERS)
def test_inference_mode_changes_nothing(name: str) -> None:
    expected = run(Y, SOLVERS[name]())
    with torch.inference_mode():
        mask = torch.ones(8, 8)
        mask[2:4] = 0
        cost = costs.GaussianLikelihood(operators.Inpainting((3, 8, 8), mask), Y * 1, 0.1)
        assert iv.solve(iv.Problem(PRIOR, cost), SOLVERS[name]()).ok
        assert torch.equal(run(Y * 1, SOLVERS[name]()), expected)


def test_whole_restorations_in_double_and_in_inference_mode(double: None) -> None:
    options: dict[str, Any] = {"task": "denoise", "noise": 0.1, "quality": "fast"}
    first = iv.restore(PLANES, **options).image.pixels
    torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        second = iv.restore(PLANES * 1, **options).image.pixels
    assert first.dtype == torch.float32
    assert torch.equal(first, second)


@pytest.mark.parametrize("task", ["auto", "denoise", "superres", "inpaint", "deblur", "blind-deblur", "jpeg"])
def test_every_task_reads_an_image_the_same_in_double(task: str, double: None) -> None:
    told: dict[str, Any] = {
        "deblur": {"blur_sigma": 1.0},
        "jpeg": {"compression": 50},
        "inpaint": {"mask": HALF.repeat(8, 0).repeat(8, 1)},
    }
    options: dict[str, Any] = {"task": task, "quality": "fast", **told.get(task, {})}
    photo = torch.as_tensor(data.coffee()[100:164, 100:164].copy()).movedim(-1, 0).float() / 255
    first = iv.restore(photo, **options)
    torch.set_default_dtype(torch.float32)
    second = iv.restore(photo, **options)
    assert first.image.pixels.dtype == torch.float32
    assert first.record["noise"] == second.record["noise"]
    assert torch.equal(first.image.pixels, second.image.pixels)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), torch.tensor(3), np.random.default_rng(0).integers(4)])
def test_seeds_of_numpy_are_seeds(seed: Any) -> None:
    assert torch.equal(run(Y, seed=seed), run(Y, seed=int(seed)))
    assert torch.equal(iv.Rng(seed).normal(Y), iv.Rng(int(seed)).normal(Y))


@pytest.mark.parametrize("seed", [1.5, "3", None, True, np.random.default_rng(0), torch.Generator(), np.float64(3)])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(iv.InputError, match="seed must be an integer"):
        run(Y, seed=seed)


HOLES = torch.rand(8, 8, generator=torch.Generator().manual_seed(1)) > 0.4
MASKED = operators.Inpainting((3, 8, 8), HOLES)


@pytest.mark.parametrize("name", [*SOLVERS, "mpgd"])
@pytest.mark.parametrize("filling", [1.0, -7.0, float("nan")])
def test_what_stands_in_missing_pixels_does_not_matter(name: str, filling: float) -> None:
    make = SOLVERS.get(name, lambda: solvers.MPGD(n_steps=2))
    results = []
    for y in (torch.where(HOLES, Y, 0.0), torch.where(HOLES, Y, filling)):
        problem = iv.Problem(toy_prior(), costs.GaussianLikelihood(MASKED, y, 0.1))
        results.append(iv.solve(problem, make()))
    assert torch.equal(results[0].samples, results[1].samples)
    assert torch.equal(results[0].energy, results[1].energy)


@pytest.mark.parametrize(("sigma", "filling"), [(0.2, 0.5), (0.4, 1.0), (0.02, 0.05), (0.1, 0.2)])
def test_grey_and_white_holes_are_no_noise_however_much_there_is(sigma: float, filling: float) -> None:
    grey = costs.GaussianLikelihood(MASKED, torch.where(HOLES, Y, filling), sigma)
    assert torch.equal(grey.measurement, torch.where(HOLES, Y, 0.0))
    noise = sigma * torch.randn(Y.shape, generator=torch.Generator().manual_seed(3))
    assert torch.equal(costs.GaussianLikelihood(MASKED, MASKED(Y) + noise, sigma).measurement, MASKED(Y) + noise)


@pytest.mark.parametrize(
    "cost",
    [costs.GaussianLikelihood(MASKED, None, 0.3), costs.LaplaceLikelihood(MASKED, None, 0.3),
     costs.PoissonLikelihood(MASKED, None, 10.0, 5.0), costs.PoissonGaussianLikelihood(MASKED, None, 10.0, 0.1, 5.0),
     costs.ImpulseLikelihood(MASKED, None, 0.1, 0.5), costs.SpeckleLikelihood(MASKED, None, 2.0),
     costs.GaussianLikelihood(2.0 * MASKED, None, 0.3), costs.GaussianLikelihood(MASKED @ A, None, 0.3)],
    ids=lambda cost: f"{type(cost).__name__} of {type(cost.operator).__name__}",
)  # fmt: skip
def test_a_simulation_has_nothing_in_missing_pixels(cost: Any) -> None:
    y = cost.simulate(Y, iv.Rng(0))
    assert float(y[..., ~HOLES].abs().max()) == 0
    assert float(y[..., HOLES].std()) > 0
    assert torch.isfinite(type(cost)(**{**vars(cost), "y": y})(Y)).all()


def test_missing_frequencies_and_masks_of_deepinv() -> None:
    deepinv = pytest.importorskip("deepinv")
    mri = operators.MRI((2, 8, 8), np.eye(8) > 0, np.ones((2, 8, 8), complex))
    y = costs.GaussianLikelihood(mri, None, 0.3).simulate(Y[:, :2], iv.Rng(0))
    assert float(y[..., ~torch.eye(8).bool()].abs().max()) == 0
    with pytest.raises(iv.InputError, match="two channels"):
        mri(torch.randn(1, 2, 8, 8, dtype=torch.complex64))
    masks = (torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    physics = deepinv.physics.Inpainting((3, 8, 8), mask=masks)
    operator: Any = operators.as_operator(physics)
    assert torch.equal(operator(Y), masks * Y)
    assert torch.equal(operator.pinv(Y), masks * Y)
    for rows in ([1], [1, 0, 0]):
        chosen = operator.select(torch.tensor(rows))
        assert torch.equal(chosen(Y[rows]), (masks * Y)[rows])
        assert torch.equal(chosen.adjoint(Y[rows]), (masks * Y)[rows])
    problem = iv.Problem(toy_prior(), costs.GaussianLikelihood(operator, masks * Y, 0.1))
    whole = iv.solve(problem, solvers.DDRM(n_steps=3), samples=2).samples
    assert torch.allclose(
        whole, iv.solve(problem, solvers.DDRM(n_steps=3), samples=2, microbatch=1).samples, 1e-4, 1e-4
    )


def test_functions_that_leave_torch_are_told_from_those_that_do_not() -> None:
    leaves = operators.as_operator(lambda x: torch.from_numpy(2 * x.detach().numpy()), in_shape=(3, 8, 8), linear=True)
    assert torch.equal(leaves(Y), 2 * Y)
    with pytest.raises(iv.CapabilityError, match="leaves torch"):
        leaves.adjoint(Y)  # pyright: ignore[reportAttributeAccessIssue]


def test_invisible_colours_reach_no_visible_pixel(tmp_path: Path) -> None:
    grid = np.hypot(*(np.mgrid[:32, :32] - 15.5))
    alpha = torch.from_numpy(np.clip(10.5 - grid, 0, 1)).float()[None]
    red = torch.tensor([0.8, 0.2, 0.1])[:, None, None]
    pixels = []
    for hidden in (0.0, 1.0):
        image = Image(torch.where(alpha > 0, red, hidden), alpha)
        assert torch.equal(without_hidden_colours(image), red.expand(3, 32, 32))
        restored = iv.restore(write_image(tmp_path / f"{hidden}.png", image), "superres", factor=2, noise=0.0)
        assert restored.image.alpha is not None
        pixels.append(restored.image.pixels[:, restored.image.alpha[0] > 0.5])
        assert float((pixels[-1] - red[..., 0]).abs().max()) < 0.05
    assert torch.equal(*pixels)
    assert torch.equal(without_hidden_colours(Image(PLANES)), PLANES)


def test_missing_pixels_of_a_restoration_may_be_anything() -> None:
    pixels = PLANES.clone()
    holes = torch.zeros(12, 16, dtype=torch.bool)
    holes[4:6, 4:7] = True
    options: dict[str, Any] = {"task": "inpaint", "noise": 0.05, "quality": "fast"}
    results = [iv.restore(torch.where(holes, v, pixels), mask=holes, **options).image.pixels for v in (0.0, 1.0)]
    unknown = torch.where(holes, torch.nan, pixels)
    results += [iv.restore(unknown, mask=holes, **options).image.pixels, iv.restore(unknown, **options).image.pixels]
    for other in results[1:]:
        assert torch.equal(other, results[0])
    with pytest.raises(iv.InputError, match="NaN"):
        iv.restore(unknown, task="denoise", noise=0.1)


def test_warnings_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        as_image(EIGHT)
    assert caplog.text == ""


def backwards(array: Any) -> Any:
    """The same values in a view that runs backwards."""
    return np.ascontiguousarray(array[..., ::-1])[..., ::-1]


def swapped(array: Any) -> Any:
    """The same values in the other byte order, as in FITS files."""
    return array.astype(array.dtype.newbyteorder(">"))


HALF = np.random.default_rng(1).random((8, 8)) < 0.5
ARRAYS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "Blur": (np.random.default_rng(2).random((3, 3)) / 4.5, lambda a: operators.Blur((3, 8, 8), a / a.sum())),
    "Inpainting": (HALF.astype(np.float32), lambda a: operators.Inpainting((3, 8, 8), a)),
    "from_image": (HALF.astype(np.float32), lambda a: operators.Inpainting.from_image((3, 8, 8), a)),
    "from_image of three": (
        np.stack([HALF] * 3).astype(np.float32), lambda a: operators.Inpainting.from_image((3, 8, 8), a)
    ),
    "MRI": (HALF.astype(np.float64), lambda a: operators.MRI((2, 8, 8), a)),
    "coils": (
        np.exp(1j * np.arange(128.0)).reshape(2, 8, 8), lambda a: operators.MRI((2, 8, 8), HALF.astype(float), a)
    ),
    "ShiftedMask": (HALF.astype(np.float32), lambda a: operators.ShiftedMask((3, 8, 8), a)),
    "VaryingBlur": (
        np.random.default_rng(3).random((2, 3, 3)) + 1,
        lambda a: operators.VaryingBlur(
            (3, 8, 8), a / a.sum((-2, -1), keepdims=True), np.stack([HALF, ~HALF]).astype(float)
        ),
    ),
    "RollingShutter": (
        np.random.default_rng(4).random((8, 2)).astype(np.float32), lambda a: operators.RollingShutter((3, 8, 8), a)
    ),
}  # fmt: skip


SUMMED = ("Blur", "VaryingBlur")
"""Operators whose arrays are divided by their sum here, which lists cannot be."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in ARRAYS for kind in (backwards, swapped, list) if kind is not list or name not in SUMMED],
)
@pytest.mark.filterwarnings("ignore:the blur kernel sums to")
def test_operators_take_arrays_of_any_layout(name: str, kind: Callable[[Any], Any]) -> None:
    array, make = ARRAYS[name]
    values = array.tolist() if kind is list else kind(array)
    expected, operator = make(torch.from_numpy(array.copy()) if name not in ("VaryingBlur",) else array), make(values)
    x = torch.rand(1, *operator.in_shape, generator=torch.Generator().manual_seed(0))
    theta = {"offset": torch.tensor([[0.5, 1.0]])} if name == "ShiftedMask" else {}
    assert torch.equal(operator(x, theta), expected(x, theta))


def test_tomography_takes_numpys_integers_and_angles() -> None:
    pytest.importorskip("deepinv")
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = operators.Tomography((1, 8, 8), 3)(x)
    number: Any = np.int64(3)
    assert torch.equal(operators.Tomography((1, 8, 8), number)(x), expected)
    angles: Any = np.linspace(0, 180, 4)[:-1][::-1]
    given = operators.Tomography((1, 8, 8), torch.from_numpy(angles.copy()))(x)
    assert torch.equal(operators.Tomography((1, 8, 8), angles)(x), given)


@pytest.mark.parametrize("kind", [backwards, swapped])
def test_measurements_and_masks_of_any_layout(kind: Callable[[Any], Any]) -> None:
    assert torch.equal(run(kind(Y.numpy())), run(Y))
    mean, cov = np.linspace(0, 1, 6), np.diag(np.linspace(1, 2, 6))
    prior = priors.GaussianPrior(kind(mean), kind(cov))
    x = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
    expected = priors.GaussianPrior(torch.from_numpy(mean), torch.from_numpy(cov)).denoise(x, 0.5)
    assert torch.equal(prior.denoise(x, 0.5), expected)
    deep = operators.Inpainting.from_image((3, 8, 8), kind((HALF * 2000).astype(np.uint16)), 1000)
    assert torch.equal(deep(Y), operators.Inpainting((3, 8, 8), HALF)(Y))
    for dtype in (np.uint8, np.int32, np.uint32, np.float32, bool):
        assert torch.equal(read_mask(kind(HALF.astype(dtype)), (8, 8)), torch.from_numpy(HALF)), dtype
    image = np.random.default_rng(5).random((8, 8, 3)).astype(np.float32)
    assert torch.equal(as_image(kind(image)).pixels, as_image(image).pixels)
    assert describe(kind(image)) == describe(image)


@pytest.mark.parametrize("make", [
    lambda: operators.Blur((3, 8, 8), torch.full((3, 3), 1 / 9)), lambda: operators.SuperResolution((3, 8, 8), 2),
    lambda: operators.MRI((1, 8, 8), torch.ones(8, 8)),
])  # fmt: skip
def test_complex_images_are_refused_rather_than_halved(make: Callable[[], Any]) -> None:
    operator = make()
    with pytest.raises(iv.InputError, match="takes real images: give real and imaginary parts as two channels"):
        operator(torch.zeros(1, *operator.in_shape, dtype=torch.complex64))


def of_numpy(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x) * 2)


def test_functions_that_convert_to_numpy_are_said_to_have_no_gradient() -> None:
    for linear in (True, False):
        operator = operators.as_operator(of_numpy, in_shape=(3, 8, 8), linear=linear)
        assert torch.equal(operator(Y), 2 * Y)
        with pytest.raises(iv.CapabilityError, match=r"of_numpy.* leaves torch and so has no gradient: write it in"):
            operator.vjp(Y, Y)
    in_place = operators.as_operator(lambda x: x.clamp_(0, 1), in_shape=(3, 8, 8))
    with pytest.raises(RuntimeError, match="in-place"):
        in_place.vjp(Y, Y)
    likelihood = costs.GaussianLikelihood(operators.as_operator(of_numpy, in_shape=(3, 8, 8)), Y, 0.1)
    for cost in (
        likelihood, costs.RewardCost(lambda x: of_numpy(x).mean((1, 2, 3))),
        costs.ClassifierCost(lambda x: of_numpy(x).flatten(1)[:, :2], 1, 2),
    ):  # fmt: skip
        with pytest.raises(iv.CapabilityError, match="leaves torch and so has no gradient"):
            iv.solve(iv.Problem(PRIOR, cost), solvers.DPS(n_steps=2))


@pytest.mark.parametrize(
    ("bits", "opened"),
    # Pillow scales the pixels of 2 and 4 bits, but not the transparent value, and does not say how many bits there were
    [*((bits, False) for bits in (1, 2, 4, 8, 16)), *((bits, True) for bits in (1, 8, 16))],
)
def test_the_transparent_value_of_grey_png_files(tmp_path: Path, bits: int, opened: bool) -> None:
    top = 2**bits - 1
    row = np.array([0, top, 0, top, top, 0, top, 0], np.uint16)
    packed = np.packbits((row[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).ravel()).tobytes()
    header = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", struct.pack(">H", top)), (b"IDAT", zlib.compress(b"\0" + packed))]
    path = tmp_path / "grey.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png.chunk(*one) for one in [*chunks, (b"IEND", b"")]))
    image = as_image(pillow.open(path) if opened else path)
    assert image.alpha is not None
    assert image.alpha[0, 0].tolist() == [1.0 - value / top for value in row.tolist()]


def test_colour_and_premultiplied_images_of_pillow_keep_their_opacity(tmp_path: Path) -> None:
    pillow.new("RGB", (3, 2), (9, 8, 7)).save(tmp_path / "key.png", transparency=(9, 8, 7))
    for image in (as_image(pillow.open(tmp_path / "key.png")), as_image(tmp_path / "key.png")):
        assert image.alpha is not None
        assert float(image.alpha.max()) == 0
    assert as_image(pillow.open(tmp_path / "key.png").convert("RGB").copy()).alpha is None  # flattened by the user
    grey = as_image(pillow.new("LA", (3, 2), (40, 128)).convert("La"))
    assert abs(float(grey.alpha[0, 0, 0]) - 128 / 255) < 1e-6  # pyright: ignore[reportOptionalMemberAccess]


def test_numpys_integers_are_those_of_python_in_records_and_names(tmp_path: Path) -> None:
    number: Any = np.int64(3)
    made = iv.restore(PLANES, task="denoise", noise=0.1, seed=number, samples=np.int64(1), tile=np.int64(64))
    assert (made.record["seed"], type(made.record["seed"])) == (3, int)
    assert json.dumps(made.record)
    assert json.loads(json.dumps(made.record["samples"])) == 1
    for names in (np.arange(2), torch.arange(2)):
        assert torch.equal(run(Y, items=names), run(Y, items=[0, 1]))


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.0])
def test_arrays_with_as_much_noise_as_may_be_told_are_images(sigma: float) -> None:
    noise = sigma * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    for grey in (0.0, 0.05, 0.5, 0.95, 1.0):
        assert as_image(grey + noise).pixels.shape == (3, 64, 64)
    stars = torch.zeros(1000, 1000)
    stars[::40, ::40] = 255
    for wrong in (255 * (0.5 + noise).clamp(0, 1), 2 * torch.rand(3, 64, 64) - 1, 5 * torch.rand(3, 64, 64), stars):
        with pytest.raises(iv.InputError, match=r"scale it to \[0, 1\]"):
            as_image(wrong)
