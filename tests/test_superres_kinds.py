"""Enlarging images that were made smaller in different ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from test_restore import SmoothPrior, photograph

import invsolve as iv
from invsolve.core.checks import InputError
from invsolve.tasks.decimation import Decimation
from invsolve.tasks.superres import Superres
from invsolve.testing import check_operator

PILLOW = {"bicubic": Pil.Resampling.BICUBIC, "area": Pil.Resampling.BOX, "lanczos": Pil.Resampling.LANCZOS}


@pytest.mark.parametrize("how", PILLOW)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_operators_do_what_pillow_does(how, factor):
    x = torch.rand(1, 24 * factor, 30 * factor, generator=torch.Generator().manual_seed(0))
    small = np.asarray(Pil.fromarray(x[0].numpy()).resize((30, 24), PILLOW[how]))
    made = Superres(factor, how).operator(1, (24, 30))(x[None])[0, 0].numpy()
    # Pillow cuts its filters at the border, the operators mirror the image there
    inner = slice(4, -4)
    assert np.abs(made[inner, inner] - small[inner, inner]).max() < 1e-5


@pytest.mark.parametrize("factor", [2, 3])
def test_decimation_keeps_its_contract(factor):
    operator = Decimation((1, 2 * factor, 3 * factor), factor)
    check_operator(operator).raise_if_failed()
    x = torch.rand(1, 1, 2 * factor, 3 * factor)
    assert torch.equal(operator(x), x[..., ::factor, ::factor])
    assert torch.equal(operator(operator.pinv(operator(x))), operator(x))
    solved = operator.solve_normal(x, 0.3)
    torch.testing.assert_close(operator.normal(solved) + 0.3 * solved, x)
    y = operator(x)
    torch.testing.assert_close(operator.ridge(y, 0.3), operator.solve_normal(operator.adjoint(y), 0.3))


@pytest.mark.parametrize("how", ["bicubic", "area", "lanczos", "nearest"])
def test_the_right_filter_restores_best(how):
    """The image that was made smaller one way is restored better when that is told than when another way is."""
    small = Superres(2, how).degrade(photograph())[0]
    scores = {}
    for told in ("bicubic", "area", "lanczos", "nearest"):
        done = iv.restore(
            small, "superres", factor=2, downsampling=told, noise=0.003, prior=SmoothPrior(), settings={"n_steps": 30}
        )
        scores[told] = float((done.image.pixels - photograph()).square().mean())
    assert scores[how] < 1.02 * min(scores.values())
    assert scores["nearest"] == max(scores.values()) or how == "nearest"
    assert done.record["task"]["downsampling"] == "nearest"


def test_an_unknown_filter_is_refused():
    with pytest.raises(InputError, match=r"downsampling is one of .*'lanczos'"):
        iv.restore(photograph(), "superres", downsampling="cubic", prior=SmoothPrior())
