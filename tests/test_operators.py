"""Operators against dense matrices, independent formulas and the public conformance checks."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from invsolve.core.checks import CapabilityError, InputError, ShapeError
from invsolve.core.rng import Rng
from invsolve.core.svd import SVDOperator
from invsolve.operators import (
    JPEG,
    OPERATORS,
    BlindBlur,
    Blur,
    CircularBlur,
    Decimation,
    Denoising,
    GaussianBlur,
    Inpainting,
    MotionBlur,
    Quantisation,
    SpatialBlur,
    SuperResolution,
    SymmetricBlur,
    camera_shake_kernel,
    gaussian_kernel,
    motion_kernel,
)
from invsolve.testing import check_operator

PADDINGS = ("circular", "symmetric", "reflect", "zero")
BATCH = 3


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_kernel(*shape, seed=0):
    kernel = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    kernel[..., (shape[-2] - 1) // 2, (shape[-1] - 1) // 2] += shape[-2] * shape[-1]  # well conditioned
    return kernel / kernel.sum((-2, -1), keepdim=True)


def dense(f, shape):
    """The matrix of a linear map, column by column."""
    n = int(np.prod(shape))
    return f(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).flatten(1).T


CASES = {
    "denoising": [lambda: Denoising((2, 3, 4)), lambda: Denoising((5,))],
    "super-resolution": [
        lambda: SuperResolution((2, 8, 12), 4),
        lambda: SuperResolution((1, 9, 6), 3),
        lambda: SuperResolution((1, 10, 5), 5, "average"),
        lambda: SuperResolution((1, 6, 6), 2, "average"),
        lambda: SuperResolution((1, 4, 4), 4),
        lambda: SuperResolution((1, 7, 6), 1),
    ],
    "inpainting": [
        lambda: Inpainting.random((2, 5, 6), 0.5, rng=Rng(0)),
        lambda: Inpainting.random((2, 5, 6), 0.5, rng=Rng(0), samples=BATCH),
        lambda: Inpainting.box((1, 6, 5), 1, 2, 3, 2),
    ],
    "blur": [
        *[lambda p=p: Blur((2, 7, 8), random_kernel(3, 4), p) for p in PADDINGS],
        *[lambda p=p: Blur((2, 7, 8), random_kernel(2, 3, 5), p) for p in ("circular", "reflect")],
        *[lambda p=p: Blur((2, 7, 8), random_kernel(BATCH, 1, 4, 3), p) for p in ("circular", "zero")],
    ],
    "gaussian-blur": [lambda p=p: GaussianBlur((2, 7, 8), 0.6, p) for p in PADDINGS],
    "motion-blur": [
        lambda: MotionBlur((1, 9, 8), 3, 30.0),
        lambda: MotionBlur((1, 9, 8), 4, rng=Rng(1), padding="symmetric"),
    ],
    "blind-blur": [lambda p=p: BlindBlur((2, 7, 8), (3, 4), p) for p in ("zero", "circular")],
}
EVERY = [pytest.param(build, id=f"{name}-{i}") for name, builds in CASES.items() for i, build in enumerate(builds)]


def parameters(operator):
    return {"kernel": random_kernel(BATCH, 3, 4)} if isinstance(operator, BlindBlur) else {}


def test_the_cases_are_registered_operators():
    assert set(CASES) <= set(OPERATORS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("build", EVERY)
def test_conformance(build, dtype):
    operator = build()
    check_operator(operator, batch=BATCH, theta=parameters(operator), dtype=dtype).raise_if_failed()


@pytest.mark.parametrize("build", EVERY)
def test_solves_match_dense_matrices(build):
    operator = build()
    theta = parameters(operator)
    x, y = random(BATCH, *operator.in_shape), random(BATCH, *operator.out_shape, seed=1)
    lam = torch.tensor([0.03, 0.2, 1.0])
    for i in range(BATCH):
        row = torch.tensor([i])
        own = operator.select(row)
        one = {name: value[row] for name, value in theta.items()}

        def batched(v, f, own=own, one=one):
            return torch.cat([f(u[None], one) for u in v])

        A = dense(lambda v, own=own, batched=batched: batched(v, own), operator.in_shape)
        At = dense(lambda v, own=own, batched=batched: batched(v, own.adjoint), operator.out_shape)
        assert torch.allclose(At, A.T, atol=1e-14)
        expected = torch.linalg.pinv(A, rtol=1e-6) @ y[i].flatten()
        assert torch.allclose(operator.pinv(y, theta)[i].flatten(), expected, rtol=1e-6, atol=1e-7)
        normal = A.T @ A + lam[i].double() * torch.eye(A.shape[1], dtype=torch.float64)
        expected = torch.linalg.solve(normal, x[i].flatten())
        assert torch.allclose(operator.solve_normal(x, lam, theta)[i].flatten(), expected, atol=1e-9)
        if isinstance(own, SVDOperator):
            s = own.singular_values.sort(descending=True).values[: min(A.shape)]
            assert torch.allclose(s, torch.linalg.svdvals(A), atol=1e-12)


@pytest.mark.parametrize("build", EVERY)
def test_copies_and_names_tell_operators_apart(build):
    operator = build()
    theta, x = parameters(operator), random(BATCH, *operator.in_shape)
    y = operator(x, theta)
    for twin in (copy.deepcopy(operator), copy.copy(operator), pickle.loads(pickle.dumps(operator))):
        assert torch.equal(twin(x, theta), y)
        assert repr(twin) == repr(operator)


def test_repr_changes_with_the_constants():
    shape = (1, 8, 8)
    names = {
        repr(operator)
        for operator in (
            GaussianBlur(shape, 1.0),
            GaussianBlur(shape, 0.9),
            GaussianBlur(shape, 1.0, "zero"),
            Inpainting.box(shape, 0, 0, 2, 2),
            Inpainting.box(shape, 0, 1, 2, 2),
            SuperResolution(shape, 2),
            SuperResolution(shape, 2, "average"),
        )
    }
    assert len(names) == 7


# super-resolution


def keys_rows(n, factor):
    """The rows of bicubic downsampling, entry by entry."""
    A = np.zeros((n // factor, n))
    for o in range(n // factor):
        centre, total = factor * (o + 0.5) - 0.5, 0.0
        for j in range(int(np.floor(centre - 2 * factor)), int(np.ceil(centre + 2 * factor)) + 1):
            t = abs(j - centre) / factor
            w = 1.5 * t**3 - 2.5 * t**2 + 1 if t <= 1 else -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0
            folded = j % (2 * n)
            A[o, min(folded, 2 * n - 1 - folded)] += w
            total += w
        A[o] /= total
    return torch.from_numpy(A)


@pytest.mark.parametrize(("h", "w", "factor"), [(16, 24, 4), (9, 15, 3), (4, 8, 4), (5, 10, 5), (6, 6, 1)])
def test_bicubic_is_separable_with_the_stated_rows(h, w, factor):
    x = random(2, 3, h, w)
    y = SuperResolution((3, h, w), factor)(x)
    assert torch.allclose(y, keys_rows(h, factor) @ x @ keys_rows(w, factor).T, atol=1e-13)


def test_average_pooling_is_the_block_mean():
    x = random(2, 3, 6, 9)
    assert torch.allclose(SuperResolution((3, 6, 9), 3, "average")(x), F.avg_pool2d(x, 3), atol=1e-14)


def test_bicubic_keeps_constants_and_places():
    x = torch.full((1, 1, 32, 32), 0.3, dtype=torch.float64)
    operator = SuperResolution((1, 32, 32), 4)
    assert torch.allclose(operator(x), x[..., :8, :8], atol=1e-14)
    ramp = torch.arange(32, dtype=torch.float64).expand(1, 1, 32, 32)
    assert torch.allclose(operator(ramp)[0, 0, 0, 2:-2], torch.arange(8.0, dtype=torch.float64)[2:-2] * 4 + 1.5)


# inpainting


@pytest.mark.parametrize("missing", [-5.0, torch.nan])
@pytest.mark.parametrize("masks", [1, 2])
def test_masked_entries_of_the_measurement_do_not_matter(masks, missing):
    operator = Inpainting.random((3, 8, 8), 0.5, rng=Rng(3), samples=masks)
    y = operator(random(2, 3, 8, 8))
    noisy = torch.where(operator.measures(y), y, missing)
    for f in (operator.adjoint, operator.pinv, operator.Ut, operator.observed, lambda y: operator.ridge(y, 0.1)):
        assert torch.equal(f(noisy), f(y))


def test_random_mask_is_drawn_once_for_all_channels_and_by_seed():
    masks = [Inpainting.random((3, 64, 64), 0.3, rng=Rng(seed)) for seed in (0, 0, 1)]
    first, again, other = (operator(torch.ones(1, 3, 64, 64)) for operator in masks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first[:, :1].expand_as(first), first)
    assert abs(first.mean() - 0.3) < 5 * (0.3 * 0.7 / 4096) ** 0.5  # five standard deviations: false alarm 6e-7


def test_masks_per_sample_do_not_depend_on_their_number():
    three = Inpainting.random((1, 6, 6), 0.5, rng=Rng(0), samples=3)
    one = Inpainting.random((1, 6, 6), 0.5, rng=Rng(0))
    ones = torch.ones(3, 1, 6, 6)
    assert torch.equal(three(ones)[:1], one(ones[:1]))
    assert not torch.equal(three(ones)[:1], three(ones)[1:2])
    rows = torch.tensor([2, 0, 2, 1])
    assert torch.equal(three.select(rows)(torch.ones(4, 1, 6, 6)), three(ones)[rows])
    with pytest.raises(ShapeError, match=r"3 masks.*batch of 2.*select"):
        three(ones[:2])


def test_box_and_mask_image_mark_missing_pixels():
    operator = Inpainting.box((2, 5, 6), top=1, left=2, height=3, width=2)
    known = torch.ones(5, 6)
    known[1:4, 2:4] = 0
    assert torch.equal(operator(torch.ones(1, 2, 5, 6))[0, 1], known)
    grey = known * 0.9 + 0.05
    assert torch.equal(Inpainting.from_image((2, 5, 6), grey)(torch.ones(1, 2, 5, 6))[0, 0], known)


# blur


def reference_blur(x, kernel, padding):
    h, w = kernel.shape
    top, left = (h - 1) // 2, (w - 1) // 2
    mode = {"zero": "constant", "circular": "wrap", "reflect": "reflect", "symmetric": "symmetric"}[padding]
    z = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (top, h - 1 - top), (left, w - 1 - left)), mode=mode))
    return F.conv2d(z.flatten(0, 1)[:, None], kernel[None, None]).reshape(x.shape)


@pytest.mark.parametrize("size", [(3, 3), (4, 5), (6, 2), (1, 7)])
@pytest.mark.parametrize("padding", PADDINGS)
def test_blur_is_the_stated_cross_correlation(padding, size):
    kernel, x = random_kernel(*size), random(2, 2, 9, 8)
    assert torch.allclose(Blur((2, 9, 8), kernel, padding)(x), reference_blur(x, kernel, padding), atol=1e-13)
    theta = {"kernel": kernel.expand(2, *size)}
    assert torch.allclose(BlindBlur((2, 9, 8), size, padding)(x, theta), reference_blur(x, kernel, padding), atol=1e-13)


def test_blur_takes_kernels_per_channel_and_per_sample():
    x, kernels = random(3, 2, 7, 8), random_kernel(3, 2, 3, 4)
    for padding in PADDINGS:
        y = Blur((2, 7, 8), kernels, padding)(x)
        for n in range(3):
            for c in range(2):
                expected = reference_blur(x[n : n + 1, c : c + 1], kernels[n, c], padding)
                assert torch.allclose(y[n : n + 1, c : c + 1], expected, atol=1e-13)
    rows = torch.tensor([2, 0])
    operator = Blur((2, 7, 8), kernels, "zero")
    assert torch.allclose(operator.select(rows)(x[rows]), operator(x)[rows], atol=1e-14)
    assert repr(operator.select(rows)) != repr(operator)


def test_padding_decides_which_solves_are_closed():
    shape, round_, skew = (1, 8, 8), gaussian_kernel(0.8, 2), random_kernel(3, 3)
    kinds = {
        (name, padding): type(Blur(shape, kernel, padding))
        for name, kernel in (("round", round_), ("skew", skew))
        for padding in PADDINGS
    }
    assert kinds["round", "circular"] is kinds["skew", "circular"] is CircularBlur
    assert kinds["round", "symmetric"] is SymmetricBlur
    for key in (("skew", "symmetric"), ("round", "reflect"), ("round", "zero"), ("skew", "zero")):
        assert kinds[key] is SpatialBlur
    with pytest.raises(InputError, match="mirror"):
        SymmetricBlur(shape, skew)


def test_zero_of_the_spectrum_is_exact():
    operator = Blur((1, 4, 10), torch.full((1, 5), 0.2, dtype=torch.float64), "circular")
    s = operator.singular_values.reshape(4, 10)
    column = torch.arange(10).expand(4, 10)
    assert torch.equal(s == 0, (column % 2 == 0) & (column > 0))
    y = operator(random(2, 1, 4, 10))
    assert torch.isfinite(operator.pinv(y)).all()
    assert torch.allclose(operator(operator.pinv(y)), y, atol=1e-12)


def test_blind_blur_is_differentiable_in_image_and_kernel():
    for padding in PADDINGS:
        operator = BlindBlur((2, 5, 6), (2, 3), padding)
        x, kernel = random(2, 2, 5, 6).requires_grad_(), random_kernel(2, 2, 3).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, k, a=operator: a(x, {"kernel": k}), (x, kernel))


def test_kernels():
    gauss = gaussian_kernel(1.5)
    assert gauss.shape == (13, 13)
    assert gauss.sum() == pytest.approx(1, abs=1e-14)
    assert gauss[6, 8] / gauss[6, 6] == pytest.approx(np.exp(-4 / 4.5))
    line = torch.full((5,), 0.2, dtype=torch.float64)
    assert torch.allclose(motion_kernel(5, 0)[2], line)
    assert torch.allclose(motion_kernel(5, 90)[:, 2], line)
    rising = motion_kernel(9, 45)  # anticlockwise: up on the right, so the anti-diagonal of an array
    assert rising.flip(-1).diagonal().sum() > 0.9
    shake = camera_shake_kernel(20, 0.5, Rng(0))
    assert torch.equal(shake, camera_shake_kernel(20, 0.5, Rng(0)))
    assert not torch.equal(shake, camera_shake_kernel(20, 0.5, Rng(1)))
    assert shake.sum() == pytest.approx(1, abs=1e-12)
    offsets = torch.arange(len(shake), dtype=torch.float64) - len(shake) // 2
    assert abs(shake.sum(0) @ offsets) < 1e-9
    assert abs(shake.sum(1) @ offsets) < 1e-9


def test_gaussian_radius_is_four_standard_deviations_within_the_image():
    assert GaussianBlur((1, 64, 64), 3).kernel.shape[-2:] == (25, 25)
    assert GaussianBlur((1, 8, 9), 3).kernel.shape[-2:] == (7, 7)
    assert GaussianBlur((1, 64, 64), 3, radius=2).kernel.shape[-2:] == (5, 5)


def test_kernel_with_another_sum_is_normalised_with_a_warning():
    kernel = random_kernel(3, 3)
    with pytest.warns(UserWarning, match="sums to 255"):
        scaled = Blur((1, 8, 8), 255 * kernel)
    x = random(1, 1, 8, 8)
    assert torch.allclose(scaled(x), Blur((1, 8, 8), kernel)(x))


@pytest.mark.parametrize("build", EVERY)
def test_half_precision_stays_half_precision(build):
    operator = build()
    x = random(BATCH, *operator.in_shape)
    y = operator(x.bfloat16(), parameters(operator))
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.double(), operator(x, parameters(operator)), atol=0.05)
    assert operator.adjoint(y, parameters(operator)).dtype == torch.bfloat16


# what is refused

SHAPE = (3, 8, 8)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Denoising(()), "in_shape"),
        (lambda: SuperResolution((8, 8), 2), r"channels, height, width.*\[8, 8\]"),
        (lambda: SuperResolution(SHAPE, 0), "8 x 8.*from 1 to 8, got 0"),
        (lambda: SuperResolution(SHAPE, 9), "got 9"),
        (
            lambda: SuperResolution(SHAPE, 2.5),
            "the factor for images of 8 x 8 must be a whole number from 1 to 8, got 2.5",
        ),
        (lambda: SuperResolution(SHAPE, float("nan")), "whole number from 1 to 8"),
        (lambda: Decimation(SHAPE, float("nan")), "whole number from 1 to 8"),
        (lambda: JPEG((3, 16, 16), float("nan")), "quality must be a whole number from 1 to 100, got nan"),
        (lambda: Quantisation(SHAPE, float("inf")), "levels must be a whole number of at least 2, got inf"),
        (lambda: Quantisation(SHAPE, True), "levels must be a whole number"),
        (lambda: SuperResolution((3, 9, 8), 4), "multiples of the factor 4, got 9 x 8: crop the image to 8 x 8"),
        (lambda: SuperResolution(SHAPE, 2, "cubic"), "; got 'cubic'"),
        (lambda: Inpainting(SHAPE, torch.ones(8, 7)), r"got \[1, 8, 7\]"),
        (lambda: Inpainting(SHAPE, torch.ones(2, 8, 8)), r"got \[2, 8, 8\]"),
        (lambda: Inpainting(SHAPE, torch.full((8, 8), 0.5)), "threshold"),
        (lambda: Inpainting(SHAPE, torch.full((8, 8), float("nan"))), "only 0"),
        (lambda: Inpainting(SHAPE, torch.zeros(8, 8)), "0 everywhere"),
        (lambda: Inpainting(SHAPE, torch.stack([torch.ones(1, 8, 8), torch.zeros(1, 8, 8)])), "0 everywhere"),
        (lambda: Inpainting.random(SHAPE, 0.0, rng=Rng(0)), "probability.*got 0.0"),
        (lambda: Inpainting.box(SHAPE, 5, 0, 4, 4), "inside the 8 x 8 image"),
        (lambda: Blur(SHAPE, torch.ones(3) / 3), "blur kernel must be"),
        (lambda: Blur(SHAPE, torch.ones(2, 3, 3) / 9), r"got \[2, 3, 3\]"),
        (lambda: Blur(SHAPE, torch.ones(9, 3) / 27), "larger than the 8 x 8 image"),
        (lambda: Blur(SHAPE, torch.zeros(3, 3)), "sum above 0"),
        (lambda: Blur(SHAPE, torch.full((3, 3), float("inf"))), "finite"),
        (lambda: Blur(SHAPE, torch.ones(1, 1), "mirror"), "circular, reflect, symmetric, zero; got 'mirror'"),
        (lambda: GaussianBlur(SHAPE, -1.0), "above 0, got -1.0"),
        (lambda: GaussianBlur(SHAPE, 1.0, radius=4), "larger than"),
        (lambda: MotionBlur(SHAPE, 3), "either angle"),
        (lambda: MotionBlur(SHAPE, 3, 0.0, rng=Rng(0)), "either angle"),
        (lambda: MotionBlur(SHAPE, 0.5, 0.0), "at least one pixel"),
        (lambda: BlindBlur(SHAPE, (9, 3)), "kernel_shape"),
        (lambda: BlindBlur(SHAPE, (3, 3))(torch.zeros(1, *SHAPE)), r"needs theta\[\"kernel\"\]"),
        (lambda: BlindBlur(SHAPE, (3, 3))(torch.zeros(2, *SHAPE), {"kernel": torch.ones(3, 3, 3)}), r"must be \[2, 3"),
        (lambda: BlindBlur(SHAPE, (3, 3))(torch.zeros(1, *SHAPE), {"kernel": torch.ones(1, 3, 4)}), "batch of shape"),
        (lambda: OPERATORS["inpaint"], "did you mean 'inpainting'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(build, message):
    with pytest.raises(InputError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("build", EVERY)
def test_wrong_shapes_and_unexpected_parameters_are_refused(build):
    operator = build()
    theta = parameters(operator)
    bad = torch.zeros(BATCH, *operator.out_shape[:-1], operator.out_shape[-1] + 1)
    for f in (operator.adjoint, operator.pinv):
        with pytest.raises(ShapeError, match=re.escape(str(list(bad.shape)))):
            f(bad, theta)
    x, y = torch.ones(BATCH, *operator.in_shape), torch.ones(BATCH, *operator.out_shape)
    theta = {**theta, "gain": torch.ones(BATCH)}
    for call in (
        lambda: operator(x, theta),
        lambda: operator.adjoint(y, theta),
        lambda: operator.pinv(y, theta),
        lambda: operator.solve_normal(x, 0.1, theta),
    ):
        with pytest.raises((CapabilityError, InputError), match="gain"):
            call()
