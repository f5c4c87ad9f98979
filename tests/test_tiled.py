"""Tiles: the same answer as the whole image, forwards and backwards, on less memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.core.prior import Prediction, Prior
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.networks.unet import Denoiser
from invsolve.priors.networks.unet_config import DenoiserConfig
from invsolve.priors.tiled import GRID, TiledPrior, extents
from invsolve.restoration.memory import Plan


def local_prior(seed: int = 0, width: int = 8) -> priors.NetworkPrior:
    """A network of random weights that sees fewer pixels around each than a quarter of an overlap of 128."""
    generator = torch.Generator().manual_seed(seed)
    network = Denoiser(DenoiserConfig(channels=(width, width), blocks=(1, 1), embedding=8))
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.12 * torch.randn(weight.shape, generator=generator))
    return priors.NetworkPrior(network, "edm")


def noisy(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(300, 420), (257, 256), (700, 90), (513, 768)])
@pytest.mark.parametrize(("tile", "overlap"), [(256, 128), (320, 128)])
def test_tiles_give_the_result_of_the_whole_image(size: tuple[int, int], tile: int, overlap: int) -> None:
    prior, x_t = local_prior(), noisy(1, 3, *size)
    with torch.no_grad():
        whole = prior.predict(x_t, 0.3)
        tiled = TiledPrior(prior, tile, overlap).predict(x_t, 0.3)
    scale = whole.x0.std()
    assert (whole.x0 - tiled.x0).abs().max() < 2e-5 * scale
    assert (whole.eps - tiled.eps).abs().max() < 2e-5 * scale


@pytest.mark.parametrize("length", [255, 256, 257, 300, 383, 512, 1000, 4099])
@pytest.mark.parametrize(("tile", "overlap"), [(256, 128), (256, 16), (64, 32)])
def test_weights_sum_to_one_and_tiles_keep_to_the_grid(length: int, tile: int, overlap: int) -> None:
    spans = TiledPrior(local_prior(), tile, overlap)._spans(length)
    total = torch.zeros(length, dtype=torch.float64)
    for span in spans:
        assert span.start % 16 == 0
        assert span.stop - span.start <= tile
        total[span.start : span.stop] += span.weight
    assert (total - 1).abs().max() < 1e-12
    assert spans[-1].stop == length
    assert all(a.stop - b.start >= overlap for a, b in pairwise(spans))


@pytest.mark.parametrize("tile", [256, 512, 3120])
@pytest.mark.parametrize("length", [513, 600, 1000, 3121, 4000])
def test_neighbours_share_the_overlap_and_no_more_than_the_grid_asks_for(length: int, tile: int) -> None:
    ends = extents(length, tile, 128)
    assert ends[0][0] == 0
    assert ends[-1][1] == length
    shared = [a[1] - b[0] for a, b in pairwise(ends)]
    assert all(128 <= pixels <= 128 + GRID for pixels in shared)
    assert all(start % GRID == 0 and stop - start <= tile for start, stop in ends)


def test_fixed_tiles_have_one_side_but_for_the_last() -> None:
    assert {stop - start for start, stop in extents(1008, 256, 128, fixed=True)} == {256}
    assert [stop - start for start, stop in extents(520, 256, 64, fixed=True)] == [256, 256, 248]


def test_a_prior_of_one_size_is_refused_because_tiles_at_the_end_may_be_smaller() -> None:
    prior = local_prior()
    prior.shape = (3, 64, 64)
    with pytest.raises(iv.InputError, match=r"images of \[3, 64, 64\] only: adapt it with priors.padded.fitted"):
        TiledPrior(prior, 64, 16)


def test_a_plan_tells_the_pixels_that_go_through_the_network() -> None:
    seen = []

    class Counting(Prior):
        schedule = iv.FlowSchedule()

        def denoise(self, x_t: Tensor, t: float) -> Tensor:
            seen.append(x_t.shape[0] * x_t.shape[2] * x_t.shape[3])
            return x_t

    size = (700, 1000)
    plan = Plan(microbatch=1, tile=512, max_pixels=512**2)
    plan.apply(Counting(), size).denoise(torch.zeros(1, 3, *size), 0.5)
    assert sum(seen) == plan.pixels(size) < 1.6 * 700 * 1000
    whole = Plan(microbatch=1, tile=None, max_pixels=10**6)
    assert whole.pixels(size) == 700 * 1000
    # 12 megapixels in two tiles: 2 % more than the image, not 56 %
    assert Plan(1, 3120, 3120**2).pixels((3000, 4000)) < 1.04 * 3000 * 4000


def test_gradients_flow_through_tiles() -> None:
    prior, x_t, v = local_prior(), noisy(1, 3, 300, 260), noisy(1, 3, 300, 260).flip(-1)
    gradients = []
    for p in (prior, TiledPrior(prior, 256, 128)):
        x = x_t.clone().requires_grad_()
        gradients.append(torch.autograd.grad(p.denoise(x, 0.3), x, v)[0])
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[0].abs().max()


def _saved_bytes(prior: Prior, x_t: Tensor) -> int:
    """Bytes of the distinct tensors that the backward pass would keep."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = prior.denoise(x_t.clone().requires_grad_(), 0.3)
    assert out.requires_grad
    return sum(kept.values())


