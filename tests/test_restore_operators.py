"""Non-linear deblurring and operators of one's own in `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import LinearOperator, solvers
from invsolve.core.prior import Prior
from invsolve.operators.kernel_wizard import KernelWizard, KernelWizardBlur
from invsolve.restoration import restore
from invsolve.tasks import nonlinear_deblur


class Pixels(Prior):
    """Exact denoiser of images whose pixels are independent, N(0, 0.3)."""

    schedule = iv.DDPMSchedule()

    def __init__(self, size: tuple[int, int]) -> None:
        self.shape = (3, *size)

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        alpha, sigma = self.schedule(t)
        return alpha * 0.3 / (alpha**2 * 0.3 + sigma**2) * x_t


class EveryOther(LinearOperator):
    """y = x[0::2]."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        c, h, w = in_shape
        self.in_shape, self.out_shape = (c, h, w), (c, (h + 1) // 2, w)

    def forward(self, x: Tensor, theta: Any = None) -> Tensor:
        return x[:, :, 0::2]


def squared(x: Tensor) -> Tensor:
    return x.square()


def image(h: int, w: int) -> Tensor:
    return 0.3 + 0.4 * torch.rand(3, h, w, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A narrow network in place of the published one, whose file is 460 MB."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = KernelWizard(width=4, front=1, back=1)
    monkeypatch.setattr(nonlinear_deblur, "_network", lambda path: network)
    (tmp_path / "GOPRO_wVAE.pth").write_bytes(b"stands for it")
    return tmp_path / "GOPRO_wVAE.pth"


def test_a_non_linear_blur_is_simulated_restored_and_recorded(weights):
    prior = Pixels((128, 128))
    done = restore(image(128, 128), "nonlinear-deblur", operator_weights=weights, simulate=True, prior=prior,
                   solver="ndtm", settings={"n_steps": 3}, seed=2)  # fmt: skip
    assert done.record["task"]["operator_weights"] == str(weights)
    assert done.record["solver"]["chosen"]["source"] == "ffhq256/deblur-nonlinear"
    assert done.record["solver"]["settings"]["gamma"] == 5.0
    assert {"restored", "blurred"} <= done.record["scores"].keys()


def test_a_measurement_has_its_kernel_code(weights, tmp_path):
    network, y = nonlinear_deblur._network(weights), image(128, 128)
    blur = KernelWizardBlur.draw((3, 128, 128), network, iv.Rng(3))
    np.save(tmp_path / "code.npy", blur.code[0].numpy())
    task = nonlinear_deblur.NonlinearDeblur.from_options(
        nonlinear_deblur.NonlinearOptions(weights, tmp_path / "code.npy"), iv.io.Image(y), None
    )
    torch.testing.assert_close(task.operator(3, (128, 128))(y[None]), blur(y[None]))
    options: dict[str, Any] = {"operator_weights": weights, "prior": Pixels((128, 128)), "noise": 0.005}
    with pytest.raises(iv.InputError, match="--operator-code"):
        restore(y, "nonlinear-deblur", **options)
    with pytest.raises(iv.InputError, match="multiples of 128"):
        restore(y[:, :100], "nonlinear-deblur", simulate=True, **options)


def test_the_weights_are_asked_for():
    with pytest.raises(iv.InputError, match="--operator-weights FILE"):
        restore(image(128, 128), "nonlinear-deblur", simulate=True, prior=Pixels((128, 128)))
    with pytest.raises(iv.InputError, match=r"there is no file gone\.pth"):
        restore(
            image(128, 128), "nonlinear-deblur", simulate=True, prior=Pixels((128, 128)), operator_weights="gone.pth"
        )


@pytest.mark.parametrize("simulate", [True, False])
def test_an_operator_of_one_s_own_restores(simulate):
    clean = image(20, 12)
    y = clean if simulate else clean[:, 0::2]
    size: dict[str, Any] = {} if simulate else {"image_size": (20, 12)}
    done = restore(y, "custom", operator_name=f"{__name__}:EveryOther", noise=0.005, simulate=simulate,
                   prior=Pixels((20, 12)), solver=solvers.DDNM(n_steps=5, noisy=False), **size)  # fmt: skip
    assert done.image.pixels.shape == (3, 20, 12)
    assert (done.image.pixels[:, 0::2] - clean[:, 0::2]).abs().max() < 0.05
    assert done.record["task"]["operator"].endswith(":EveryOther")


def test_a_function_is_an_operator_and_the_choice_says_whose_settings_it_has():
    done = restore(image(8, 8), "custom", operator_name=f"{__name__}:squared", noise=0.005, simulate=True,
                   prior=Pixels((8, 8)), settings={"n_steps": 2})  # fmt: skip
    assert "none are known for this prior and the task custom" in done.record["solver"]["chosen"]["reason"]
    assert "measured" in done.record["scores"]


def test_sizes_and_priors_that_do_not_fit_are_told():
    name = f"{__name__}:EveryOther"
    with pytest.raises(iv.InputError, match="--image-size H,W"):
        restore(image(10, 12), "custom", operator_name=name, noise=0.1, prior=Pixels((20, 12)))
    with pytest.raises(iv.InputError, match="no solver is known for custom under this prior: give --solver"):
        restore(image(10, 12), "custom", operator_name=name, noise=0.1, simulate=True)
