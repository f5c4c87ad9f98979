"""`as_operator`: functions, modules and deepinv physics."""

import pickle
import warnings

import pytest
import torch
import toy
from torch import nn

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.core.checks import CapabilityError, InputError, ShapeError
from invsolve.core.operator import LinearOperator, Operator
from invsolve.core.svd import SVDOperator
from invsolve.operators import Denoising, as_operator
from invsolve.testing import check_operator

SHAPE = (2, 4, 6)
ONE = torch.ones(1)


def halve(x):
    return 2.0 * x[..., ::2]


def scaled(x, theta):
    return x * theta.get("gain", torch.ones(len(x))).reshape(-1, 1, 1, 1)


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2, 2, generator=generator, dtype=torch.float64))

    def forward(self, x):
        return torch.tensordot(x, self.weight.to(x), dims=([1], [0])).movedim(-1, 1)


def test_operator_passes_through():
    operator = Denoising(SHAPE)
    assert as_operator(operator) is operator
    assert as_operator(operator, in_shape=SHAPE, linear=True) is operator
    with pytest.raises(ShapeError, match=r"\[2, 4, 6\].*\[1, 4, 6\]"):
        as_operator(operator, in_shape=(1, 4, 6))


@pytest.mark.parametrize("function", [halve, Mixing()], ids=["function", "module"])
def test_linear_function_gets_all_of_a_linear_operator(function):
    operator = as_operator(function, in_shape=SHAPE, linear=True)
    assert isinstance(operator, LinearOperator)
    assert operator.out_shape == (SHAPE if isinstance(function, nn.Module) else (2, 4, 3))
    check_operator(operator).raise_if_failed()


def test_nonlinear_function():
    operator = as_operator(torch.sigmoid, in_shape=SHAPE)
    assert isinstance(operator, Operator)
    assert not isinstance(operator, LinearOperator)
    check_operator(operator).raise_if_failed()
    with pytest.raises(CapabilityError, match="not a LinearOperator"):
        as_operator(operator, linear=True)


def test_parameters_reach_functions_that_take_them():
    operator = as_operator(scaled, in_shape=SHAPE)
    theta = {"gain": torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)}
    check_operator(operator, theta=theta).raise_if_failed()
    x = torch.ones(3, *SHAPE, dtype=torch.float64)
    assert torch.equal(operator(x, theta)[:, 0, 0, 0], theta["gain"])
    with pytest.raises(CapabilityError, match="no unknown parameters"):
        as_operator(halve, in_shape=SHAPE)(x, theta)


def test_a_function_that_needs_its_parameters_gets_an_example_and_composes():
    operator = as_operator(lambda x, theta: x * theta["gain"].view(-1, 1, 1, 1), in_shape=SHAPE, theta={"gain": ONE})
    theta = {"gain": torch.tensor([1.0, 2.0])}
    both = operator @ operators.Denoising(SHAPE)
    assert both.parameters == operator.parameters == ("gain",)
    assert torch.equal(both(torch.ones(2, *SHAPE), theta)[:, 0, 0, 0], theta["gain"])
    with pytest.raises(InputError, match=r"needs theta\['gain'\]"):
        operator(torch.ones(2, *SHAPE))
    with pytest.raises(InputError, match="has unknown parameters"):
        as_operator(halve, in_shape=SHAPE, theta={"gain": ONE})


@pytest.mark.parametrize(
    ("obj", "options", "error", "message"),
    [
        (3.0, {"in_shape": SHAPE}, CapabilityError, "got float"),
        (halve, {}, InputError, "needs in_shape"),
        (halve, {"in_shape": (0, 4)}, ShapeError, "at least 1"),
        (lambda x: x.sum(0), {"in_shape": SHAPE}, ShapeError, r"batch of 1 came out as \[2, 4, 6\]"),
        (lambda x: x[:1], {"in_shape": SHAPE}, ShapeError, r"batch of 2 as \[1, 2, 4, 6\]"),
        (lambda x: x.mean(), {"in_shape": SHAPE}, ShapeError, "keep the batch"),
        (lambda x: (x, x), {"in_shape": SHAPE}, InputError, "one tensor.*got tuple"),
        (lambda x: x @ torch.ones(5, 5), {"in_shape": SHAPE}, InputError, r"fails on a batch of zeros.*\[1, 2, 4, 6\]"),
        (torch.cos, {"in_shape": SHAPE, "linear": True}, InputError, r"A\(0\) is not 0"),
    ],
)
def test_what_cannot_be_an_operator_is_refused(obj, options, error, message):
    with pytest.raises(error, match=message):
        as_operator(obj, **options)


