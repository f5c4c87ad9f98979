"""Operators against recorded outputs of the implementations behind the published tables, on a 3x64x64 image.

The recorded arrays are float32, so agreement ends at their rounding: 1e-6 (for the pseudo-inverse, which amplifies the
rounding of its input by up to 1 / s_min^2 = 25, 2e-6).
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from invsolve.operators import BlindBlur, Blur, GaussianBlur, HighDynamicRange, SuperResolution

SHAPE = (3, 64, 64)


@cache
def recorded() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "data" / "operators_64.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]).double() for name in arrays}


def gap(a: Tensor, name: str) -> float:
    return float((a[0] - recorded()[name]).abs().max())


def image() -> Tensor:
    return recorded()["x"][None]


@pytest.mark.parametrize("name", ["oc_bicubic4_H", "dps_resizer_bicubic4"])
def test_bicubic_matches_both_published_resizers(name):
    assert gap(SuperResolution(SHAPE, 4)(image()), name) < 1e-6


def test_bicubic_adjoint_and_pseudo_inverse_match():
    operator = SuperResolution(SHAPE, 4)
    y = operator(image())
    assert gap(operator.adjoint(y), "oc_bicubic4_Ht_of_H") < 1e-6
    assert gap(operator.pinv(y), "oc_bicubic4_Hpinv_of_H") < 2e-6


def test_bicubic_row_matrix_matches_in_double_precision():
    operator = SuperResolution((1, 64, 1 * 64), 4)
    columns = torch.eye(64, dtype=torch.float64)[:, None, :, None].expand(64, 1, 64, 64)
    assert torch.allclose(operator(columns)[:, 0, :, 0].T, recorded()["dps_resizer_rowmatrix_64"], rtol=0, atol=1e-14)


def test_average_pooling_matches():
    assert gap(SuperResolution(SHAPE, 4, "average")(image()), "oc_sr4_avgpool_H") < 1e-6


@pytest.mark.parametrize(
    ("kernel", "name"),
    [("gauss_kernel_64_std3_f64", "bid_gauss_H"), ("motion_kernel_64_i0.5_seed0", "bid_motion_H")],
)
def test_zero_padded_blur_matches_known_and_blind(kernel, name):
    k = recorded()[kernel]
    assert gap(Blur(SHAPE, k, "zero")(image()), name) < 1e-6
    assert gap(BlindBlur(SHAPE, (64, 64))(image(), {"kernel": k[None]}), name) < 1e-6


def test_gaussian_blur_with_reflection_matches():
    assert gap(GaussianBlur(SHAPE, 3, "reflect")(image()), "dps_gaussblur61_std3") < 1e-6


def test_high_dynamic_range_matches():
    with np.load(Path(__file__).parent / "data" / "hdr_64.npz") as arrays:
        want = torch.from_numpy(arrays["hdr_H"]).double()
    y = 2 * HighDynamicRange(SHAPE)((image() + 1) / 2) - 1
    assert float((y[0] - want).abs().max()) < 1e-6
