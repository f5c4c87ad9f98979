"""What decides a result has one identity: each ingredient alone changes it, and nothing else does."""

from __future__ import annotations

import enum
import functools
import io
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import toy
from torch import Tensor, nn

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.core import inspection
from invsolve.core.identity import Unidentified, identify, run_identity
from invsolve.core.walk import Walk
from invsolve.priors.guidance.combinations import classifier_free
from invsolve.priors.guidance.weights import Constant
from invsolve.priors.latent import LatentPrior
from invsolve.priors.padded import PaddedPrior
from invsolve.priors.tiled import TiledPrior
from invsolve.testing.examples import EXAMPLES, example

SHAPE = (1, 8, 8)
SCALE = 2.0


def mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)


def scaled(x: Tensor) -> Tensor:
    return SCALE * x.flatten(1).mean(1)


def powered(x: Tensor, power: float) -> Tensor:
    return x.flatten(1).abs().pow(power).mean(1)


def halved(x: Tensor) -> Tensor:
    return 0.5 * x


class Net(nn.Module):
    def __init__(self, seed: int = 0, gain: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, generator=generator))
        self.register_buffer("table", torch.ones(2), persistent=False)
        self.gain = gain

    def forward(self, x: Tensor, c: Tensor, label: int | Tensor = 0) -> Tensor:
        return self.gain * x * self.weight.mean() + label


class Own(iv.Prior):
    """A prior of somebody's own: no repr, so that Python's has its address."""

    value_range = (0.0, 1.0)

    def __init__(self, level: float) -> None:
        self.schedule, self.shape, self.level = iv.VPSchedule(), SHAPE, level

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return 0.5 * x_t + self.level


class Pair(NamedTuple):
    first: int
    second: float = 2.0


class Kind(enum.Enum):
    ONE = 1
    TWO = 2


class Other(Own):
    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return 0.25 * x_t + self.level


@dataclass(frozen=True, eq=False)
class OwnCost(iv.TerminalCost):
    power: float

    def __call__(self, x: Tensor, theta=None) -> Tensor:
        return powered(x, self.power)


def y(value: float = 0.5, items: int = 1) -> Tensor:
    return torch.full((items, *SHAPE), value)


def likelihood(value: float = 0.5, sigma: float | Tensor = 0.5, operator: iv.Operator | None = None):
    return costs.GaussianLikelihood(operator or operators.Denoising(SHAPE), y(value), sigma)


def gaussian(level: float = 0.2, cov: float = 0.01, schedule: iv.Schedule | None = None):
    return priors.GaussianPrior(torch.full(SHAPE, level), cov, schedule or iv.VPSchedule())


def tabled(middle: float):
    return gaussian(schedule=iv.DDPMSchedule(torch.tensor([1e-4, middle, 2e-2])))


def network(seed: int = 0, **options):
    gain = options.pop("gain", 1.0)
    return priors.NetworkPrior(Net(seed, gain), shape=SHAPE, **options)


def tiled(seed: int, tile: int = 32):
    return TiledPrior(priors.NetworkPrior(Net(seed)), tile, 16)


def guided(weight: float = 2.0, label: int = 1, seed: int = 0):
    return classifier_free(network(seed), Constant(weight), condition={"label": label}, null={"label": 0})


def flipped(at: int) -> operators.Inpainting:
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[0, at] = False
    return operators.Inpainting(SHAPE, mask)


def kernel(side: float) -> operators.Blur:
    return operators.Blur(SHAPE, operators.gaussian_kernel(side, 1))


def blind(**options):
    return iv.Unknowns({"kernel": iv.Unknown((3, 3), "softmax", **options)})


def pixels_to_latents(factor: float):
    return LatentPrior(gaussian(), functools.partial(torch.mul, other=torch.tensor(factor)))


BASE = {
    "prior": gaussian, "cost": likelihood, "unknowns": lambda: None, "shape": lambda: None,
    "solver": lambda: solvers.DPS(n_steps=4), "seed": lambda: 0, "keys": lambda: [(0, 0)], "microbatch": lambda: 1,
}  # fmt: skip

