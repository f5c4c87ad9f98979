"""The loop: a sample is its own, whatever surrounds it; runs resume, count and fail as promised."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import toy
from torch import Tensor, nn

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.priors.latent import LatentPrior
from invsolve.testing import check_solver

ALL = sorted(solvers.SOLVERS)


class Noisy(iv.Prior):
    """Records the states it is shown and breaks one row at one call."""

    bounded = False
    value_range = (0.0, 1.0)

    def __init__(self, row: int, call: int) -> None:
        self.inner, self.row, self.call, self.seen = toy.gaussian(), row, call, 0
        self.schedule, self.shape = self.inner.schedule, self.inner.shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        self.seen += 1
        x0 = self.inner.denoise(x_t, t)
        if self.seen >= self.call:
            x0 = torch.where(torch.arange(len(x0))[:, None, None, None] == self.row, torch.nan, x0)
        return x0


def run(likelihood: costs.GaussianLikelihood, name: str, **options) -> iv.Result:
    return iv.solve(iv.Problem(toy.gaussian(), likelihood), toy.quick(name), **{"seed": 0, **options})


@pytest.mark.parametrize("name", ALL)
def test_registered_solvers_keep_the_contract(name):
    report = check_solver(toy.quick(name))
    report.raise_if_failed()
    assert not any("refused" in note for note in report.notes)


def test_noise_is_bit_identical_in_any_batch():
    like = torch.empty(4, 3, 5, 5, dtype=torch.float64)
    keys = [(item, sample) for item in "ab" for sample in range(2)]
    whole = iv.Rng(7, keys)
    alone = iv.Rng(7, keys[3:])
    for _ in range(3):
        assert torch.equal(whole.normal(like)[3:], alone.normal(like[3:]))
    assert not torch.equal(iv.Rng(0).normal(like), iv.Rng(1).normal(like))


def test_mirrored_rows_have_the_same_draws_turned_about_their_middle():
    like = torch.empty(4, 2000, dtype=torch.float64)
    pairs = iv.Rng(7, [("a", 0), ("a", 0), ("a", 1), ("b", 0)], mirrored=[False, True, False, True])
    plain = iv.Rng(7, [("a", 0), ("a", 0), ("a", 1), ("b", 0)])
    turned = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)[:, None]
    for _ in range(2):
        assert torch.equal(pairs.normal(like), turned * plain.normal(like))
    u, mirror = plain.uniform(like), pairs.uniform(like)
    assert torch.equal(mirror[[0, 2]], u[[0, 2]])
    torch.testing.assert_close(mirror[[1, 3]], 1 - u[[1, 3]], rtol=0, atol=1e-7)
    assert mirror.min() >= 0
    assert mirror.max() < 1


def test_antithetic_samples_of_a_gaussian_law_mirror_each_other_in_any_batch():
    """Steps are affine, so that the mean of a pair is that of the law, which a single draw is far from."""
    options = {"samples": 5, "antithetic": True, "seed": 3}
    whole = run(toy.likelihood(2), "pigdm", **options).samples
    for item in whole:
        torch.testing.assert_close(item[0] + item[1], item[2] + item[3], rtol=0, atol=1e-9)
        assert (item[0] - item[2]).abs().max() > 0.01
    single = run(toy.likelihood(2), "pigdm", samples=3, seed=3).samples
    torch.testing.assert_close(whole[:, ::2], single, rtol=0, atol=1e-9)
    chunks = run(toy.likelihood(2), "pigdm", **options, microbatch=3).samples
    torch.testing.assert_close(chunks, whole, rtol=0, atol=1e-9)
    with pytest.raises(iv.InputError, match="antithetic pairs are drawn from a seed"):
        run(toy.likelihood(1), "pigdm", samples=2, antithetic=True, rng=iv.Rng(0))


def test_seed_zero_is_a_seed_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    a, b, c = (run(toy.likelihood(1), "ddim", seed=seed).samples for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    file = tmp_path / "run.pt"
    run(toy.likelihood(1), "ddim", checkpoint=file)
    with pytest.raises(iv.InputError, match="another run"):
        run(toy.likelihood(1), "ddim", checkpoint=file, seed=1)
    file.write_text("no checkpoint")
    with pytest.raises(iv.InputError, match="not a checkpoint"):
        run(toy.likelihood(1), "ddim", checkpoint=file)


@pytest.mark.parametrize("name", ["ddim", "dps", "ndtm", "pnp-hqs", "red-diff"])
def test_a_sample_that_breaks_keeps_its_last_estimate_and_leaves_the_others_alone(name):
    problem = iv.Problem(Noisy(row=1, call=5), toy.likelihood(3))
    broken = iv.solve(problem, toy.quick(name), seed=0)
    whole = run(toy.likelihood(3), name)
    assert broken.status[0] == broken.status[2] == ("ok",)
    assert "non-finite" in broken.status[1][0]
    assert torch.isfinite(broken.samples).all()
    torch.testing.assert_close(broken.samples[[0, 2]], whole.samples[[0, 2]], rtol=0, atol=1e-9)


class Broken(nn.Module):
    """A network that is well for some calls and then says `value`."""

    def __init__(self, value: float, calls: int) -> None:
        super().__init__()
        self.value, self.calls = value, calls

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        self.calls -= 1
        return 0.1 * x + (self.value if self.calls < 0 else 0.0)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan, 1e38, -1e38])
@pytest.mark.parametrize("name", ALL)
def test_no_limit_on_estimates_makes_an_image_of_what_a_network_cannot_have_meant(name, value):
    prior = priors.NetworkPrior(Broken(value, 3), "eps", shape=toy.SHAPE)
    likelihood = dataclasses.replace(toy.likelihood(1), y=toy.likelihood(1).y.float())
    result = iv.solve(iv.Problem(prior, likelihood), toy.quick(name))
    assert "non-finite" in result.status[0][0]


@pytest.mark.parametrize("name", ALL)
def test_a_callback_cannot_change_the_run(name):
    def meddle(progress: iv.Progress) -> None:
        progress.state.x.zero_()
        progress.info.x0.fill_(7.0)
        for values in (progress.state.theta, progress.state.memory, progress.info.extra):
            for value in values.values():
                value.zero_()
            values.clear()

    whole = run(toy.likelihood(2), name)
    meddled = run(toy.likelihood(2), name, callbacks=[meddle])
    assert torch.equal(meddled.samples, whole.samples)
    assert meddled.status == whole.status


def test_a_checkpoint_that_cannot_be_written_is_told_once_and_costs_nothing(tmp_path, monkeypatch, caplog):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("invsolve.core.checkpoint.write_whole", full)
    whole = run(toy.likelihood(2), "ddim")
    result = run(toy.likelihood(2), "ddim", microbatch=1, checkpoint=tmp_path / "run.pt", checkpoint_seconds=0.0)
    torch.testing.assert_close(result.samples, whole.samples, rtol=0, atol=1e-9)
    assert [record.message.count("No space left") for record in caplog.records] == [1]


def test_there_is_a_sentence_for_a_checkpoint_without_a_folder_or_that_is_one(tmp_path):
    with pytest.raises(iv.InputError, match="does not exist: make it first"):
        run(toy.likelihood(1), "ddim", checkpoint=tmp_path / "none" / "run.pt")
    with pytest.raises(iv.InputError, match="not a checkpoint"):
        run(toy.likelihood(1), "ddim", checkpoint=tmp_path)


def _written(path, change) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


CHANGES = {
    "another sample": lambda c: c["finished"][0]["samples"].add_(1),
    "no digest": lambda c: c.pop("digest"),
    "no chunk": lambda c: c["finished"].clear(),
    "another status": lambda c: c["finished"][0]["failed"].fill_(3),
    "something in flight": lambda c: c.update(pending={"x": torch.zeros(1)}),
    "a list": lambda c: c.update(finished={"a": 1}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_checkpoint_that_was_changed_is_refused(what, tmp_path):
    file = tmp_path / "run.pt"
    run(toy.likelihood(1), "ddim", checkpoint=file)
    _written(file, CHANGES[what])
    with pytest.raises(iv.InputError, match="checkpoint"):
        run(toy.likelihood(1), "ddim", checkpoint=file)


def test_a_sample_that_never_was_finite_says_so_and_is_not_invented():
    result = iv.solve(iv.Problem(Noisy(row=0, call=1), toy.likelihood(1)), toy.quick("ddim"))
    assert "non-finite" in result.status[0][0]
    assert torch.isnan(result.samples).all()


@pytest.mark.parametrize(
    ("solver", "forwards", "backwards"),
    [
        (solvers.DDIM(n_steps=10), 10, 0),
        (solvers.DPS(n_steps=10), 10, 10),
        (solvers.DPS(form="ddim", n_steps=10), 10, 10),
        (solvers.NDTM(n_steps=10, n_inner=3), 40, 30),
        (solvers.NDTM(n_steps=10, n_inner=3, weights="ddim"), 40, 30),
        (solvers.NDTM(n_steps=10, n_inner=3, control_start="causal"), 40, 30),
        (solvers.NDTM(n_steps=10, n_inner=3, weights="exact", control_start="causal"), 50, 30),
        (solvers.NDTM(n_steps=10, n_inner=3, control="linear"), 30, 30),
        (solvers.NDTM(n_steps=10, n_inner=0), 10, 0),
        (solvers.REDdiff(n_steps=10), 10, 0),
        (solvers.PnPHQS(n_steps=10), 10, 0),
    ],
)
def test_network_calls_are_at_the_minimum(solver, forwards, backwards):
    stats = iv.solve(iv.Problem(toy.gaussian(), toy.likelihood(2)), solver, samples=2, microbatch=3).stats
    assert (stats.network_forwards, stats.network_backwards) == (forwards, backwards)


@pytest.mark.parametrize("name", ["ddim", "dps", "ndtm", "pnp-hqs"])
def test_the_prior_range_does_not_change_the_restoration(name):
    """Weights are quoted in the prior's units, so those of a [0, 1] prior are rescaled to say the same."""
    likelihood = toy.likelihood(2)
    scale = {"dps": {"zeta": 0.6}, "ndtm": {"weight": 2.5, "lr": 0.02}, "pnp-hqs": {"sigma_start": 0.6}}.get(name, {})
    base = {"dps": {"zeta": 0.3}, "ndtm": {"weight": 10.0, "lr": 0.01}, "pnp-hqs": {"sigma_start": 0.3}}.get(name, {})
    # a VE path in the prior's own units: noise that is twice as large on a range that is twice as wide
    results = []
    for value_range, settings, size in (((0.0, 1.0), base, 1.0), ((-1.0, 1.0), scale, 2.0)):
        schedule = iv.VESchedule(10.0 * size, 0.01 * size)
        problem = iv.Problem(toy.gaussian(value_range, schedule), likelihood)
        if name != "pnp-hqs":
            settings = {"n_steps": 8, "start": "guided", **settings}
        results.append(iv.solve(problem, solvers.SOLVERS[name](**settings)).samples)
    # Adam's 1e-8 in the denominator is in the prior's units, all else agrees to rounding
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-5 if name == "ndtm" else 1e-9)


