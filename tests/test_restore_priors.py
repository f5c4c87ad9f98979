"""`restore` with priors of other kinds: grey, small, of another size; the channels and the sizes they are used in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.core.counting import Calls, CountingPrior
from invsolve.core.prior import Prior
from invsolve.priors.channelwise import ChannelwisePrior
from invsolve.priors.padded import fitted
from invsolve.restoration import restore


class GreyPrior(Prior):
    """Exact denoiser of grey images whose pixels are independent, N(mean, var), in [-1, 1] units."""

    schedule, mean, var = iv.DDPMSchedule(), 0.2, 0.3

    def __init__(self, size: tuple[int, int] = (24, 20), channels: int = 1) -> None:
        self.shape = (channels, *size)

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        assert x_t.shape[1:] == self.shape
        alpha, sigma = self.schedule(t)
        return self.mean + alpha * self.var / (alpha**2 * self.var + sigma**2) * (x_t - alpha * self.mean)


def image(*shape: int) -> Tensor:
    return 0.3 + 0.4 * torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("task", "options"), [("denoise", {}), ("superres", {"factor": 2})])
def test_a_colour_image_under_a_grey_prior_is_three_grey_ones(task, options):
    y = image(3, 12, 10) if task == "superres" else image(3, 24, 20)
    options = {"noise": 0.1, "prior": GreyPrior(), "solver": solvers.PnPHQS(n_steps=8), **options}
    whole = restore(y, task, **options).image.pixels
    assert whole.shape == (3, 24, 20)
    for c in range(3):
        torch.testing.assert_close(whole[c : c + 1], restore(y[c : c + 1], task, **options).image.pixels)


def test_samples_of_a_grey_image_under_a_grey_prior_have_the_posterior_s_deviation():
    """Three equal channels averaged would have 1 / sqrt(3) of it; 480 pixels x 8 samples: 6 % is five deviations."""
    y, noise = image(1, 24, 20), 0.15
    solver = solvers.DDRM(n_steps=40, eta=1.0, eta_b=1.0)
    done = restore(y, "denoise", noise=noise, prior=GreyPrior(), solver=solver, samples=8, seed=1)
    var = GreyPrior.var / 4
    expected = (var * noise**2 / (var + noise**2)) ** 0.5
    assert abs(done.result.samples.std(1).mean().item() / expected - 1) < 0.06 + 0.04  # 0.04: std of 8 is biased


@pytest.mark.parametrize("task", [("denoise", {}), ("deblur", {"blur_sigma": 1.0}), ("inpaint", {"simulate": True}),
                                  ("superres", {"factor": 2})])  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_every_task_runs_under_a_small_grey_prior(task, channels):
    """The size that deblurring works on is larger than the image by the blur's border."""
    name, options = task
    prior = GreyPrior((28, 28))
    side = 14 if name == "superres" else 28
    done = restore(
        image(channels, side, side), name, noise=0.05, prior=prior, solver=solvers.NDTM(n_steps=3), **options
    )
    assert done.image.pixels.shape == (channels, 28, 28)


def test_channels_are_separate_and_each_is_a_network_call():
    inner, calls = GreyPrior((4, 6)), Calls()
    prior = ChannelwisePrior(inner)
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    out = prior.counted(calls).predict(x, 0.3)
    assert calls.forward_rows == 6
    for c in range(3):
        torch.testing.assert_close(out.x0[:, c : c + 1], inner.denoise(x[:, c : c + 1], 0.3))
        torch.testing.assert_close(out.eps[:, c : c + 1], inner.predict(x[:, c : c + 1], 0.3).eps)
    with pytest.raises(iv.CapabilityError, match="has 3 channels"):
        ChannelwisePrior(GreyPrior(channels=3))


def test_labels_for_each_image_reach_all_of_its_channels():
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    digits = priors.load("digits")
    both = ChannelwisePrior(digits).given(label=torch.tensor([3, 8])).denoise(x, 0.5)
    for n, label in enumerate((3, 8)):
        for c in range(3):
            alone = digits.given(label=label).denoise(x[n : n + 1, c : c + 1], 0.5)
            torch.testing.assert_close(both[n : n + 1, c : c + 1], alone, rtol=1e-4, atol=1e-5)


def test_calls_of_a_colour_image_are_counted_for_each_channel():
    done = restore(image(3, 24, 20), "denoise", noise=0.1, prior=GreyPrior(), solver=solvers.PnPHQS(n_steps=5))
    grey = restore(image(1, 24, 20), "denoise", noise=0.1, prior=GreyPrior(), solver=solvers.PnPHQS(n_steps=5))
    assert done.record["stats"]["network_forwards"] == 3 * grey.record["stats"]["network_forwards"]


@pytest.mark.parametrize("size", [(12, 20), (24, 20), (30, 26), (24, 39)])
def test_a_prior_of_another_size_is_padded_or_tiled_to_the_same_denoiser(size):
    """Pixels of this prior are independent, so that every way of cutting gives the same estimate."""
    prior = GreyPrior()
    x = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))
    alpha, sigma = prior.schedule(0.4)
    expected = prior.mean + alpha * prior.var / (alpha**2 * prior.var + sigma**2) * (x - alpha * prior.mean)
    served = fitted(prior, size)
    torch.testing.assert_close(served.denoise(x, 0.4), expected)
    assert CountingPrior(served).image_channels == 1


def test_tiles_of_a_prior_of_one_size_have_that_size():
    """A larger image is not padded to it: every tile is full."""
    seen = []

    class Watched(GreyPrior):
        def denoise(self, x_t: Tensor, t: float) -> Tensor:
            seen.append(float(x_t.std()))
            return super().denoise(x_t, t)

    x = torch.zeros(1, 1, 64, 96)
    x[..., 0, 0] = 1.0
    fitted(Watched((64, 64)), (64, 96)).denoise(x, 0.4)
    once = torch.zeros(64 * 64)
    once[0] = 1.0
    assert seen[0] == pytest.approx(float(once.std()))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(iv.InputError, match="28 x 28 pixels, which are too small as tiles of an image of 200 x 100"):
        restore(image(1, 100, 200), "denoise", noise=0.1, prior=GreyPrior((28, 28)), solver=solvers.NDTM(n_steps=2))
    with pytest.raises(iv.InputError, match="grey or colour images is needed, this one has 2 channels"):
        restore(image(1, 8, 8), "denoise", noise=0.1, prior=GreyPrior((8, 8), 2), solver=solvers.NDTM(n_steps=2))


def test_the_exact_problem_is_the_one_that_restore_solves():
    y, noise = image(1, 24, 20), 0.1
    solver = solvers.NDTM(n_steps=4)
    done = restore(y, "denoise", noise=noise, prior=GreyPrior(), solver=solver, seed=3)
    cost = costs.GaussianLikelihood(operators.Denoising((1, 24, 20)), y[None], noise)
    own = iv.solve(iv.Problem(GreyPrior(), cost), solver, seed=3)
    torch.testing.assert_close(done.result.samples, own.samples)