VARIED = {
    "mean of a Gaussian": ("prior", lambda: gaussian(0.8)),
    "covariance of a Gaussian": ("prior", lambda: gaussian(cov=0.02)),
    "schedule": ("prior", lambda: gaussian(schedule=iv.VPSchedule(0.1, 19.0))),
    "betas behind the same ends": ("prior", lambda: tabled(5e-3)),
    "betas behind the same ends, others": (
        "prior", lambda: tabled(6e-3)),
    "value range": ("prior", lambda: priors.GaussianPrior(torch.full(SHAPE, 0.2), 0.01, iv.VPSchedule(), (-1.0, 1.0))),
    "weights of a mixture": (
        "prior", lambda: priors.MixturePrior(torch.zeros(2, *SHAPE), torch.ones(2), torch.tensor([1.0, 2.0]))),
    "weights of a mixture, others": (
        "prior", lambda: priors.MixturePrior(torch.zeros(2, *SHAPE), torch.ones(2), torch.tensor([2.0, 1.0]))),
    "a network": ("prior", network),
    "its weights": ("prior", lambda: network(1)),
    "an attribute of its module": ("prior", lambda: network(gain=2.0)),
    "its parametrisation": ("prior", lambda: network(parametrization="x0")),
    "its precision": ("prior", lambda: network(speed=priors.Speed(dtype="bfloat16"))),
    "its chunk": ("prior", lambda: network(speed=priors.Speed(chunk=1))),
    "its label": ("prior", lambda: network().given(label=1)),
    "its label, another": ("prior", lambda: network().given(label=2)),
    "its key": ("prior", lambda: network(key="first")),
    "its key, another": ("prior", lambda: network(key="second")),
    "a tiled network": ("prior", lambda: tiled(0)),
    "weights under tiles": ("prior", lambda: tiled(1)),
    "the tiles": ("prior", lambda: tiled(0, 64)),
    "a padded network": ("prior", lambda: PaddedPrior(network(0))),
    "weights under padding": ("prior", lambda: PaddedPrior(network(1))),
    "a guided pair": ("prior", guided),
    "weight of the guidance": ("prior", lambda: guided(3.0)),
    "label of the guidance": ("prior", lambda: guided(label=2)),
    "weights of the guided network": ("prior", lambda: guided(seed=1)),
    "a latent prior": ("prior", lambda: pixels_to_latents(1.0)),
    "decoder of a latent prior": ("prior", lambda: pixels_to_latents(2.0)),
    "a prior of one's own": ("prior", lambda: Own(0.1)),
    "its number": ("prior", lambda: Own(0.2)),
    "its code": ("prior", lambda: Other(0.1)),
    "measurement": ("cost", lambda: likelihood(0.4)),
    "noise level": ("cost", lambda: likelihood(sigma=0.4)),
    "noise level of each item": ("cost", lambda: likelihood(sigma=torch.tensor([0.4]))),
    "noise model": ("cost", lambda: costs.LaplaceLikelihood(operators.Denoising(SHAPE), y(), 0.5)),
    "scale of a noise model": ("cost", lambda: costs.LaplaceLikelihood(operators.Denoising(SHAPE), y(), 0.4)),
    "mask of an operator": ("cost", lambda: likelihood(operator=flipped(0))),
    "mask of an operator, another": ("cost", lambda: likelihood(operator=flipped(1))),
    "kernel of an operator": ("cost", lambda: likelihood(operator=kernel(0.8))),
    "kernel of an operator, another": ("cost", lambda: likelihood(operator=kernel(0.9))),
    "weight of an operator": ("cost", lambda: likelihood(operator=2.0 * kernel(0.9))),
    "weight of an operator, another": ("cost", lambda: likelihood(operator=3.0 * kernel(0.9))),
    "product of operators": ("cost", lambda: likelihood(operator=flipped(1) @ kernel(0.9))),
    "function of an operator": (
        "cost", lambda: likelihood(operator=operators.as_operator(halved, in_shape=SHAPE, linear=True))),
    "module of an operator": (
        "cost", lambda: likelihood(operator=operators.as_operator(nn.Hardtanh(0.0, 1.0), in_shape=SHAPE))),
    "module of an operator, another": (
        "cost", lambda: likelihood(operator=operators.as_operator(nn.Hardtanh(0.0, 0.9), in_shape=SHAPE))),
    "key of an operator": (
        "cost", lambda: likelihood(operator=operators.as_operator(lambda x: x, in_shape=SHAPE, key="one"))),
    "key of an operator, another": (
        "cost", lambda: likelihood(operator=operators.as_operator(lambda x: x, in_shape=SHAPE, key="two"))),
    "a sum": ("cost", lambda: likelihood() + costs.FunctionCost(mean)),
    "function in a sum": ("cost", lambda: likelihood() + costs.FunctionCost(scaled)),
    "measurement in a sum": ("cost", lambda: likelihood(0.4) + costs.FunctionCost(mean)),
    "weight in a sum": ("cost", lambda: likelihood() + 3.0 * costs.FunctionCost(mean)),
    "weight in a sum, another": ("cost", lambda: likelihood() + 30.0 * costs.FunctionCost(mean)),
    "weight tensor": ("cost", lambda: torch.tensor([3.0]) * likelihood()),
    "order of a sum": ("cost", lambda: costs.FunctionCost(mean) + likelihood()),
    "key of a function": ("cost", lambda: costs.FunctionCost(lambda x: mean(x), key="one")),
    "key of a function, another": ("cost", lambda: costs.FunctionCost(lambda x: mean(x), key="two")),
    "argument of a partial": ("cost", lambda: costs.FunctionCost(functools.partial(powered, power=2.0))),
    "argument of a partial, another": ("cost", lambda: costs.FunctionCost(functools.partial(powered, power=3.0))),
    "a reward": ("cost", lambda: costs.RewardCost(mean)),
    "temperature of a reward": ("cost", lambda: costs.RewardCost(mean, temperature=2.0)),
    "a stack": ("cost", lambda: costs.stacked_likelihood(likelihood(), likelihood())),
    "level in a stack": ("cost", lambda: costs.stacked_likelihood(likelihood(), likelihood(sigma=0.4))),
    "target of a classifier": ("cost", lambda: costs.ClassifierCost(Net(), 0, 3)),
    "target of a classifier, another": ("cost", lambda: costs.ClassifierCost(Net(), 1, 3)),
    "weights of a classifier": ("cost", lambda: costs.ClassifierCost(Net(1), 1, 3)),
    "a cost of one's own": ("cost", lambda: OwnCost(2.0)),
    "its power": ("cost", lambda: OwnCost(3.0)),
    "unknowns": ("unknowns", blind),
    "step size of an unknown": ("unknowns", lambda: blind(lr=0.02)),
    "first values of an unknown": ("unknowns", lambda: blind(initial=torch.ones(3, 3))),
    "penalty of an unknown": ("unknowns", lambda: blind(penalty=mean)),
    "shape": ("shape", lambda: SHAPE),
    "setting of the solver": ("solver", lambda: solvers.DPS(n_steps=5)),
    "solver": ("solver", lambda: solvers.MPGD(n_steps=4)),
    "seed": ("seed", lambda: 1),
    "item": ("keys", lambda: [("a", 0)]),
    "sample": ("keys", lambda: [(0, 1)]),
    "microbatch": ("microbatch", lambda: 2),
}  # fmt: skip


