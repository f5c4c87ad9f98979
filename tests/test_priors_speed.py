"""Speed options change how a network runs, not what it says; recomputation keeps weights frozen and saves memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adm_files import narrow, random_state
from torch import Tensor, nn

import invsolve as iv
from invsolve import priors
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.networks.execution import Network, Speed, cast_once
from invsolve.priors.networks.unet import Denoiser
from invsolve.priors.networks.unet_config import DenoiserConfig


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adm")
    shapes = narrow("ffhq", multipliers=(1, 1, 2), attention=(False, True, False), n_labels=3, size=None)
    torch.save(random_state(shapes), folder / "net.pt")
    return folder / "net.pt"


def gradient(prior: priors.Prior, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    out = prior.denoise(leaf, 0.3)
    return out.detach(), torch.autograd.grad(out.square().sum(), leaf)[0]


def states(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"checkpointing": True}, 1e-6),
        ({"channels_last": True}, 1e-5),
        ({"chunk": 2}, 1e-5),
        ({"chunk": 1, "checkpointing": True, "channels_last": True}, 1e-5),
        ({"dtype": "bfloat16"}, 3e-2),
        ({"dtype": torch.bfloat16, "checkpointing": True, "chunk": 2}, 3e-2),
        ({"dtype": "float16"}, 1e-2),
    ],
    ids=str,
)
def test_options_change_neither_outputs_nor_gradients(path, options, tolerance):
    labels = torch.tensor([0, 1, 2])
    plain = priors.load(path, head_channels=16).given(label=labels)
    fast = priors.load(path, head_channels=16, **options).given(label=labels)
    out, grad = gradient(plain, states())
    fast_out, fast_grad = gradient(fast, states())
    assert fast_out.dtype == fast_grad.dtype == torch.float32
    assert relative(fast_out, out) < tolerance
    assert relative(fast_grad, grad) < tolerance
    assert not any(p.requires_grad or p.grad is not None for p in fast.module.parameters())


def kept_bytes(prior: priors.Prior, x: Tensor) -> int:
    """What autograd keeps for the backward pass, each storage once, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in prior.module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = prior.denoise(x.requires_grad_(), 0.3)
    del out
    return sum(kept.values())


def test_recomputing_keeps_less_than_half_and_runs_no_convolution_twice(path):
    given = {"label": 1}
    plain, less = (priors.load(path, head_channels=16, checkpointing=on).given(**given) for on in (False, True))
    assert kept_bytes(less, states(1)) < 0.5 * kept_bytes(plain, states(1))
    calls = []
    handles = [
        m.register_forward_hook(lambda *a: calls.append(1)) for m in less.module.modules() if isinstance(m, nn.Conv2d)
    ]
    gradient(less, states(1))
    for handle in handles:
        handle.remove()
    assert len(calls) == len(handles)


def test_networks_that_know_nothing_of_it_recompute_their_blocks():
    config = DenoiserConfig(channels=(16, 16), blocks=(2, 2), embedding=8)
    plain, less = Denoiser(config), Denoiser(config)
    less.load_state_dict(random_state({k: list(v.shape) for k, v in plain.state_dict().items()}))
    plain.load_state_dict(less.state_dict())
    own = priors.NetworkPrior(plain, "edm")
    saving = priors.NetworkPrior(less, "edm", speed=Speed(checkpointing=True))
    for a, b in zip(gradient(own, states()), gradient(saving, states()), strict=True):
        assert relative(b, a) < 1e-6
    assert kept_bytes(saving, states()) < 0.6 * kept_bytes(own, states())
    with pytest.raises(iv.InputError, match="no list of blocks"):
        priors.NetworkPrior(nn.Conv2d(3, 3, 1), "edm", speed=Speed(checkpointing=True))


def test_chunks_bound_the_samples_of_a_call():
    sizes: list[int] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor, c: Tensor, label: Tensor | int | None = None) -> Tensor:
            sizes.append(len(x))
            assert len(c) == len(x) == len(torch.as_tensor(label))
            return x * torch.as_tensor(label)[:, None, None, None]

    prior = ConditionalPrior(Watch(), 5, parametrization="edm", speed=Speed(chunk=2))
    labels = torch.arange(5)
    x = torch.ones(5, 1, 2, 2)
    out = prior.given(label=labels).denoise(x, 0.3)
    assert sizes == [2, 2, 1]
    torch.testing.assert_close(out[:, 0, 0, 0], labels / prior.schedule(0.3)[0])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dtype": "int8"}, "unknown precision"),
        ({"chunk": 0}, "at least 1"),
        ({"dtype": torch.float64}, "dtype must be"),
        ({"compile": "all"}, "compile must be"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], match: str):
    with pytest.raises(iv.InputError, match=match):
        Speed(**options)


@pytest.mark.slow
def test_a_compiled_network_says_the_same(path):
    plain = priors.load(path, head_channels=16).given(label=1)
    fast = priors.load(path, head_channels=16, compile=True).given(label=1)
    assert relative(fast.denoise(states(), 0.3), plain.denoise(states(), 0.3)) < 1e-4


@pytest.mark.slow
def test_compiled_blocks_say_the_same_and_are_kept_for_later_processes(tmp_path, monkeypatch):
    from torch._dynamo.utils import counters

    monkeypatch.setenv("INVSOLVE_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    net = Denoiser(DenoiserConfig(channels=(8,), blocks=(1,), embedding=8)).requires_grad_(False)
    x, sigma = states(1), torch.full((1,), 0.3)
    expected = net(x, sigma)
    found = []
    for _ in range(2):
        torch._dynamo.reset()
        counters.clear()
        fast = Network(net, Speed(compile="blocks"), x.device)
        assert relative(fast(x, sigma, {}), expected) < 1e-4
        found.append(counters["inductor"]["fxgraph_cache_hit"])
    assert found[0] == 0 < found[1]
    assert any((tmp_path / "compiled").rglob("*"))
    assert all(block._compiled_call_impl is None for block in net.encoder)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")


def test_a_network_without_blocks_is_not_compiled_by_them():
    with pytest.raises(iv.InputError, match="no list of blocks"):
        Network(nn.Conv2d(3, 3, 3), Speed(compile="blocks"), torch.device("cpu"))


@pytest.mark.parametrize(
    ("asked", "device", "innermost"), [(None, "cuda", True), (None, "cpu", False), (False, "cuda", False)]
)
def test_channels_are_innermost_on_a_gpu_unless_told_otherwise(asked, device, innermost):
    conv = nn.Conv2d(4, 6, 3)
    Network(conv, Speed(channels_last=asked), torch.device(device))
    assert conv.weight.is_contiguous(memory_format=torch.channels_last) == innermost


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_rounded_once_give_the_bits_of_autocast(path, dtype):
    prior = priors.load(path, head_channels=16, dtype=dtype).given(label=torch.tensor([0, 1, 2]))
    assert {p.dtype for p in prior.module.parameters()} == {torch.float32}  # shared with priors of other precisions
    once = cast_once(prior.module, dtype)
    assert dtype in {p.dtype for p in once.parameters()}
    results = []
    for module in (prior.module, once):
        leaf = states().requires_grad_()
        with torch.autocast("cpu", dtype):
            out = module(leaf, torch.full((3,), 300), label=torch.tensor([0, 1, 2]))
        results.append((out.detach(), torch.autograd.grad(out.float().square().sum(), leaf)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
