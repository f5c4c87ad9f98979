"""`check_prior`: exact networks pass, and each classic mistake in their declaration is caught and named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import invsolve as iv
from invsolve import priors
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.loading.beta_tables import betas
from invsolve.testing import check_prior

SIDE = 16


def smooth(n: int = 2) -> tuple[Tensor, Tensor]:
    """A Gaussian law of smooth images [3 x 16 x 16] in [0, 1] units: its DCT spectrum, and n draws."""
    k = torch.arange(SIDE, dtype=torch.float64)
    spectrum = (4.0 / (1 + k[:, None] ** 2 + k[None] ** 2) ** 4).expand(3, -1, -1)
    g = torch.Generator().manual_seed(3)
    draws = torch.randn(n, 3, SIDE, SIDE, generator=g, dtype=torch.float64) * spectrum.sqrt()
    return spectrum, basis().T @ draws @ basis() + 0.5


def basis() -> Tensor:
    """The orthonormal DCT: rows are frequencies."""
    k = torch.arange(SIDE, dtype=torch.float64)
    rows = torch.cos(torch.pi * (k[None] + 0.5) * k[:, None] / SIDE) * (2 / SIDE) ** 0.5
    rows[0] /= 2**0.5
    return rows


class Exact(nn.Module):
    """The exact network of that law in [-1, 1] units, for a parametrisation and a schedule."""

    def __init__(self, kind: str, schedule: iv.Schedule, *, offset: int = 0, unit: bool = False) -> None:
        super().__init__()
        self.kind, self.schedule, self.offset = kind, schedule, offset
        self.width, self.low = (1.0, 0.0) if unit else (2.0, -1.0)
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        if isinstance(self.schedule, iv.DDPMSchedule):
            t = (min(max(int(c[0]) + self.offset, 0), 999) + 1) / 1000
        else:
            t = min(float(c[0]), 1.0)
        alpha, sigma = (1.0, float(c[0])) if self.kind == "edm" else self.schedule(t)
        law = smooth(1)[0] * self.width**2
        mean = 0.5 * self.width + self.low
        gain = alpha * law / (alpha**2 * law + sigma**2)
        x0 = mean + basis().T @ (gain * (basis() @ (x - alpha * mean) @ basis().T)) @ basis()
        eps = (x - alpha * x0) / sigma
        return {"eps": eps, "v": alpha * eps - sigma * x0, "x0": x0, "velocity": eps - x0, "edm": x0}[self.kind]


LINEAR, COSINE = iv.DDPMSchedule(), iv.DDPMSchedule(betas("cosine"))


def check(module: nn.Module, **declared: Any):
    return check_prior(priors.NetworkPrior(module, **declared), smooth(2)[1])


@pytest.mark.parametrize("kind", ["eps", "v", "x0", "velocity", "edm"])
@pytest.mark.parametrize("schedule", [LINEAR, COSINE, iv.FlowSchedule()], ids=repr)
def test_rightly_declared_networks_pass(kind, schedule):
    report = check(Exact(kind, schedule), parametrization=kind, schedule=schedule)
    assert report.passed, str(report)


@pytest.mark.parametrize(
    ("module", "declared", "cause"),
    [
        (Exact("v", LINEAR), {"parametrization": "eps"}, "it predicts 'v'"),
        (Exact("x0", LINEAR), {"parametrization": "eps"}, "it predicts 'x0'"),
        (Exact("eps", LINEAR), {"parametrization": "v"}, "it predicts 'eps'"),
        (Exact("velocity", iv.FlowSchedule()), {"parametrization": "eps", "schedule": iv.FlowSchedule()}, "'velocity'"),
        (Exact("eps", COSINE), {}, "trained on the cosine table"),
        (Exact("v", LINEAR), {"parametrization": "v", "schedule": COSINE}, "trained on the linear table"),
        (Exact("eps", LINEAR), {"value_range": (0.0, 1.0)}, r"trained on \(-1\.0, 1\.0\)"),
        (Exact("eps", LINEAR, unit=True), {}, r"trained on \(0\.0, 1\.0\)"),
        (Exact("eps", LINEAR, offset=-1), {}, "index offset: one more is expected"),
        (Exact("eps", LINEAR, offset=1), {}, "index offset: one less is expected"),
    ],
)
def test_a_wrong_declaration_is_caught_and_named(module, declared, cause):
    report = check(module, **declared)
    failed = {entry.name: entry.detail for entry in report.failures}
    assert "declared as it was trained" in failed
    import re

    assert re.search(cause, failed["declared as it was trained"])


def test_a_noise_level_told_in_other_units_is_named():
    class Halved(Exact):
        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            return super().forward(x, c / 2)

    report = check(Halved("edm", LINEAR), parametrization="edm")
    assert any("2 times what it is given" in entry.detail for entry in report.failures)


def test_train_mode_and_dropout_are_caught():
    class Noisy(Exact):
        def __init__(self) -> None:
            super().__init__("eps", LINEAR)
            self.dropout = nn.Dropout(0.1)

        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            return self.dropout(super().forward(x, c))

    prior = priors.NetworkPrior(Noisy())
    assert check_prior(prior, smooth()[1]).passed
    prior.module.train()
    failed = {entry.name for entry in check_prior(prior, smooth()[1]).failures}
    assert {"evaluation mode", "deterministic", "global generator untouched"} <= failed


def test_a_label_that_is_ignored_is_caught():
    class Labelled(nn.Module):
        def __init__(self, heed: bool) -> None:
            super().__init__()
            self.exact, self.heed = Exact("eps", LINEAR), heed

        def forward(self, x: Tensor, c: Tensor, label: Tensor | None = None) -> Tensor:
            assert label is not None
            return self.exact(x, c) + (1e-3 * label if self.heed else 0.0)

    for heed in (True, False):
        prior = ConditionalPrior(Labelled(heed), 5, shape=(3, SIDE, SIDE))
        report = check_prior(prior, smooth()[1])
        assert report.passed == heed, str(report)


def test_half_precision_that_overflows_is_caught():
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Conv2d(3, 3, 1, bias=False)
            self.down = nn.Conv2d(3, 3, 1, bias=False)
            self.up.weight.data = 1e5 * torch.eye(3)[:, :, None, None]
            self.down.weight.data = 1e-5 * torch.eye(3)[:, :, None, None]

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return self.down(self.up(x)) / (1 + sigma[:, None, None, None] ** 2)

    report = check_prior(priors.NetworkPrior(Large(), "edm"), smooth()[1])
    failed = {entry.name for entry in report.failures}
    assert "finite in float16" in failed
    assert "finite in bfloat16" not in failed


def test_the_embedded_prior_passes_on_the_photographs_of_the_package():
    report = check_prior(priors.load("natural"), half=False)
    assert report.passed, str(report)


def test_images_of_another_kind_are_blamed_on_no_mistake():
    report = check_prior(priors.load("digits"), half=False)
    details = {entry.name: entry.detail for entry in report.failures}
    assert "images of the kind it was trained on" in details["share of the noise that is left"]
    assert "declared as it was trained" not in details


def test_dropout_that_is_always_on_is_caught():
    class Forgetful(Exact):
        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(x, c), 0.01, training=True)

    failed = {entry.name: entry.detail for entry in check(Forgetful("eps", LINEAR)).failures}
    assert "dropout" in failed["deterministic"]
    assert "global generator untouched" in failed


def test_a_network_that_does_not_denoise_is_caught():
    class Nothing(nn.Module):
        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return x

    failed = {entry.name for entry in check_prior(priors.NetworkPrior(Nothing(), "edm"), smooth()[1]).failures}
    assert "share of the noise that is left" in failed
