"""The classical methods of benchmarks/peers: each restores better than nothing, and knows what it is told."""

from __future__ import annotations

import importlib.util
import time

import numpy as np
import pytest
import torch
from benchtoy import TOML, toy

from benchmarks.networks import FFHQ
from benchmarks.peers.__main__ import page
from invsolve.bench.peers import Unable, peer_named, run_peer
from invsolve.bench.peers.classical import METHODS, Measured
from invsolve.bench.peers.networks import WEIGHTS
from invsolve.bench.runner import run
from invsolve.bench.store import Store
from invsolve.bench.suite import TaskSpec
from invsolve.bench.tasks import measure
from invsolve.core.checks import InputError
from invsolve.diagnostics import show_images
from invsolve.operators import gaussian_kernel
from invsolve.testing.toy import white

DEEPINV = "invsolve.bench.deepinv_benchmarks"

SIDE = 32
ROWS, COLUMNS = np.meshgrid(np.linspace(0, 6, SIDE), np.linspace(0, 6, SIDE), indexing="ij")
CLEAN = np.stack([0.5 + 0.3 * np.sin(ROWS * k / 2 + COLUMNS) for k in (1, 2, 3)], 2)
NOISE = np.random.default_rng(0).standard_normal(CLEAN.shape)


def degraded(task: str) -> Measured:
    if task == "superres":
        return Measured(CLEAN.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean((1, 3)), 0.0, factor=2)
    if task == "inpaint":
        missing = np.random.default_rng(1).random((SIDE, SIDE)) < 0.4
        return Measured(np.where(missing[..., None], 0.5, CLEAN), 0.0, missing=missing)
    if task == "deblur":
        from scipy.ndimage import convolve

        kernel = gaussian_kernel(1.5).numpy()
        planes = [convolve(CLEAN[..., c], kernel, mode="reflect") for c in range(3)]
        return Measured(np.stack(planes, 2), 0.0, kernel=kernel)
    return Measured(CLEAN + 0.1 * NOISE, 0.1)


@pytest.mark.parametrize(
    ("task", "method"),
    [(task, method) for task, methods in METHODS.items() for method in methods if "bm3d" not in method.name],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_method_restores_better_than_nothing(task, method):
    y = degraded(task)
    best = min(np.abs(method.make(y, number) - CLEAN).mean() for number in method.numbers)
    nothing = np.abs(np.repeat(np.repeat(y.image, y.factor, 0), y.factor, 1) - CLEAN).mean()
    assert best < (1.05 if "unsupervised" in method.name else 1.0) * nothing


def test_what_is_not_known_is_not_asked_for():
    with pytest.raises(ValueError, match="nothing is missing"):
        METHODS["inpaint"][0].make(Measured(CLEAN, 0.1), 3)
    with pytest.raises(ValueError, match="was not blurred"):
        METHODS["deblur"][0].make(Measured(CLEAN, 0.1), 3)


def test_the_table_has_a_row_for_each_method():
    row = {"method": "TV", "parameter": "", "psnr": 30.0, "ssim": 0.9, "seconds": 0.5, "images": 6}
    assert "| TV |  | 30.00 | 0.900 | 0.50 |" in page({"denoise": [row]})


def test_the_network_of_benchmarks_has_the_shape_of_the_published_one():
    from adm_files import KEYS, shapes_of

    assert shapes_of(FFHQ) == KEYS["ffhq"]


def test_images_are_shown_with_their_titles():
    figure = show_images({"a": torch.rand(3, 8, 8), "b": torch.rand(1, 1, 8, 8), "map": torch.rand(8, 8)}, columns=2)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["a", "b", "map"]
    assert figure.axes[0].images[0].get_array().shape == (8, 8, 3)
    with pytest.raises(ValueError, match="'c' is"):
        show_images({"c": torch.rand(2, 8, 8)})
    with pytest.raises(ValueError, match="no images"):
        show_images({})


def problem_of(kind, noise=0.05, **options):
    """A measurement of a smooth image, and its problem."""
    image = torch.from_numpy(CLEAN).permute(2, 0, 1).float()
    measurement = measure(TaskSpec("task", kind, noise, options), image, "image", 0)
    return measurement, measurement.problem(white())


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("BM3D (bm3d)", "denoise", {}),
        ("Lanczos (Pillow)", "superres", {"factor": 2}),
        ("biharmonic (scikit-image)", "inpaint", {"missing": 0.5}),
        ("Wiener (scikit-image)", "deblur", {"std": 1.0}),
        ("Wiener (scikit-image)", "operator", {"operator": f"{DEEPINV}:gaussian_blur"}),
        ("biharmonic (scikit-image)", "operator", {"operator": f"{DEEPINV}:inpainting"}),
    ],
)
def test_a_classical_method_is_a_row(name, kind, options):
    measurement, problem = problem_of(kind, 0.01, **options)
    image = measurement.visible(run_peer(peer_named(name), problem, 2).samples[0].float())
    assert image.shape == (2, *measurement.truth.shape)
    assert torch.allclose(image[0], image[1], atol=1e-5)
    inside = (..., slice(8, -8), slice(8, -8))
    assert float((image[0] - measurement.truth)[inside].abs().mean()) < 0.03
    with pytest.raises(Unable, match="only"):
        run_peer(peer_named(name), problem_of("superres" if kind != "superres" else "denoise", 0.01)[1], 1)


