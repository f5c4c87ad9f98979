"""How wide edges are, and that the task auto says so and leaves them."""

from __future__ import annotations

import math

import pytest
import torch
from test_auto import QUICK, crop, file
from torch.nn import functional as F

import invsolve as iv
from invsolve.tasks.sharpness import BLURRED, edge_width


def step(width: float, side: int = 256) -> torch.Tensor:
    """Rows of one edge between 0.2 and 0.8, blurred by a Gaussian; 0 is a step."""
    place = torch.arange(side) - side / 2 + 0.5
    row = (place > 0).double() if width == 0 else 0.5 * (1 + torch.erf(place / (width * math.sqrt(2))))
    return (0.2 + 0.6 * row).expand(3, side, side).float()


def blurred(x: torch.Tensor, std: float) -> torch.Tensor:
    reach = math.ceil(3 * std)
    line = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * std**2))
    kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, -1, -1)
    return F.conv2d(F.pad(x[None], (reach,) * 4, mode="reflect"), kernel, groups=3)[0].clamp(0, 1)


@pytest.mark.parametrize("std", [1.0, 2.0, 4.0])
def test_a_blurred_step_is_as_wide_as_its_formula(std: float) -> None:
    for x in (step(std), step(std).mT):
        assert edge_width(x) == pytest.approx(math.sqrt(2 * math.pi) * std, rel=0.05)


def test_a_step_is_one_pixel_wide_and_ramps_are_no_edges() -> None:
    assert edge_width(step(0)) == pytest.approx(1)
    assert edge_width(torch.full((1, 64, 64), 0.5)) is None
    assert edge_width(torch.linspace(0, 1, 256).expand(1, 256, 256)) is None
    for size in ((1, 1), (1, 40), (40, 1)):
        assert edge_width(torch.rand(3, *size)) is None


@pytest.mark.parametrize("index", [1, 2, 3])
def test_photographs_out_of_focus_look_blurred_and_sharp_ones_do_not(index: int) -> None:
    sharp, soft = (edge_width(x) for x in (crop(index), blurred(crop(index), 2)))
    assert sharp is not None
    assert sharp < 0.75 * BLURRED
    assert soft is None or soft > BLURRED


def test_a_blur_is_said_and_left() -> None:
    done = iv.restore((blurred(crop(1), 2) * 255).round() / 255, **QUICK)
    assert done.record["auto"]["task"] == "unchanged"
    assert done.record["auto"]["edge_width"] > BLURRED
    assert any("looks blurred: its sharpest edges are about" in line for line in done.record["auto"]["found"])
    assert not any("looks blurred" in line for line in iv.restore(crop(1), **QUICK).record["auto"]["found"])


def test_a_jpeg_file_of_a_sharp_photograph_does_not_look_blurred(tmp_path) -> None:
    done = iv.restore(file(tmp_path / "a.jpg", crop(1), 90), **QUICK)
    assert done.record["auto"]["edge_width"] < BLURRED
