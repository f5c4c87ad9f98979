"""Networks of the published sizes, with random weights in files of the published format, restore 256 x 256 images.

Two steps of each task. A call of the FFHQ network (94 million weights) takes 6 s on one core, with its gradient 12 s;
ImageNet's has 553 million.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adm_files import DATA, KEYS, random_state

import invsolve as iv

pytestmark = pytest.mark.slow

SIDE = 256
MEMORY = 12e9
"""Bytes that must be free for the ImageNet network of 553 million weights and its gradient."""


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Callable[[str], Path]:
    """The file of a published network, written once."""
    folder = tmp_path_factory.mktemp("networks")

    def path(name: str) -> Path:
        file = folder / f"{name}.pt"
        if not file.is_file():
            torch.save(random_state(KEYS[name]), file)
        return file

    return path


@pytest.fixture(scope="module")
def bkse(tmp_path_factory) -> Path:
    """Random weights of the network of the non-linear blur, as published."""
    published = json.loads((DATA / "bkse_kernelwizard_keys.json").read_text())
    path = tmp_path_factory.mktemp("bkse") / "GOPRO_wVAE.pth"
    torch.save(random_state(dict(published["keys"])), path)
    return path


def scene() -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.linspace(0, 6, SIDE), torch.linspace(0, 9, SIDE), indexing="ij")
    return torch.stack([0.5 + 0.4 * (rows * k).sin() * (columns + k).cos() for k in (1.0, 1.5, 2.0)])


def restored(task: str, prior: Path, **options: Any) -> iv.Restoration:
    """Two steps of NDTM with an update each, on a simulated measurement."""
    few = {"n_steps": 2, "n_inner": 1}
    done = iv.restore(scene(), task, prior=prior, simulate=True, noise=0.005, settings=few, **options)
    told = done.record["solver"]
    assert told["name"] == "ndtm"
    assert {name: told["settings"][name] for name in few} == few
    assert done.truth is not None  # a blur is simulated inside the image, whose margin is its scene
    assert done.image.pixels.shape == done.truth.shape
    assert bool(torch.isfinite(done.result.samples).all())
    assert done.result.stats.network_forwards == 4
    assert done.result.stats.network_backwards == 2
    assert {"restored"} < done.record["scores"].keys()
    return done


@pytest.mark.parametrize(
    ("task", "options", "source"),
    [
        ("superres", {"factor": 4}, "ffhq256/superres4"),
        ("inpaint", {"mask": (torch.arange(SIDE * SIDE) % 10 > 0).view(SIDE, SIDE).float()}, "ffhq256/inpaint"),
        ("deblur", {"blur_sigma": 3.0}, "ffhq256/superres4"),
        ("blind-deblur", {"blur_sigma": 2.0, "quality": "best"}, "ffhq256/blind-deblur"),
    ],
)
def test_the_ffhq_network_restores(network, task, options, source):
    done = restored(task, network("ffhq"), **options)
    assert done.record["solver"]["chosen"]["source"] == source
    assert (done.kernel is not None) == (task == "blind-deblur")


def test_the_ffhq_network_restores_what_the_network_of_bkse_blurred(network, bkse):
    done = restored("nonlinear-deblur", network("ffhq"), operator_weights=bkse)
    assert done.record["solver"]["chosen"]["source"] == "ffhq256/deblur-nonlinear"


def test_the_imagenet_network_restores(network):
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    if free < MEMORY:
        pytest.skip(f"{free / 1e9:.0f} GB of memory are free, {MEMORY / 1e9:.0f} are needed")
    path = network("imagenet256_uncond")
    restored("superres", path, factor=4, preset="imagenet256/superres4", prior_options={"checkpointing": True})