def test_a_sampler_refuses_a_prior_on_another_device(monkeypatch):
    _, problem = problem_of("denoise")
    monkeypatch.setattr(type(problem.prior), "device", torch.device("meta"), raising=False)
    with pytest.raises(InputError, match=r"deepinv DPS runs on the CPU, and the prior is on meta"):
        run_peer(peer_named("deepinv DPS"), problem, 1)
    assert run_peer(peer_named("BM3D (bm3d)"), problem, 1).samples.shape[:2] == (1, 1)


def test_loading_a_network_does_not_count(tmp_path, monkeypatch):
    class Same(torch.nn.Module):
        def forward(self, y, sigma):
            return y

    def slow(*args, **settings):
        time.sleep(0.6)
        return Same()

    monkeypatch.setattr("invsolve.bench.peers.networks._network", slow)
    text = TOML.split("[[tasks]]")[0] + '[[tasks]]\nname = "denoise"\nkind = "denoise"\n'
    text += '[[solvers]]\nname = "DRUNet"\npeer = "deepinv DRUNet"\n'
    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path, text.replace("samples = 4", "samples = 1\nseconds = 0.5")), store)
        units = store.units()
    assert [unit["status"] for unit in units] == ["ok"] * 3
    assert all(0 < unit["seconds"] < 0.3 for unit in units)


def test_a_network_runs_where_its_weights_are_and_says_what_is_missing(tmp_path, monkeypatch):
    from deepinv.models import DRUNet

    monkeypatch.setenv("INVSOLVE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    _, problem = problem_of("denoise")
    for name in ("deepinv DRUNet", "deepinv DPIR", "deepinv RAM", "deepinv SwinIR", "deepinv SCUNet"):
        with pytest.raises(Unable, match=r"weights missing: put \w+[\w.-]+ into .*; then --retry"):
            run_peer(peer_named(name), problem, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(DRUNet(pretrained=None).state_dict(), tmp_path / WEIGHTS["DRUNet"])
    one, eight = (run_peer(peer_named(f"deepinv {name}"), problem, 1) for name in ("DRUNet", "DPIR"))
    assert (one.forwards, eight.forwards) == (1, 8)
    assert not torch.equal(one.samples, eight.samples)
    with pytest.raises(Unable, match="only removes noise"):
        run_peer(peer_named("deepinv DRUNet"), problem_of("inpaint", missing=0.5)[1], 1)
    if importlib.util.find_spec("spandrel") is None:
        with pytest.raises(InputError, match="needs spandrel"):
            run_peer(peer_named(f"spandrel:{WEIGHTS['DRUNet']}"), problem, 1)
        return
    theirs = run_peer(peer_named(f"spandrel:{WEIGHTS['DRUNet']}"), problem, 1)
    assert theirs.samples.shape == one.samples.shape
    with pytest.raises(Unable, match="enlarges 1 times"):
        run_peer(peer_named(f"spandrel:{WEIGHTS['DRUNet']}"), problem_of("superres", factor=2)[1], 1)
    with pytest.raises(Unable, match=r"put nothing.pth into"):
        run_peer(peer_named("spandrel:nothing.pth"), problem, 1)