def test_zero_guidance_is_the_unguided_sampler_bit_for_bit():
    problem = iv.Problem(toy.gaussian(), toy.likelihood(2))
    free = iv.solve(problem, solvers.DDIM(n_steps=12, eta=0.7)).samples
    options = {"n_steps": 12, "eta": 0.7, "start": "random"}
    assert torch.equal(iv.solve(problem, solvers.NDTM(weight=0.0, weights="ddim", **options)).samples, free)
    assert torch.equal(iv.solve(problem, solvers.NDTM(n_inner=0, **options)).samples, free)
    assert torch.equal(iv.solve(problem, solvers.DPS(form="ddim", zeta=0.0, **options)).samples, free)


def test_any_cost_guides_without_a_measurement():
    target = torch.full(toy.SHAPE, 0.9, dtype=torch.float64)
    cost = costs.FunctionCost(lambda x: 50 * (x - target).square().flatten(1).sum(1))
    problem = iv.Problem(toy.gaussian(), cost)
    free = iv.solve(problem, solvers.DDIM(n_steps=20), samples=8).samples
    guided = iv.solve(problem, solvers.NDTM(n_steps=20, start="random", weight=1.0, lr=0.2), samples=8).samples
    assert (guided - target).abs().mean() < 0.6 * (free - target).abs().mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be a whole number of at least 1"),
        ({"microbatch": 0}, "microbatch must be a whole number"),
        ({"items": ["a"]}, "items must name each"),
        ({"items": ["a", "a"]}, "different"),
    ],
)
def test_sizes_that_make_no_run_are_refused(options, message):
    with pytest.raises(iv.InputError, match=message):
        run(toy.likelihood(2), "ddim", **options)