def test_names_tell_modules_apart():
    one, other = Mixing(), Mixing()
    with torch.no_grad():
        other.weight += 1
    names = {repr(as_operator(module, in_shape=SHAPE)) for module in (one, Mixing(), other)}
    assert len(names) == 2


# complex measurements

KEEP = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(2)) < 0.7


def spectrum(x):
    return KEEP * torch.fft.fft2(x, norm="ortho")


def complex_problem(value_range=(0.0, 1.0)):
    operator, width = as_operator(spectrum, in_shape=(1, 4, 4), linear=True), value_range[1] - value_range[0]
    mean = torch.full((1, 4, 4), value_range[0] + 0.5 * width)
    prior = priors.GaussianPrior(mean, 0.04 * width**2, value_range=value_range)
    x = 0.5 + 0.2 * iv.Rng(0).normal(torch.empty(2, 1, 4, 4, dtype=torch.float64))
    y = costs.GaussianLikelihood(operator, None, 0.1).simulate(x, iv.Rng(1))
    return iv.Problem(prior, costs.GaussianLikelihood(operator, y, torch.tensor([0.1, 0.2])))


def test_images_stay_real_where_measurements_are_complex():
    operator = as_operator(spectrum, in_shape=(1, 4, 4), linear=True)
    check_operator(operator).raise_if_failed()
    y = operator(torch.rand(2, 1, 4, 4))
    stack = operators.Stack(operator, operator)
    assert all(back.dtype == torch.float32 for back in (operator.adjoint(y), operator.pinv(y)))
    assert stack.adjoint(stack(torch.rand(2, 1, 4, 4))).dtype == torch.float32


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("kind", [solvers.PiGDM, solvers.MMPS])
def test_guided_samples_come_to_the_posterior_of_complex_measurements(kind, value_range):
    problem = complex_problem(value_range)
    options = {"prior_std": 0.2 * (value_range[1] - value_range[0])} if kind is solvers.PiGDM else {}
    samples = iv.solve(problem, kind(n_steps=200, eta=0.0, **options), samples=200).samples
    error = samples.mean(1) - problem.prior.posterior(problem.cost).mean
    # 32 means of 200 draws with standard deviations of at most 0.2: a false alarm in 4000
    assert error.abs().max() < 4.5 * 0.2 / 200**0.5 + 0.005


@pytest.mark.parametrize("name", ["c-pigdm", "diffpir", "pnp-dm", "pnp-hqs", "tmpd", "daps", "ndtm"])
def test_every_solver_takes_complex_measurements(name):
    solver = toy.quick(name)
    assert iv.solve(complex_problem(), solver).ok


# deepinv


@pytest.fixture(scope="module")
def physics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepinv

        return deepinv.physics


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def box_filter():
    return torch.ones(1, 1, 3, 3) / 9