def mark(**changed) -> str:
    parts = {name: make() for name, make in {**BASE, **changed}.items()}
    problem = iv.Problem(parts["prior"], parts["cost"], parts["unknowns"], parts["shape"])
    return run_identity(problem, parts["solver"], parts["seed"], parts["keys"], parts["microbatch"])


def test_each_ingredient_alone_changes_the_identity_and_building_it_anew_does_not():
    marks = {"base": mark(), **{name: mark(**{part: make}) for name, (part, make) in VARIED.items()}}
    assert len(set(marks.values())) == len(marks), "two variations have one identity"
    for name, (part, make) in VARIED.items():
        assert mark(**{part: make}) == marks[name], f"{name} has another identity when it is made again"
    assert mark() == marks["base"]


@pytest.mark.parametrize("part", ["prior", "cost", "unknowns", "shape", "solver", "seed", "items", "microbatch"])
def test_an_ingredient_that_was_left_out_of_the_identity_would_be_seen(part, monkeypatch):
    digest = Walk.digest

    def without(self, value, where):
        left_out = (f"the {part}", "the precision")  # which follows from the prior
        return b"" if where in left_out else digest(self, value, where)

    monkeypatch.setattr(Walk, "digest", without)
    own = {"items": "keys"}.get(part, part)
    assert {mark(**{own: make}) for name, (p, make) in VARIED.items() if p == own} == {mark()}


