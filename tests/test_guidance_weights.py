"""Classifier-free guidance: its weights in closed form, and the prior they make."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import priors, solvers
from invsolve.core.counting import Calls
from invsolve.core.prior import Prediction
from invsolve.priors.guidance import weights as w
from invsolve.priors.guidance.clocks import FrequencyWeights, collapse, logsnr_clock, pyramid, step_clock
from invsolve.priors.guidance.combinations import autoguided, classifier_free, mixed
from invsolve.priors.guidance.named import parse_weight, published_weight, published_weights
from invsolve.priors.guidance.weights import Moment, mean_weight
from invsolve.priors.labelled import LabelledMixture

SHAPE = (1, 4, 4)
TIMES = (0.05, 0.3, 0.7)


def law(schedule: iv.Schedule | None = None) -> LabelledMixture:
    """Five components in three classes, of small images."""
    g = torch.Generator().manual_seed(3)
    means = torch.randn(5, *SHAPE, generator=g, dtype=torch.float64)
    covs = 0.1 + torch.rand(5, 16, generator=g, dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0])
    return LabelledMixture(means, covs, torch.tensor([0, 1, 1, 2, 0]), weights, schedule or iv.VPSchedule())


def states(n: int = 6) -> Tensor:
    return 1.5 * torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def close(a: Tensor, b: Tensor, tol: float = 1e-10) -> bool:
    return torch.allclose(a, b, rtol=tol, atol=tol)


def guided(weight, label=1, **how):
    return classifier_free(law(), weight, condition={"label": label}, null={"label": 3}, **how)


@pytest.mark.parametrize(
    ("weight", "values"),
    [
        (w.Constant(3.0), (3.0, 3.0, 3.0)),
        (w.C2FG(1.5, 0.6), (1.5 * math.exp(0.6), 1.5 * math.exp(0.3), 1.5)),
        (w.C2FG(1.5, 0.0), (1.5, 1.5, 1.5)),
        (w.Interval(1.8, 0.0, 0.7), (1.8, 1.8, 1.0)),
        (w.Interval(w.C2FG(1.8, 0.03), 0.2, 0.7), (1.0, 1.8 * math.exp(0.015), 1.0)),
        (w.Linear(2.0), (2.0, 1.0, 0.0)),
        (w.Linear(2.0, growing=False), (0.0, 1.0, 2.0)),
        (w.Linear(2.0, mean_preserving=True), (4.0, 2.0, 0.0)),
        (w.Sine(2.0), (0.0, 2.0, 0.0)),
        (w.Cosine(2.0), (4.0, 2.0, 0.0)),
        (w.Tent(2.0), (0.0, 4.0, 0.0)),
        (w.Tent(2.0, peak=False), (4.0, 0.0, 4.0)),
        (w.BetaWeight(1.0, 2.0, 2.0), (0.0, 1.5, 0.0)),
        (w.Clamp(w.Sine(2.0), 0.5), (0.5, 2.0, 0.5)),
    ],
)
def test_weights_take_their_values_at_the_end_the_middle_and_the_start(weight: w.Weight, values) -> None:
    found = [weight(Moment(u)) for u in (0.0, 0.5, 1.0)]
    assert found == pytest.approx(values, abs=1e-12)


def test_means_are_those_of_the_closed_forms() -> None:
    assert mean_weight(w.BetaWeight(1.0, 2.0, 2.0)) == pytest.approx(1.0, rel=1e-5)
    for omega, lam, mean in ((1, 0.6, 1.370), (1, math.log(2), 1.443), (1.7, 0.15, 1.834), (4, 1, 6.873)):
        assert mean_weight(w.C2FG(omega, lam)) == pytest.approx(omega * math.expm1(lam) / lam, rel=1e-6)
        assert mean_weight(w.C2FG(omega, lam)) == pytest.approx(mean, abs=6e-4)
    assert mean_weight(w.MeanMatched(w.Sine(3.0), 1.5)) == pytest.approx(1.5, rel=1e-12)


@pytest.mark.parametrize(
    "weight", [w.RAAG(), w.Interval(3.0, 0.2, 5.0, clock="sigma"), w.Clamp(w.Interval(3.0, clock="sigma"))]
)
def test_weights_that_do_not_follow_u_alone_have_no_mean(weight: w.Weight) -> None:
    with pytest.raises(iv.InputError, match="its mean"):
        mean_weight(weight)
    with pytest.raises(iv.InputError, match="its mean"):
        w.MeanMatched(weight, 2.0)


def test_raag_goes_from_its_maximum_to_one() -> None:
    x = torch.ones(2, 3)
    same = Prediction(x, 2 * x)
    far = Prediction(x, 1e6 * x)
    assert w.RAAG(18, 12)(Moment(0.5), (same, same)).tolist() == [18.0, 18.0]
    assert w.RAAG(18, 12)(Moment(0.5), (far, same)).tolist() == [1.0, 1.0]
    # rho = |v_c - v_u| / |v_u| = |0.5 x| / |x|
    half = Prediction(x, 2.5 * x)
    assert w.RAAG(18, 2)(Moment(0.5), (half, same)).tolist() == pytest.approx([1 + 17 * math.exp(-1.0)] * 2)
    assert w.RAAG(18, 2, squared=True)(Moment(0.5), (half, same))[0] == pytest.approx(1 + 17 * math.exp(-0.5))


def test_beta_weight_divides_by_the_norm_of_each_sample() -> None:
    one = Prediction(torch.zeros(2, 1), torch.tensor([[4.0], [9.0]]))
    two = Prediction(torch.zeros(2, 1), torch.zeros(2, 1))
    value = w.BetaWeight(1.0, 2.0, 2.0, gamma=0.5)(Moment(0.5), (one, two))
    assert value.tolist() == pytest.approx([0.75, 0.5])


def test_weight_one_is_the_conditional_prior_and_zero_the_unconditional_bit_for_bit() -> None:
    x = states()
    for t in TIMES:
        assert torch.equal(guided(1.0).predict(x, t).eps, law().given(label=1).predict(x, t).eps)
        assert torch.equal(guided(0.0).predict(x, t).x0, law().predict(x, t).x0)
    problem = [iv.Problem(prior) for prior in (guided(1.0), law().given(label=1))]
    a, b = (iv.solve(p, solvers.DDIM(n_steps=8, eta=0.5), samples=2, seed=4).samples for p in problem)
    assert torch.equal(a, b)


@pytest.mark.parametrize("weight", [w.Constant(2.5), w.C2FG(1.3, 0.7), w.RAAG(6, 3), w.BetaWeight(2.0, gamma=0.5)])
def test_score_eps_and_x0_are_guided_alike(weight: w.Weight) -> None:
    x = states()
    prior, c, u = guided(weight), law().given(label=1), law()
    for t in TIMES:
        alpha, sigma = prior.schedule(t)
        out, pair = prior.predict(x, t), (c.predict(x, t), u.predict(x, t))
        omega = torch.as_tensor(weight(Moment(t), pair), dtype=torch.float64).reshape(-1, 1, 1, 1)
        assert close(out.eps, u.eps(x, t) + omega * (c.eps(x, t) - u.eps(x, t)))
        assert close(prior.score(x, t), u.score(x, t) + omega * (c.score(x, t) - u.score(x, t)))
        assert close(alpha * out.x0 + sigma * out.eps, x)


def test_labels_of_one_batch_are_those_of_single_samples() -> None:
    labels, x = torch.tensor([0, 1, 2, 2, 1, 0]), states()
    together = guided(3.0, labels).predict(x, 0.4).x0
    one_by_one = torch.cat([guided(3.0, int(y)).predict(row[None], 0.4).x0 for y, row in zip(labels, x, strict=True)])
    assert close(together, one_by_one)
    swapped = guided(3.0, labels).select(torch.tensor([5, 0])).predict(x[[5, 0]], 0.4).x0
    assert close(swapped, together[[5, 0]])


def test_a_label_for_each_image_reaches_its_samples() -> None:
    sharp = LabelledMixture(torch.eye(3, dtype=torch.float64).view(3, 3), torch.full((3,), 1e-6), torch.arange(3))
    prior = classifier_free(sharp, 1.0, condition={"label": torch.tensor([2, 0])}, null={"label": 3})
    out = iv.solve(iv.Problem(prior), solvers.DDIM(n_steps=20), samples=2, microbatch=3).samples
    assert out.shape == (2, 2, 3)
    assert out.argmax(-1).tolist() == [[2, 2], [0, 0]]


def test_networks_are_called_once_on_twice_the_rows_and_not_at_all_where_the_weight_is_one() -> None:
    x = states(5)
    limited = w.Interval(w.RAAG(6, 3), 0.5, 1.0)
    for weight, rows in ((2.0, 10), (1.0, 5), (0.0, 5), (w.Interval(2.0, 0.5, 1.0), 5), (limited, 5)):
        calls = Calls()
        guided(weight).counted(calls).predict(x, 0.3)
        assert calls.forward_rows == rows
    result = iv.solve(iv.Problem(guided(w.Interval(2.0, 0.0, 0.5))), solvers.DDIM(n_steps=10))
    assert result.stats.network_forwards == 5 * 1 + 5 * 2


def test_cfg_plus_plus_is_guidance_with_a_weight_that_follows_the_step() -> None:
    x, lam, times = states(), 0.6, (0.8, 0.55, 0.3, 0.1)
    for t, s in zip(times, times[1:], strict=False):
        alpha, sigma = law().schedule(t)
        alpha_s, sigma_s = law().schedule(s)
        plus = guided(lam, renoise="second").predict(x, t)
        omega = lam / (1 - sigma_s * alpha / (alpha_s * sigma))
        plain = guided(omega).predict(x, t)
        assert close(alpha_s * plus.x0 + sigma_s * plus.eps, alpha_s * plain.x0 + sigma_s * plain.eps)


def test_pyramids_restore_images_and_equal_frequency_weights_are_plain_guidance() -> None:
    a, b = torch.randn(2, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert close(collapse(pyramid(a, 3)), a, 1e-14)
    assert close(FrequencyWeights((4.0, 4.0, 4.0))(a, b), b + 4 * (a - b), 1e-12)
    assert close(FrequencyWeights((7.0, 1.0))(a, b), a + 6 * pyramid(a - b, 2)[0], 1e-12)
    x, t = states(), 0.4
    split = guided(9.0, frequencies=FrequencyWeights((2.0, 2.0))).predict(x, t)
    assert close(split.eps, guided(2.0).predict(x, t).eps)


def test_rescaling_gives_the_guided_noise_the_conditional_deviation() -> None:
    x, t = states(), 0.4
    alpha, sigma = law().schedule(t)
    conditional = law().given(label=1).eps(x, t)
    whole = guided(6.0, rescale=1.0).predict(x, t)
    assert close(whole.eps.flatten(1).std(1), conditional.flatten(1).std(1))
    assert close(alpha * whole.x0 + sigma * whole.eps, x)
    half, plain = guided(6.0, rescale=0.5).predict(x, t).eps, guided(6.0).predict(x, t).eps
    assert close(half, (whole.eps + plain) / 2)


def test_mixing_has_the_two_priors_at_its_ends() -> None:
    a, b = law().given(label=0), law().given(label=2)
    x = states()
    for t in TIMES:
        assert torch.equal(mixed(a, b, 1.0).predict(x, t).x0, a.predict(x, t).x0)
        assert torch.equal(mixed(a, b, 0.0).predict(x, t).x0, b.predict(x, t).x0)
        assert close(mixed(a, b, 2.5).score(x, t), 2.5 * a.score(x, t) - 1.5 * b.score(x, t))
        assert close(autoguided(a, b, w.C2FG(1.7, 0.05)).eps(x, t), b.eps(x, t) + 1.7 * math.exp(0.05 * (1 - t)) * (
            a.eps(x, t) - b.eps(x, t)))  # fmt: skip


def test_two_gaussians_mix_to_the_gaussian_of_the_mixed_precision() -> None:
    a = priors.GaussianPrior(torch.tensor([1.0, 0.0]), 0.5, iv.VPSchedule())
    b = priors.GaussianPrior(torch.tensor([-1.0, 2.0]), 0.25, iv.VPSchedule())
    t, lam, x = 0.3, 1.7, torch.randn(4, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    alpha, sigma = a.schedule(t)
    va, vb = alpha**2 * 0.5 + sigma**2, alpha**2 * 0.25 + sigma**2
    exact = -lam * (x - alpha * a.means) / va - (1 - lam) * (x - alpha * b.means) / vb
    assert close(mixed(a, b, lam).score(x, t), exact)


def test_clocks_run_from_one_at_the_start_to_zero() -> None:
    times = (1.0, 0.6, 0.5, 0.1)
    clock = step_clock(times)
    assert [clock(t) for t in times] == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0])
    assert clock(0.8) == pytest.approx(5 / 6)
    assert clock(0.01) == 0.0
    log = logsnr_clock(iv.VESchedule())
    assert log(1.0) == pytest.approx(1.0)
    assert log(1e-3) == pytest.approx(0.0, abs=1e-12)
    assert log(math.sqrt(1e-3)) == pytest.approx(0.5)  # sigma is a power of t


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: guided(-1.0), "omega"),
        (lambda: w.C2FG(1.0, -0.1), "lambda"),
        (lambda: w.Sine(-1.0), "omega"),
        (lambda: w.Interval(-2.0), "omega"),
        (lambda: w.RAAG(18, -1.0), "alpha"),
        (lambda: guided(2.0, label=7), "0 to 2"),
        (lambda: guided(2.0, label=1.5), "whole number"),
        (lambda: classifier_free(law(), 2.0, condition={"label": 1}, null={}), "same names"),
        (lambda: guided(2.0, rescale=1.5), "share"),
        (lambda: guided(2.0, renoise="no"), "renoise"),
        (lambda: w.Interval(2.0, 0.7, 0.2), "low <= high"),
        (lambda: parse_weight("c2gf:1"), "c2fg"),
        (lambda: parse_weight("c2fg:x"), "c2fg"),
        (lambda: parse_weight("-2"), "at least 0"),
        (lambda: parse_weight("1,2"), "too many"),
        (lambda: mixed(law(), law(iv.FlowSchedule()), 0.5), "one schedule"),
        (lambda: guided(2.0, frequencies=FrequencyWeights((1.0,) * 4)).predict(states(), 0.5), "divisible by 8"),
        (lambda: iv.Problem(guided(2.0, torch.tensor([0, 1])), None).prior.predict(states(3), 0.5), "2 samples"),
    ],
)
def test_wrong_settings_are_told_in_a_sentence(bad, words: str) -> None:
    with pytest.raises(iv.InputError, match=words):
        bad()


def test_a_prior_without_labels_says_so() -> None:
    plain = priors.GaussianPrior(torch.zeros(2), 1.0)
    with pytest.raises(iv.CapabilityError, match="unconditional"):
        classifier_free(plain, 2.0, condition={"label": 1}, null={"label": 3})


def test_weights_are_read_from_the_command_line() -> None:
    assert parse_weight("3") == w.Constant(3.0)
    assert parse_weight("c2fg:1.5,0.6") == w.C2FG(1.5, 0.6)
    assert parse_weight("interval:2,0.1,0.6") == w.Interval(2.0, 0.1, 0.6)


def test_published_weights_have_the_published_means_and_ends():
    ends = {
        "dit-xl2-256": (1.443, 2.0), "dit-xl2-256-25steps": (1.718, 2.718), "sit-xl2-repa-ode": (1.834, 1.975),
        "uvit-coco": (2.214, 2.443), "sd15": (5.535, 6.107), "sd15-fid": (6.873, 10.873), "edm2-s-64": (1.743, 1.787),
        "edm2-s-64-dino": (1.303, 1.812), "edm2-s-512": (1.168, 1.484), "toy": (1.370, 1.822),
    }  # fmt: skip
    for name, (mean, end) in ends.items():
        preset = published_weight(name)
        assert mean_weight(preset.weight) == pytest.approx(mean, abs=6e-4)
        assert preset.weight(Moment(0.0)) == pytest.approx(end, abs=6e-4)
        assert preset.clock == ("step" if name.startswith("edm2") else "time")
    inside = published_weight("sit-xl2-repa-interval").weight
    assert inside(Moment(0.9)) == 1.0
    assert inside(Moment(0.0)) == pytest.approx(1.8 * math.exp(0.03))
    for family in ("dit", "sit", "uvit", "sd15", "sd3", "flux", "edm2"):
        assert any(name.startswith(family) for name in published_weights())
    assert parse_weight("c2fg:sd3") == w.C2FG(5.0, 1.0)
    with pytest.raises(iv.InputError, match="edm2-s-64"):
        published_weight("edm2-s-46")
