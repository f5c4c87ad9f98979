"""The evidence of a kernel: exact where it can be computed, least at the truth, and what is chosen by it."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from test_blind_deblur import blurred, cartoon, correlation
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.rng import Rng
from invsolve.io import read_image
from invsolve.operators import camera_shake_kernel, gaussian_kernel, motion_kernel
from invsolve.priors.kernels import packaged_kernels
from invsolve.tasks.blind import evidence
from invsolve.tasks.blind.edges import estimate_kernel
from invsolve.tasks.blind.evidence import GradientModel, free_energy, likelier_kernel
from invsolve.tasks.blind.fits import fit_kernel, fit_lags
from invsolve.tasks.blind.search import cost

COFFEE = Path(str(files("invsolve.bench") / "images" / "coffee.png"))


def framed(kernel: Tensor, side: int) -> Tensor:
    margin = (side - len(kernel)) // 2
    return F.pad(kernel.double(), (margin,) * 4)


def point(side: int) -> Tensor:
    kernel = torch.zeros(side, side, dtype=torch.float64)
    kernel[side // 2, side // 2] = 1
    return kernel


def test_the_free_energy_is_the_exact_evidence_of_gaussian_gradients(monkeypatch: pytest.MonkeyPatch):
    """Without a blur and with one variance v: -log N(d; 0, v + s^2), but for a constant."""
    y, kernel = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(0)), point(5)
    d = y.mean(0)
    d = torch.stack([d[1:, 1:] - d[1:, :-1], d[1:, 1:] - d[:-1, 1:]])
    rest = []
    for v in (1e-3, 1e-2, 5e-2):
        monkeypatch.setattr(evidence, "VARIANCES", (v,))
        for sigma in (0.05, 0.2):
            total = v + 4 * sigma**2 / 3
            rest.append(free_energy(y, kernel, sigma) - 0.5 * float((d.square() / total + math.log(total)).mean()))
    assert max(rest) - min(rest) < 2e-3


def test_the_e_step_is_the_weighted_least_squares_estimate():
    y = blurred(cartoon(40), motion_kernel(4, 20.0), 0.01)
    model = GradientModel(y, 5, 0.01)
    model.look_with(motion_kernel(4, 20.0))
    model.explain(400, 1)
    gradient = model._back(model.seen - model._blurred(model.x)) / model.noise - model.weight * model.x
    scale = (model._back(model.seen) / model.noise).norm()
    assert float(gradient.norm() / scale) < 1e-4


def test_the_fit_by_lags_leads_to_the_constrained_minimum():
    rng = np.random.default_rng(0)
    g, seen = torch.from_numpy(rng.normal(size=(2, 22, 21))), torch.from_numpy(rng.normal(size=(2, 20, 19)))
    start = torch.full((3, 3), 1 / 9, dtype=torch.float64)
    exact = fit_kernel(g, seen, start, 20.0, 500)
    found = start
    for _ in range(30):
        found = fit_lags(g, seen, found, 20.0, 100)
    assert torch.allclose(found, exact, atol=1e-6)


def test_fields_without_anything_leave_the_kernel_as_it_is():
    start = gaussian_kernel(1.0, 1)
    assert fit_lags(torch.zeros(2, 22, 21), torch.zeros(2, 20, 19), start, 0.0, 10) is start


KERNELS = {
    "motion": lambda: motion_kernel(8, 30.0),
    "shake": lambda: camera_shake_kernel(10, 0.3, Rng(4)),
    "gaussian": lambda: gaussian_kernel(1.5, 6),
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_true_kernel_is_the_likeliest(name: str):
    """No blur, the mirror image, a wider kernel and a narrower one explain the image worse."""
    image, kernel = read_image(COFFEE).pixels[:, 40:216, 40:216], framed(KERNELS[name](), 33)
    y = blurred(image, kernel[4:-4, 4:-4], 0.004)
    true = cost(y, kernel, 0.004)
    wider = F.interpolate(kernel[None, None], scale_factor=1.5, mode="bicubic")[0, 0].clamp_min(0)
    wider = wider[8:-8, 8:-8] if wider.shape[0] == 49 else wider[8:41, 8:41]
    narrower = framed(F.interpolate(kernel[None, None], size=(25, 25), mode="area")[0, 0], 33)
    others = {"no blur": point(33), "wider": wider / wider.sum(), "narrower": narrower / narrower.sum()}
    if name == "shake":
        others["mirrored"] = kernel.flip(0)
    for what, other in others.items():
        assert cost(y, other, 0.004) > true + 0.005, what


def test_steps_towards_the_evidence_find_a_better_kernel():
    image, kernel = read_image(COFFEE).pixels[:, 40:216, 40:216], camera_shake_kernel(12, 0.3, Rng(6))
    y = blurred(image, kernel, 0.003)
    first = estimate_kernel(y, 21)
    for kernels in (None, packaged_kernels().quick):
        found = likelier_kernel(y, first, 0.003, 4.0, kernels)
        assert correlation(found, kernel) > correlation(first, kernel) + 0.02
        assert free_energy(y, found, 0.003) < free_energy(y, first, 0.003) - 0.03
        assert float(found.min()) >= 0
        assert float(found.sum()) == pytest.approx(1)


def test_a_prior_of_kernels_leaves_less_that_belongs_to_none():
    image, kernel = read_image(COFFEE).pixels[:, 40:168, 40:168], camera_shake_kernel(12, 0.3, Rng(6))
    y, denoise = blurred(image, kernel, 0.02), packaged_kernels()
    first = estimate_kernel(y, 21)
    without, cleaned = (likelier_kernel(y, first, 0.02, 4.0, kernels) for kernels in (None, denoise.quick))
    unlike = [float((denoise(k, 0.1) - k).norm() / k.norm()) for k in (without, cleaned)]
    assert unlike[1] < 0.9 * unlike[0]