@pytest.mark.parametrize("times", [(), (1.0,), (1.0, 0.5), (0.5, 0.6, 0.0), (1.0, 0.5, -0.1), (1.5, 0.0)])
def test_a_grid_that_does_not_fall_to_zero_is_refused(times):
    with pytest.raises(iv.InputError, match="times must"):
        solvers.NDTM(times=times)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: costs.GaussianLikelihood(lambda x: x, torch.rand(1, 2), 0.1), "as_operator"),
        (
            lambda: costs.GaussianLikelihood(operators.Denoising((2,)), torch.rand(3, 2).tolist(), 0.1),
            "must be a tensor",
        ),
        (
            lambda: costs.GaussianLikelihood(operators.Denoising((2,)), torch.rand(3, 2), torch.rand(2) + 1),
            "of 3 items",
        ),
        (lambda: costs.LaplaceLikelihood(operators.Denoising((2,)), torch.rand(3, 2), torch.rand(4) + 1), "of 3 items"),
        (lambda: costs.GaussianLikelihood(operators.Denoising((2,)), None, "low"), "must be a number"),
        (lambda: iv.Problem(torch.nn.Identity()), "takes a Prior"),
        (lambda: iv.Problem(toy.gaussian(), torch.sum), "takes a TerminalCost"),
        (lambda: iv.solve(iv.Problem(toy.gaussian()), "ddim"), "takes a solver"),
        (lambda: iv.solve(iv.Problem(toy.gaussian()), solvers.DDIM), "takes a solver"),
    ],
)
def test_what_is_none_is_named_with_what_to_use(make, message):
    with pytest.raises(iv.InputError, match=message):
        make()


