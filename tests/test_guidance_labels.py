"""Labelled priors: exact conditional laws, and a network's labels."""

from __future__ import annotations

import pytest
import torch
from test_guidance_weights import SHAPE, TIMES, close, law, states

import invsolve as iv
from invsolve import costs, solvers
from invsolve.core.prior import Prediction, WrappedPrior
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.guidance.combinations import classifier_free
from invsolve.priors.guidance.time_step import time_guided
from invsolve.priors.labelled import LabelledMixture
from invsolve.priors.networks.unet import LabelledDenoiser, load_denoiser, save_denoiser
from invsolve.priors.networks.unet_config import DenoiserConfig


def network() -> ConditionalPrior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = LabelledDenoiser(DenoiserConfig(1, (8, 8), (1, 1), 16, classes=3))
        for p in module.parameters():
            p.data.add_(0.05 * torch.randn_like(p))
    return ConditionalPrior(module, 3, null=3, parametrization="edm", shape=SHAPE)


def test_scores_of_the_classes_sum_to_the_score_of_the_mixture() -> None:
    prior, x = law(), states()
    for t in TIMES:
        share = prior.class_log_prob(x, t).exp()
        assert close(share.sum(1), torch.ones(len(x), dtype=torch.float64))
        total = sum(share[:, y].view(-1, 1, 1, 1) * prior.given(label=y).score(x, t) for y in range(3))
        assert close(total, prior.score(x, t))


def test_the_label_posterior_is_bayes_rule_and_its_gradient_the_guidance() -> None:
    prior, x = law(), states().requires_grad_()
    for t in TIMES:
        log = prior.class_log_prob(x, t)
        for y in range(3):
            bayes = prior.given(label=y).log_prob(x, t) + prior.class_weights[y].log() - prior.log_prob(x, t)
            assert close(log[:, y], bayes)
            (slope,) = torch.autograd.grad(log[:, y].sum(), x, retain_graph=True)
            assert close(slope, (prior.given(label=y).score(x, t) - prior.score(x, t)).detach(), 1e-8)


def test_labels_given_as_a_batch_are_the_classes_one_by_one() -> None:
    labels, x = torch.tensor([2, 0, 3, 1, 1, 0]), states()
    batch = law().given(label=labels)
    for i, y in enumerate(labels.tolist()):
        single = law().given(label=y)
        assert close(batch.denoise(x, 0.3)[i], single.denoise(x, 0.3)[i])
        assert close(batch.log_prob(x, 0.3)[i], single.log_prob(x, 0.3)[i])


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_labels_may_be_integers_of_any_width(kind: torch.dtype) -> None:
    labels, x = torch.tensor([2, 0, 3, 1, 1, 0]), states()
    for prior, x_t in ((law(), x), (network(), x.float())):
        want = prior.given(label=labels).denoise(x_t, 0.3)
        assert torch.equal(prior.given(label=labels.to(kind)).denoise(x_t, 0.3), want)


def test_a_network_takes_labels_and_none_is_the_null_label() -> None:
    prior, x = network(), states().float()
    assert torch.equal(prior.denoise(x, 0.5), prior.given(label=3).denoise(x, 0.5))
    assert not close(prior.denoise(x, 0.5), prior.given(label=0).denoise(x, 0.5), 1e-3)
    mixed = prior.given(label=torch.tensor([0, 1, 2, 3, 0, 1])).denoise(x, 0.5)
    assert close(mixed[1], prior.given(label=1).denoise(x, 0.5)[1], 1e-5)


class Halved(WrappedPrior):
    def predict(self, x_t: torch.Tensor, t: float) -> Prediction:
        out = self.prior.predict(x_t, t)
        return out.replace(x0=0.5 * out.x0)


def test_a_wrapper_of_ones_own_takes_labels_and_selects_their_rows() -> None:
    x, labels, rows = states().float(), torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([5, 2])
    prior = Halved(network()).given(label=labels)
    assert prior.items == 6
    assert torch.equal(prior.denoise(x, 0.5), 0.5 * network().given(label=labels).denoise(x, 0.5))
    chosen = prior.select(rows)
    assert isinstance(chosen, Halved)
    assert torch.equal(chosen.denoise(x[rows], 0.5), 0.5 * network().given(label=labels[rows]).denoise(x[rows], 0.5))


def test_a_labelled_network_survives_its_file(tmp_path) -> None:
    prior = network()
    save_denoiser(prior.module, tmp_path / "w.safetensors", dtype=torch.float32)  # pyright: ignore[reportArgumentType]
    again = load_denoiser(tmp_path / "w.safetensors", build=LabelledDenoiser)
    x = states().float()
    assert torch.equal(again(x, torch.tensor(0.5), 2), prior.module(x, torch.tensor(0.5), 2))
    with pytest.raises(ValueError, match="unexpected labels"):
        load_denoiser(tmp_path / "w.safetensors")


