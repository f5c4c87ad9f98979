"""The classical methods of benchmarks/peers: each restores better than nothing, and knows what it is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.peers.__main__ import markdown
from benchmarks.peers.methods import METHODS, Measured
from benchmarks.priors.untrained import FFHQ
from invsolve.diagnostics import show_images
from invsolve.operators import gaussian_kernel

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
    assert "| TV |  | 30.00 | 0.900 | 0.50 |" in markdown({"denoise": [row]})


def test_the_untrained_network_has_the_shape_of_the_published_one():
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