def test_an_empty_batch_is_refused():
    operator = operators.Denoising(toy.SHAPE)
    with pytest.raises(iv.InputError, match="no measurement"):
        iv.solve(
            iv.Problem(toy.gaussian(), costs.GaussianLikelihood(operator, torch.empty(0, *toy.SHAPE), 0.1)),
            solvers.DDIM(),
        )


def test_a_missing_capability_is_named_before_any_work():
    nonlinear = operators.as_operator(lambda x: x**2, in_shape=toy.SHAPE)
    y = torch.rand(1, *toy.SHAPE)
    with pytest.raises(iv.CapabilityError, match="linear operator"):
        iv.solve(iv.Problem(toy.gaussian(), costs.GaussianLikelihood(nonlinear, y, 0.1)), solvers.PnPHQS())
    with pytest.raises(iv.CapabilityError, match="cost"):
        iv.solve(iv.Problem(toy.gaussian()), solvers.NDTM())
    cost = costs.FunctionCost(lambda x: x.flatten(1).sum(1))
    with pytest.raises(iv.CapabilityError, match="start from noise"):
        iv.solve(iv.Problem(toy.gaussian(), cost), solvers.NDTM())


class Constant(iv.Prior):
    """Predicts one value in the rows of `where`, and what the exact law says in the others."""

    bounded = False
    value_range = (0.0, 1.0)

    def __init__(self, value: float, where: list[int]) -> None:
        self.inner, self.value, self.where = toy.gaussian(), value, where
        self.schedule, self.shape = self.inner.schedule, self.inner.shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        x0 = self.inner.denoise(x_t, t)
        x0[self.where] = self.value
        return x0


@pytest.mark.parametrize(("value", "told"), [(1e6, "1e+06"), (-2e3, "2e+03")])
def test_a_sample_whose_values_ran_away_is_not_ok(value, told):
    """The others are."""
    problem = iv.Problem(Constant(value, [1]), toy.likelihood(3, sigma=0.02))
    result = iv.solve(problem, solvers.PnPHQS(n_steps=6, lam=0.01))
    assert [sentence for (sentence,) in result.status[::2]] == ["ok", "ok"]
    assert result.status[1][0].startswith(f"failed: values reached {told}")
    assert not result.ok


class _Decoded(LatentPrior):
    """Latents whose decoder gives NaN, or hides how large they are."""

    def __init__(self, image: float) -> None:
        super().__init__(Constant(1e6, [1]), lambda z: z * image if math.isnan(image) else z.clamp(-1, 1))


@pytest.mark.parametrize("image", [0.0, torch.nan])
def test_latents_that_ran_away_and_images_without_numbers_are_not_ok(image):
    result = iv.solve(iv.Problem(_Decoded(image)), solvers.DDIM(n_steps=3), samples=3)
    assert not result.ok
    told = ["NaN values"] * 3 if image != 0 else ["", "values reached", ""]
    for sentence, words in zip(result.status[0], told, strict=True):
        assert words in sentence if words else sentence == "ok"
