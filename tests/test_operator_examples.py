"""Every registered operator keeps the contract, in float64 and in float32, and reproduces what its formula says."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import operators
from invsolve.testing import check_operator
from invsolve.testing.examples import EXAMPLES, example

NAMES = sorted(operators.OPERATORS)


def image(shape: tuple[int, ...], n: int = 2) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_every_example_is_of_a_registered_operator():
    assert set(EXAMPLES) <= set(NAMES)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_registered_operators_keep_the_contract(name, dtype):
    if name == "radio-interferometry" and importlib.util.find_spec("torchkbnufft") is None:
        with pytest.raises(iv.InputError, match="pip install torchkbnufft"):
            example(name)
        return
    made = example(name)
    check_operator(made.operator, batch=2, dtype=dtype, theta=made.theta(2)).raise_if_failed()


def test_demosaicing_sees_one_colour_a_pixel():
    x = image((3, 4, 6))
    y = operators.Demosaicing((3, 4, 6), "GRBG")(x)[:, 0]
    torch.testing.assert_close(y[:, 0::2, 0::2], x[:, 1, 0::2, 0::2])
    torch.testing.assert_close(y[:, 0::2, 1::2], x[:, 0, 0::2, 1::2])
    torch.testing.assert_close(y[:, 1::2, 0::2], x[:, 2, 1::2, 0::2])


def test_colourisation_is_a_weighted_mean_also_with_negative_weights():
    x = image((3, 4, 4))
    for weights in (operators.Colourisation((3, 4, 4)).weights.tolist(), [-0.5, 0.2, 0.1]):
        want = sum(w * x[:, i : i + 1] for i, w in enumerate(weights))
        torch.testing.assert_close(operators.Colourisation((3, 4, 4), weights)(x), want)


def test_hadamard_sensing_is_the_matrix():
    sensing = operators.HadamardSensing((1, 2, 4), 1.0, rng=iv.Rng(0))
    h2 = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    matrix = torch.kron(torch.kron(h2, h2), h2) / 8**0.5
    x = image((1, 2, 4))
    want = (sensing.constants["signs"] * x).flatten(2) @ matrix.T
    torch.testing.assert_close(sensing(x), want)


def test_mri_with_one_coil_is_the_masked_transform():
    mask = torch.zeros(6, 8)
    mask[3, 4] = 1  # zero frequency
    x = image((2, 6, 8))
    y = operators.MRI((2, 6, 8), mask)(x)
    mean = torch.complex(x[:, 0], x[:, 1]).sum((1, 2)) / 48**0.5
    torch.testing.assert_close(y[:, 0, 3, 4], mean)
    assert int((y != 0).sum()) == 2


def test_a_varying_blur_of_equal_kernels_is_a_blur_and_a_still_shutter_changes_nothing():
    shape, kernel = (2, 8, 9), operators.gaussian_kernel(1.0, 2)
    x = image(shape)
    mixed = operators.VaryingBlur(shape, torch.stack([kernel, kernel]), operators.VaryingBlur.grid(1, 2, 8, 9))
    torch.testing.assert_close(mixed(x), operators.Blur(shape, kernel, "reflect")(x))
    torch.testing.assert_close(operators.RollingShutter(shape, torch.zeros(8, 2))(x), x)
    moved = operators.RollingShutter(shape, torch.tensor([0.0, 1.0]).expand(8, 2))(x)
    torch.testing.assert_close(moved[..., :-1], x[..., 1:])


def test_shift_moves_by_whole_and_half_pixels():
    x = image((1, 6, 8))
    torch.testing.assert_close(operators.Shift((1, 6, 8), 1, -2)(x), x.roll((1, -2), (2, 3)))
    half = 0.5 * (x + x.roll(1, 3))
    torch.testing.assert_close(operators.Shift((1, 6, 8), 0, 0.5)(x), half)


def test_an_offset_mask_moves_with_its_offset():
    mask = torch.zeros(8, 8)
    mask[2:5, 3:6] = 1
    operator = operators.ShiftedMask((1, 8, 8), mask)
    here, there = operator.mask(torch.tensor([[0.0, 0.0], [2.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(there, here.roll((2, 1), (1, 2)))


def test_high_dynamic_range_is_the_published_one():
    x = image((3, 4, 4))
    want = (2 * (2 * x - 1)).clamp(-1, 1)
    torch.testing.assert_close(2 * operators.HighDynamicRange((3, 4, 4))(x) - 1, want)


def test_true_jpeg_is_what_pillow_writes_and_passes_gradients_through():
    import io

    import numpy
    from PIL import Image

    x = image((3, 16, 32), 1)
    y = operators.JPEG((3, 16, 32), 30)(x)
    file = io.BytesIO()
    values = (x[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(values).save(file, "JPEG", quality=30, subsampling="4:2:0")
    want = torch.from_numpy(numpy.array(Image.open(file))).permute(2, 0, 1) / 255
    torch.testing.assert_close(y[0], want.double())
    smooth = operators.JPEG((3, 16, 32), 30, "smooth")
    v = image((3, 16, 32), 1)
    torch.testing.assert_close(operators.JPEG((3, 16, 32), 30).vjp(x, v), smooth.vjp(x, v))


def test_fourier_magnitude_forgets_the_mirror_image_and_coded_diffraction_does_not():
    x = image((1, 6, 6), 1)
    fourier, coded = operators.FourierMagnitude((1, 6, 6)), operators.CodedDiffraction((1, 6, 6), rng=iv.Rng(0))
    torch.testing.assert_close(fourier(x), fourier(x.flip(-2, -1)))
    assert (coded(x) - coded(x.flip(-2, -1))).abs().max() > 0.1
    torch.testing.assert_close(fourier(x).square().sum(), x.square().sum(), rtol=1e-6, atol=0)


def test_camera_blur_smears_highlights_and_saturates():
    shape, kernel = (1, 9, 9), operators.gaussian_kernel(1.0, 2)
    plain = operators.CameraBlur(shape, kernel, gamma=1.0)
    x = image(shape)
    torch.testing.assert_close(plain(x), operators.Blur(shape, kernel, "reflect")(x))
    spot = torch.full((1, *shape), 0.05, dtype=torch.float64)
    spot[..., 4, 4] = 1.0
    encoded = operators.CameraBlur(shape, kernel)(spot)
    assert encoded[0, 0, 4, 6] > 1.2 * plain(spot)[0, 0, 4, 6]
    assert operators.CameraBlur(shape, kernel, exposure=30.0)(x).max() == 1.0
