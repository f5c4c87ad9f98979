"""Priors of one size on images of others, latent priors, and `restore` with a checkpoint of one's own."""

from __future__ import annotations

import pytest
import torch
from adm_files import narrow, random_state
from torch import Tensor, nn

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.priors.latent import LatentPrior
from invsolve.priors.padded import PaddedPrior, fitted
from invsolve.restoration.memory import Plan


def pointwise(side: int = 32) -> priors.NetworkPrior:
    """A network that shrinks each pixel towards 0, of one size."""

    class Shrink(nn.Module):
        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            assert x.shape[-2:] == (side, side)
            return x / (1 + sigma[:, None, None, None] ** 2)

    return priors.NetworkPrior(Shrink(), "edm", shape=(3, side, side))


@pytest.mark.parametrize("size", [(32, 32), (20, 32), (7, 3), (1, 1), (40, 90)])
def test_a_prior_of_one_size_serves_every_size(size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    prior = fitted(pointwise(), size)
    alpha, sigma = prior.schedule(0.4)
    out = prior.predict(x, 0.4)
    torch.testing.assert_close(out.x0, x / alpha / (1 + (sigma / alpha) ** 2))
    torch.testing.assert_close(alpha * out.x0 + sigma * out.eps, x)
    assert prior.shape in (None, (3, *size))


def test_padding_reflects_and_passes_gradients_on():
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            seen.append(x)
            return x.square()

    prior = PaddedPrior(priors.NetworkPrior(Watch(), "edm", shape=(1, 8, 8)))
    x = torch.arange(1.0, 4.0).view(1, 1, 1, 3).requires_grad_()
    (grad,) = torch.autograd.grad(prior.denoise(x, 0.1).sum(), x)
    alpha = prior.schedule(0.1)[0]
    torch.testing.assert_close(alpha * seen[0][0, 0, 0], torch.tensor([1.0, 2, 3, 2, 1, 2, 3, 2]))
    torch.testing.assert_close(grad, 2 * x.detach() / alpha**2)
    with pytest.raises(iv.InputError, match="up to"):
        prior.denoise(torch.zeros(1, 1, 9, 8), 0.1)


def test_restoration_plans_fit_a_prior_of_one_size():
    plan = Plan(microbatch=1, tile=None, max_pixels=10**9)
    prior = plan.apply(pointwise(), (70, 33))
    cost = costs.GaussianLikelihood(operators.Denoising((3, 70, 33)), torch.full((1, 3, 70, 33), 0.5), 0.1)
    assert iv.solve(iv.Problem(prior, cost), solvers.DPS(n_steps=4)).ok


def test_restore_takes_a_checkpoint_by_its_path(tmp_path):
    torch.save(
        random_state(narrow("ffhq", width=64, multipliers=(1, 1), attention=(False, False), size=None)),
        tmp_path / "own.pt",
    )
    image = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(0))
    restored = iv.restore(image, "denoise", prior=str(tmp_path / "own.pt"), noise=0.1, solver="ddnm", device="cpu")
    assert restored.image.size == (24, 20)
    assert restored.record["prior"]["name"] == str(tmp_path / "own.pt")


def latent(side: int = 4) -> LatentPrior:
    """Latents that are a quarter of the image's pixels, decoded by doubling, with a learned-like scale."""
    gaussian = priors.GaussianPrior(torch.zeros(1, side, side), 1.0)
    return LatentPrior(
        gaussian,
        lambda z: (0.4 * z).repeat_interleave(2, -1).repeat_interleave(2, -2),
        lambda x: torch.nn.functional.avg_pool2d(x, 2) / 0.4,
    )


def test_a_latent_prior_is_decoded_into_images_and_encoded_from_them():
    prior = latent()
    z = torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    problem = iv.Problem(prior, None)
    assert problem.to_image(z).shape == (2, 1, 8, 8)
    torch.testing.assert_close(problem.from_image(problem.to_image(z)), z)
    assert problem.state_shape == (1, 4, 4)
    with pytest.raises(iv.CapabilityError, match="start from noise"):
        LatentPrior(prior.prior, prior.decoder).encode(z)
    with pytest.raises(iv.CapabilityError):
        PaddedPrior(prior)


@pytest.mark.parametrize("size", [(64, 64), (40, 64), (80, 180)])
def test_latents_are_padded_and_tiled_in_their_own_space(size):
    network = pointwise()
    prior = LatentPrior(network, latent().decoder, latent().encoder, factor=2)
    chosen = fitted(prior, size)
    shape = (3, size[0] // 2, size[1] // 2)
    assert chosen.shape == shape
    z = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    alpha, sigma = network.schedule(0.4)
    torch.testing.assert_close(chosen.denoise(z, 0.4), z / alpha / (1 + (sigma / alpha) ** 2))
    cost = costs.GaussianLikelihood(operators.Denoising((3, *size)), torch.full((1, 3, *size), 0.5), 0.1)
    result = iv.solve(iv.Problem(chosen, cost), solvers.DPS(n_steps=4))
    assert result.samples.shape == (1, 1, 3, *size)


def test_images_that_latents_cannot_serve_are_refused():
    prior = LatentPrior(pointwise(), latent().decoder, factor=2)
    with pytest.raises(iv.InputError, match="multiples of 2"):
        fitted(prior, (63, 64))
    unknown = LatentPrior(pointwise(), latent().decoder)
    assert fitted(unknown, (64, 64)) is unknown
    with pytest.raises(iv.InputError, match="cannot restore images of"):
        fitted(unknown, (128, 64))