PHYSICS = {
    "inpainting": (lambda p: p.Inpainting((2, 6, 6), mask=0.5), None, SVDOperator),
    "bools": (lambda p: p.Inpainting((2, 6, 6), mask=torch.rand(2, 6, 6) < 0.5), None, SVDOperator),
    "denoising": (lambda p: p.Denoising(), (1, 6, 6), SVDOperator),
    "mri": (lambda p: p.MRI(img_size=(2, 8, 8)), None, SVDOperator),
    "coils": (
        lambda p: p.MultiCoilMRI(
            coil_maps=torch.polar(torch.ones(1, 2, 8, 8), 3 * torch.rand(1, 2, 8, 8)), img_size=(2, 8, 8)
        ),
        None,
        LinearOperator,
    ),
    "decolorize": (lambda p: p.Decolorize(), (3, 4, 4), LinearOperator),
    "blur-fft": (lambda p: p.BlurFFT((2, 8, 8), filter=box_filter()), None, LinearOperator),
    "blur": (lambda p: p.Blur(filter=box_filter(), padding="reflect"), (2, 8, 8), LinearOperator),
    "sensing": (lambda p: p.CompressedSensing(m=10, img_size=(1, 4, 4)), None, LinearOperator),
    "no adjoint": (lambda p: p.LinearPhysics(A=lambda x, **_: x.cumsum(-1)), (1, 4, 4), LinearOperator),
    "wrong adjoint": (
        lambda p: p.LinearPhysics(A=lambda x, **_: x.cumsum(-1), A_adjoint=lambda y, **_: y),
        (1, 4, 4),
        LinearOperator,
    ),
    "non-linear": (lambda p: p.Physics(A=lambda x, **_: x**2), (1, 4, 4), Operator),
}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", PHYSICS)
def test_deepinv_physics_conforms(name, physics):
    build, in_shape, kind = PHYSICS[name]
    original = build(physics)
    operator = as_operator(original, in_shape=in_shape)
    assert isinstance(operator, kind)
    x = torch.rand(1, *operator.in_shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(operator(x), original.A(x), rtol=1e-5, atol=1e-6)
    if isinstance(operator, SVDOperator):
        assert operator.spectrum(x).dtype == torch.float32
    assert isinstance(operator, SVDOperator) == (kind is SVDOperator)
    assert isinstance(operator, LinearOperator) == (kind is not Operator)
    for dtype in (torch.float64, torch.float32) if name != "sensing" else (torch.float32,):  # its matrix stays single
        check_operator(operator, dtype=dtype, skip=["pickles"]).raise_if_failed()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kind", ["circular", "valid", "reflect", "fft", "downsampling", "mask"])
def test_deepinv_physics_with_parameters_for_each_sample(kind, physics):
    kernels = torch.rand(3, 1, 3, 3, generator=torch.Generator().manual_seed(1)) + 0.1
    kernels = kernels / kernels.sum((-2, -1), keepdim=True)
    if kind == "fft":
        original = physics.BlurFFT((2, 8, 8), filter=kernels)
    elif kind == "downsampling":
        original = physics.Downsampling(filter=kernels, img_size=(2, 8, 8), factor=2)
    elif kind == "mask":
        original = physics.Inpainting((2, 8, 8), mask=(torch.rand(3, 2, 8, 8) < 0.5).float())
    else:
        original = physics.Blur(filter=kernels, padding=kind)
    operator = as_operator(original, in_shape=(2, 8, 8))
    x = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    y = operator(x)
    torch.testing.assert_close(y, original.A(x))
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(operator.select(rows)(x[rows]), y[rows])
    likelihood = costs.GaussianLikelihood(operator, y, 0.1)
    torch.testing.assert_close(likelihood.select(rows)(x[rows]), likelihood(x)[rows])


@pytest.mark.usefixtures("quiet")
def test_deepinv_physics_is_frozen_and_noiseless(physics):
    original = physics.Blur(filter=box_filter(), padding="circular", noise_model=physics.GaussianNoise(1.0))
    operator = as_operator(original, in_shape=(1, 8, 8))
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = operator(x)
    assert torch.equal(y, original.A(x))
    assert isinstance(original.noise_model, physics.GaussianNoise)
    original.update_parameters(filter=2 * box_filter())
    assert torch.equal(operator(x), y)
    theta = {"filter": 3 * box_filter().requires_grad_()}
    assert torch.allclose(operator(x, theta), 3 * y)
    assert torch.equal(operator(x), y)
    operator(x, theta).sum().backward()
    with pytest.raises(CapabilityError, match="no parameter gain"):
        operator(x, {"gain": torch.ones(2)})


@pytest.mark.usefixtures("quiet")
def test_deepinv_physics_that_cannot_be_used_is_refused(physics):
    with pytest.raises(InputError, match="does not say its image size"):
        as_operator(physics.Denoising())
    stacked = physics.StackedLinearPhysics([physics.Denoising(), physics.Denoising()])
    with pytest.raises(InputError, match="must return one tensor"):
        as_operator(stacked, in_shape=(1, 4, 4))


def test_function_operators_pickle_when_the_function_does():
    operator = as_operator(halve, in_shape=SHAPE, linear=True)
    x = torch.ones(1, *SHAPE)
    assert torch.equal(pickle.loads(pickle.dumps(operator))(x), operator(x))


def _denoising():
    from deepinv.physics import Denoising

    operator = as_operator(Denoising(img_size=SHAPE))
    operator.recipe = (_denoising, ())
    return operator


def test_a_decomposable_physics_with_a_recipe_can_be_pickled(physics):
    operator, x = _denoising(), torch.rand(2, *SHAPE)
    assert isinstance(operator, SVDOperator)
    assert torch.equal(pickle.loads(pickle.dumps(operator))(x), operator(x))