def test_time_guidance_at_weight_one_is_the_network_and_moves_away_from_the_perturbed_one() -> None:
    prior, x, t = network(), states().float(), 0.5
    embedding = prior.module.noise
    one = time_guided(prior, embedding, 1.0).predict(x, t)
    assert torch.equal(one.x0, prior.predict(x, t).x0)
    three, zero = (time_guided(prior, embedding, v).predict(x, t).x0 for v in (3.0, 0.0))
    assert close(three, zero + 3.0 * (one.x0 - zero), 1e-4)
    assert not close(zero, one.x0, 1e-3)
    off = time_guided(prior, embedding, 3.0, window=(0.0, 0.2)).predict(x, t)
    assert close(off.x0, one.x0, 1e-5)
    labelled = time_guided(prior.given(label=torch.arange(6) % 3), embedding, 2.0).predict(x, t).x0
    single = time_guided(prior.given(label=1), embedding, 2.0).predict(x, t).x0
    assert close(labelled[1], single[1], 1e-4)


class Learned(torch.nn.Module):
    """A network of the noise and of its variance, as guided-diffusion networks are."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Linear(1, 2)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shift = self.embedding(c[:, None].to(x) / 1000).sum(1).view(-1, 1, 1, 1)
        return torch.cat([0.5 * x + shift, torch.tanh(x)], 1)


def test_time_guidance_keeps_a_learned_variance() -> None:
    module = Learned()
    prior = iv.priors.NetworkPrior(module, "eps", shape=SHAPE)
    guided, x = time_guided(prior, module.embedding, 2.0), states().float()
    assert torch.equal(guided.predict(x, 0.5).variance, prior.predict(x, 0.5).variance)
    problem = iv.Problem(guided, costs.GaussianLikelihood(iv.operators.Denoising(SHAPE), torch.zeros(1, *SHAPE), 0.1))
    learned, auto, small = (
        iv.solve(problem, solvers.DPS(n_steps=3, variance=variance)).samples
        for variance in ("learned", "auto", "small")
    )
    assert torch.equal(auto, learned)
    assert not torch.equal(auto, small)


@pytest.mark.parametrize("label", [-1, 4, 2.5, 1j, True, torch.tensor([0, 9]), torch.zeros(0, dtype=torch.long)])
def test_labels_out_of_range_are_refused(label) -> None:
    for prior in (law(), network()):
        with pytest.raises(iv.InputError, match="label"):
            prior.given(label=label)


def test_classes_follow_the_means_to_their_device() -> None:
    means = torch.zeros(3, *SHAPE, device="meta")
    prior = LabelledMixture(means, torch.ones(3), torch.tensor([0, 1, 1]))
    assert {prior.device, prior.classes.device, prior.class_weights.device} == {means.device}


def test_other_conditions_are_refused() -> None:
    for prior in (law(), network()):
        with pytest.raises(iv.CapabilityError, match="label"):
            prior.given(text="seven")
    with pytest.raises(iv.InputError, match="without gaps"):
        LabelledMixture(torch.zeros(2, 2), torch.ones(2), torch.tensor([0, 2]))


def test_there_is_one_label_for_each_measurement() -> None:
    from toy import likelihood

    prior = LabelledMixture(torch.rand(3, 3, 4, 4), torch.ones(3), torch.arange(3)).given(label=torch.tensor([0, 1]))
    with pytest.raises(iv.InputError, match="2 labels for 3 images"):
        _ = iv.Problem(prior, likelihood(3)).items


def test_one_guided_prior_serves_batches_of_any_size() -> None:
    x = states().float()
    guided = classifier_free(network(), 2.0, condition={"label": 1}, null={"label": 3})
    for n in (4, 2, 6):
        alone = classifier_free(network(), 2.0, condition={"label": 1}, null={"label": 3})
        assert torch.equal(guided.denoise(x[:n], 0.5), alone.denoise(x[:n], 0.5))


def test_guidance_that_overshoots_the_range_still_goes_where_it_points() -> None:
    """Clamping x0 but not eps turns strong guidance round: the more steps, the surer the wrong class."""
    means = torch.full((2, 1, 4, 4), 0.9, dtype=torch.float64)
    means[1] = -0.9
    law = LabelledMixture(means, torch.full((2,), 0.01), torch.arange(2), None, iv.VPSchedule())
    law.value_range, law.bounded = (-1.0, 1.0), True
    guided = classifier_free(law, 4.0, condition={"label": 0}, null={"label": 2})
    for solver in (
        solvers.DDIM(n_steps=60),
        solvers.FreeDoM(n_steps=60, zeta=0.0),
        solvers.MPGD(n_steps=60, zeta=0.0),
    ):
        out = iv.solve(iv.Problem(guided, costs.FunctionCost(lambda x: x.sum((1, 2, 3)))), solver, samples=6).samples
        assert float(out.mean()) > 0.8


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"chunk": 2}])
def test_time_guidance_that_would_do_nothing_is_refused(options) -> None:
    prior = iv.priors.load("digits", **options)
    with pytest.raises(iv.InputError, match="instead of 12"):
        time_guided(prior, prior.module.noise, 3.0).predict(torch.zeros(6, 1, 16, 16), 0.5)