@pytest.mark.parametrize("name", [n for n, (part, _) in VARIED.items() if part in ("prior", "cost", "seed", "solver")])
def test_a_checkpoint_whose_ingredient_differs_is_refused(name, tmp_path):
    part, make = VARIED[name]
    other = {**{key: value() for key, value in BASE.items()}, part: make()}
    file = tmp_path / "run.pt"
    base = iv.Problem(gaussian(), likelihood())
    iv.solve(base, solvers.DPS(n_steps=2), checkpoint=file)
    with pytest.raises(iv.InputError, match="another run"):
        iv.solve(iv.Problem(other["prior"], other["cost"], shape=SHAPE), solvers.DPS(n_steps=2), checkpoint=file)


def local(power):
    def closure(x):
        return powered(x, power)

    return closure


class Hidden:
    __slots__ = ()

    def __call__(self, x: Tensor) -> Tensor:
        return mean(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: costs.FunctionCost(lambda x: mean(x)), "a lambda has no name"),
        (lambda: costs.FunctionCost(local(2.0)), "closure over power"),
        (lambda: likelihood() + 2.0 * costs.RewardCost(local(2.0)), "closure over power"),
        (lambda: likelihood(operator=operators.as_operator(lambda x: x, in_shape=SHAPE)), "a lambda has no name"),
        (lambda: costs.FunctionCost(functools.partial(lambda x, k: k * mean(x), k=2.0)), "a lambda has no name"),
    ],
)
def test_what_cannot_be_identified_is_asked_for_a_key_before_any_work(make, message, tmp_path):
    file, seen = tmp_path / "run.pt", []
    problem = iv.Problem(gaussian(), make())
    with pytest.raises(Unidentified, match=message) as caught:
        iv.solve(problem, solvers.DPS(n_steps=2), checkpoint=file, callbacks=[seen.append])
    assert "key=" in str(caught.value)
    assert not seen
    assert not file.exists()
    assert iv.solve(problem, solvers.DPS(n_steps=2)).ok  # without a checkpoint nothing is asked


