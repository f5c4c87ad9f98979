"""Fused convolutions with packed weights are the plain ones, pack once, and follow the weights."""

from __future__ import annotations

import copy
import math
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from invsolve import priors
from invsolve.core.identity import identify
from invsolve.priors.networks import packed, unet
from invsolve.priors.networks.packed import PackedConv2d, packs
from invsolve.testing.images import natural_images

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="a build of torch without oneDNN")


class Counts(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def eager(monkeypatch):
    """A function that runs another one without the fused operations."""

    def run(call):
        with monkeypatch.context() as patch:
            patch.setattr(unet, "packs", lambda *_: False)
            return call()

    return run


@pytest.mark.parametrize(("rows", "height", "width"), [(1, 64, 64), (2, 33, 47), (3, 16, 128)])
def test_the_fused_network_is_the_plain_one(eager, rows, height, width):
    prior = priors.load("natural")
    x = torch.randn(rows, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = eager(lambda: prior.denoise(x, 0.3))
        torch.testing.assert_close(prior.denoise(x, 0.3), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("level", [0.02, 0.2])
def test_fused_bfloat16_loses_less_than_a_hundredth_of_a_decibel(eager, level):
    prior = priors.load("natural", dtype="bfloat16")
    clean = 2 * natural_images(prior) - 1
    t = prior.schedule.time_of(level)
    alpha, _ = prior.schedule(t)
    x = alpha * (clean + level * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)))

    def psnr(x0):
        return -10 * math.log10(float((x0 - clean).square().mean()) / 4)

    with torch.no_grad():
        assert psnr(prior.denoise(x, t)) > psnr(eager(lambda: prior.denoise(x, t))) - 0.01


def test_weights_are_packed_once_for_a_size_and_the_latest_sizes_are_kept():
    prior, convolutions = priors.load("natural"), 2 * 2 * 7  # two in each of two blocks of seven stages
    with torch.no_grad():
        for side, packed_now in ((32, True), (32, False), (48, True), (32, False)):
            with Counts() as counts:
                prior.denoise(torch.zeros(1, 3, side, side), 0.3)
            assert (
                counts.calls["_convolution_pointwise"] == counts.calls["_convolution_pointwise_"] == convolutions // 2
            )
            assert counts.calls["_reorder_convolution_weight"] == (convolutions if packed_now else 0)
        for side in range(16, 160, 16):
            prior.denoise(torch.zeros(1, 3, side, side), 0.3)
    assert len(prior.module.encoder[0].blocks[0].conv1._kept._weights) == packed.KEPT


def test_a_gradient_is_that_of_the_plain_network():
    prior, x = priors.load("natural"), torch.full((1, 3, 32, 32), 0.2, requires_grad=True)
    with Counts() as counts:
        (gradient,) = torch.autograd.grad(prior.denoise(x, 0.3).sum(), x)
    assert counts.calls["_convolution_pointwise"] == 0
    assert float(gradient.abs().sum()) > 0


def test_changed_weights_are_packed_again_and_copies_keep_their_own():
    conv, x = PackedConv2d(8, 8, 3, padding=1).requires_grad_(False), torch.randn(1, 8, 16, 16)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        before = conv.relu(x)
        twin = copy.deepcopy(conv)
        conv.weight.mul_(2.0)
        torch.testing.assert_close(conv.relu(x), torch.relu(conv(x)))
        torch.testing.assert_close(twin.relu(x), before)
        assert not torch.equal(conv.relu(x), before)


def test_packed_weights_are_no_part_of_the_identity_of_a_prior():
    prior = priors.load("natural")
    before = identify(prior)
    with torch.no_grad():
        prior.denoise(torch.zeros(1, 3, 16, 16), 0.3)
    assert identify(prior) == before


def test_a_build_without_the_operations_takes_separate_ones(monkeypatch):
    class Nothing:
        def __getattr__(self, name):
            raise AttributeError(name)

    packed._works.cache_clear()
    monkeypatch.setattr(packed, "_ops", Nothing)
    with torch.no_grad():
        assert not packs(torch.zeros(1, 8, 8, 8), PackedConv2d(8, 8, 3, padding=1))
        priors.load("natural").denoise(torch.zeros(1, 3, 16, 16), 0.3)
    packed._works.cache_clear()


def test_what_works_does_not_depend_on_torchs_default_precision():
    usual = packed._works(torch.float32)
    packed._works.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert packed._works(torch.float32) == usual
    finally:
        torch.set_default_dtype(torch.float32)