def test_tiles_do_not_keep_activations_for_the_backward_pass() -> None:
    x_t = noisy(1, 3, 512, 512)
    whole = local_prior(width=64)
    assert _saved_bytes(TiledPrior(whole, 256, 64), x_t) < 0.15 * _saved_bytes(whole, x_t)


def test_calls_keep_to_the_pixels_allowed() -> None:
    seen: list[tuple[int, ...]] = []

    class Watched(priors.NetworkPrior):
        def predict(self, x_t: Tensor, t: float) -> Prediction:
            seen.append(tuple(x_t.shape))
            return super().predict(x_t, t)

    inner = local_prior()
    watched = Watched(inner.module, "edm")
    x_t = noisy(5, 3, 64, 64)
    with torch.no_grad():
        together = inner.denoise(x_t, 0.3)
        apart = TiledPrior(watched, 256, 128, max_pixels=2 * 64 * 64).denoise(x_t, 0.3)
        assert [shape[0] for shape in seen] == [2, 2, 1]
        assert (together - apart).abs().max() < 1e-5
        seen.clear()
        TiledPrior(watched, 256, 128, max_pixels=4 * 256 * 256).denoise(noisy(1, 3, 512, 512), 0.3)
    assert all(n * h * w <= 4 * 256 * 256 for n, _, h, w in seen)
    assert len(seen) == 3  # nine tiles by four


def test_images_within_a_tile_pass_whole() -> None:
    prior, x_t = local_prior(), noisy(2, 3, 70, 81)
    with torch.no_grad():
        assert torch.equal(prior.denoise(x_t, 0.3), TiledPrior(prior, 128, 64).denoise(x_t, 0.3))


class _Labelled(Prior):
    """Answers with each row's label."""

    schedule = iv.FlowSchedule()

    def __init__(self, labels: Tensor | None = None) -> None:
        self.labels = labels

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        assert self.labels is not None
        return self.labels.view(-1, 1, 1, 1).expand_as(x_t)

    def given(self, **condition: Any) -> Prior:
        return _Labelled(condition["label"])

    def select(self, rows: Tensor) -> Any:
        return self if self.labels is None else _Labelled(self.labels[rows])


def test_every_tile_of_a_sample_keeps_its_condition() -> None:
    prior = TiledPrior(_Labelled(), 64, 32, max_pixels=3 * 64 * 64).given(label=torch.tensor([1.0, 2.0]))
    out = prior.denoise(torch.zeros(2, 3, 150, 100), 0.5)
    assert torch.allclose(out, torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand_as(out))


@pytest.mark.parametrize("solver", [solvers.PnPHQS(n_steps=4), solvers.NDTM(n_steps=2, n_inner=1, t_start=0.1)])
def test_restorations_do_not_depend_on_the_tiles(solver: iv.Solver) -> None:
    operator = operators.SuperResolution((3, 300, 280), 2)
    y = torch.rand(1, 3, 150, 140, generator=torch.Generator().manual_seed(3))
    cost = costs.GaussianLikelihood(operator, y, 0.05)
    whole, tiled = (
        iv.solve(iv.Problem(prior, cost), solver, samples=2).samples
        for prior in (local_prior(), TiledPrior(local_prior(), 256, 128))
    )
    assert (whole - tiled).abs().max() < 1e-4


@pytest.mark.parametrize(("tile", "overlap"), [(100, 32), (16, 16), (128, 80), (128, 0), (128, 24)])
def test_sizes_that_make_no_tiling_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(iv.InputError, match="multiple of 16"):
        TiledPrior(local_prior(), tile, overlap)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["natural", "natural-deep"])
def test_natural_does_not_show_the_tiles(name: str) -> None:
    """The stated tolerance: 0.001 of the range, a quarter of a step of 8 bits, with the overlap of `restore`."""
    prior = priors.load(name)
    ramp = torch.linspace(-1, 1, 400)
    clean = (torch.sin(9 * ramp)[:, None] * torch.cos(7 * ramp + ramp[:, None])).expand(1, 3, 400, 400)
    for level in (0.05, 0.4, 1.5):
        t = prior.schedule.time_of(level)
        alpha, sigma = prior.schedule(t)
        x_t = alpha * clean + sigma * noisy(1, 3, 400, 400)
        with torch.no_grad():
            gap = (prior.denoise(x_t, t) - TiledPrior(prior, 256, 128).denoise(x_t, t)).abs() / 2
        assert gap.max() < 1e-3


def test_conditions_of_the_prior_show_through_the_tiles() -> None:
    class Labelled(torch.nn.Module):
        def forward(self, x: Tensor, c: Tensor, label: Any = None) -> Tensor:
            return torch.zeros_like(x)

    prior = ConditionalPrior(Labelled(), 3).given(label=torch.tensor([0, 1, 2]))
    tiled = TiledPrior(prior, 64, 32)
    assert tiled.items == prior.items == 3
    assert TiledPrior(local_prior(), 64, 32).items is None