def test_a_key_stands_for_a_function_and_lets_a_run_go_on(tmp_path):
    def problem(key):
        return iv.Problem(gaussian(), likelihood() + costs.FunctionCost(lambda x: mean(x), key=key))

    def interrupt(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    solver, options = solvers.DPS(n_steps=5), {"checkpoint": tmp_path / "run.pt", "checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        iv.solve(problem("a"), solver, callbacks=[interrupt], **options)
    with pytest.raises(iv.InputError, match="another run"):
        iv.solve(problem("b"), solver, **options)
    assert torch.equal(iv.solve(problem("a"), solver, **options).samples, iv.solve(problem("a"), solver).samples)


def test_objects_without_state_and_addresses_are_never_guessed():
    file = io.StringIO("text")
    for thing in (object(), iter([1]), (i for i in range(3)), torch.empty(2, device="meta"), threading.Lock(), file):
        with pytest.raises(Unidentified):
            identify(thing)
    assert identify(Own(0.1)) == identify(Own(0.1))


def test_values_of_every_kind_have_the_identity_of_their_content():
    a = np.arange(6.0).reshape(2, 3)
    pairs = [
        (1, True), (1, 1.0), (0.0, -0.0), ("1", 1), ("a", b"a"), ([1, 2], (1, 2)), ([[1], 2], [1, [2]]), ({}, []),
        ({1: 2}, {1: 3}), ({1, 2}, {1, 3}), (a, a.T.copy()), (a, a.reshape(3, 2)), (a, a.astype("f4")), (None, "None"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)), (torch.zeros(2), torch.zeros(1, 2)),
        (torch.zeros(0), torch.zeros(0, 1)), (torch.bfloat16, torch.float16), (Path("a"), "a"), (torch.sin, torch.cos),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)), (Net, Own), (mean, scaled),
        (torch.tensor([1 + 2j]), torch.tensor([1 - 2j])), (Pair(1), Pair(2)), (Pair(1), (1, 2.0)), (Kind.ONE, Kind.TWO),
    ]  # fmt: skip
    for one, two in pairs:
        assert identify(one) != identify(two), (one, two)
        assert identify(one) == identify(one)
    x = torch.randn(4, 6)
    assert identify(x.T) == identify(x.T.contiguous())  # strides decide nothing
    assert identify(torch.view_as_complex(x.view(4, 3, 2)).conj()) == identify(
        torch.view_as_complex(x.view(4, 3, 2)).conj().resolve_conj()
    )
    shared = torch.ones(2)
    assert identify([shared, shared]) == identify([shared, shared.clone()])
    ring: list = [1]
    ring.append(ring)
    assert identify(ring) == identify(ring)


def test_a_function_is_its_code_and_the_globals_that_it_reads(monkeypatch):
    before = identify(scaled)
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    assert identify(scaled) != before
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 2.0)
    assert identify(scaled) == before


def test_weights_that_are_changed_in_place_are_seen():
    prior = network()
    before = identify(prior)
    prior.module.weight.data[1] += 1e-6
    changed = identify(prior)
    assert changed != before
    prior.module.table.mul_(2)  # a buffer that no state dict holds
    assert identify(prior) != changed


def test_the_identity_is_the_same_in_another_process():
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_identity as t; identify = t.identify;"
        "print(t.mark(), identify(t.Own(0.1)), identify(t.scaled), identify({'b', 'a', 'c'}))"
    )
    root = Path(__file__).parent.parent
    outs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outs) == 1


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_operator_has_an_identity_that_its_use_does_not_change(name):
    try:
        one = example(name)
    except iv.InputError as error:
        pytest.skip(str(error))
    before = identify(one.operator)
    x = torch.rand(1, *one.operator.in_shape, dtype=torch.float64)
    one.operator(x, one.theta(1))
    one.operator(x.float(), one.theta(1, torch.float32))
    assert identify(one.operator) == before == identify(example(name).operator)


@pytest.mark.parametrize("name", sorted(solvers.SOLVERS))
def test_every_solver_has_an_identity(name):
    assert identify(toy.quick(name)) == identify(toy.quick(name))


def test_every_packaged_prior_has_an_identity_that_a_run_does_not_change():
    prior = priors.load("natural")
    before = identify(prior)
    assert identify(priors.load("natural")) == before
    prior.denoise(torch.zeros(1, 3, 16, 16), 0.5)
    assert identify(prior) == before


def test_bits_on_a_gpu_are_condensed_without_losing_a_difference():
    values = torch.randn(10_000)
    seen = set()
    for at in (0, 1, 4095, 4096, 9_999):
        for bit in (0, 31):
            flipped = values.clone()
            flipped.view(torch.int32)[at] ^= torch.tensor(1 << bit if bit < 31 else -(1 << 31), dtype=torch.int32)
            seen.add(bytes(inspection.condensed(flipped.view(torch.uint8)).numpy()))
    swapped = values.clone()
    swapped[[0, 1]] = values[[1, 0]]
    seen |= {bytes(inspection.condensed(v.view(torch.uint8)).numpy()) for v in (values, swapped)}
    assert len(seen) == 12
