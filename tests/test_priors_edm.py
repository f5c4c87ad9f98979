"""EDM networks: taken out of pickles that never run, preconditioned as published, with labels."""

from __future__ import annotations

import math
import os
import pickle
from typing import Any

import pytest
import torch
from edm_files import network, write
from torch import Tensor

import invsolve as iv
from invsolve import priors
from invsolve.commands.cli import main
from invsolve.priors.loading.convert import convert
from invsolve.priors.networks.preconditioning import EDMScaling, IDDPMScaling, Preconditioned, VEScaling, VPScaling


@pytest.mark.parametrize("kind", ["SongUNet", "SongUNet-ncsn", "DhariwalUNet"])
def test_a_published_network_survives_conversion(tmp_path, monkeypatch, kind):
    inner = network(kind)
    write(tmp_path / "net.pkl", monkeypatch, inner, kind)
    assert main(["priors", "convert", str(tmp_path / "net.pkl"), str(tmp_path / "net.safetensors")]) == 0
    prior = priors.load(tmp_path / "net.safetensors")
    assert prior.shape == (3, 8, 8)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    sigma, labels = 0.6, torch.tensor([1, 3])
    with torch.no_grad():
        expected = inner(
            x, torch.full((2,), sigma), class_labels=torch.eye(4)[labels], input_in_minus_one_one=True
        )  # of deepinv, with a data deviation of 0.75
        raw = inner.forward_unet(
            x / (sigma**2 + 0.25) ** 0.5, torch.full((2,), sigma).log() / 4, class_labels=torch.eye(4)[labels]
        )
        total = sigma**2 + 0.25
        own = 0.25 / total * x + sigma * 0.5 / total**0.5 * raw
    got = prior.given(label=labels).denoise(x, prior.schedule.time_of(sigma))
    torch.testing.assert_close(got, own, rtol=1e-4, atol=1e-5)
    assert (got - expected).abs().max() > 1e-3
    with pytest.raises(iv.InputError, match="needs a class"):
        prior.denoise(x, 0.3)


def test_nothing_in_a_pickle_runs_and_what_is_no_network_is_refused(tmp_path, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps({"ema": Bomb(), "more": [Bomb()]}))
    target = tmp_path / "out.safetensors"
    with pytest.raises(iv.InputError, match="not a preconditioned EDM network"):
        convert(tmp_path / "bomb.pkl", target)
    assert not (tmp_path / "ran").exists()
    write(tmp_path / "vp.pkl", monkeypatch, network("SongUNet"), "SongUNet", outer="EDMPrecondSR")
    with pytest.raises(iv.InputError, match="holds a EDMPrecondSR; supported are EDMPrecond, VPPrecond"):
        convert(tmp_path / "vp.pkl", target)
    whole = (tmp_path / "vp.pkl").read_bytes()
    (tmp_path / "cut.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(iv.InputError, match="not a readable pickle"):
        convert(tmp_path / "cut.pkl", target)
    with pytest.raises(iv.InputError, match="must be a new"):
        convert(tmp_path / "vp.pkl", tmp_path / "out.pt")
    assert not target.exists()


def test_a_denoiser_of_deepinv_is_given_images_and_noise_in_its_units(tmp_path):
    from deepinv.models import DnCNN, DRUNet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        denoiser = DRUNet(nc=(8, 8, 8, 8), nb=1, pretrained=None).eval()
    torch.save(denoiser.state_dict(), tmp_path / "drunet.pt")
    prior = priors.load("deepinv:DRUNet", weights=tmp_path / "drunet.pt", nc=(8, 8, 8, 8), nb=1)
    assert prior.value_range == (0.0, 1.0)
    x, t = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 0.2
    alpha, sigma = prior.schedule(t)
    with torch.no_grad():
        expected = denoiser(x, sigma / alpha)
    torch.testing.assert_close(prior.denoise(alpha * x, t), expected, rtol=1e-4, atol=1e-5)
    torch.save(DnCNN(pretrained=None).state_dict(), tmp_path / "other.pt")
    with pytest.raises(iv.InputError, match="do not fit DRUNet"):
        priors.load("deepinv:DRUNet", weights=tmp_path / "other.pt")
    with pytest.raises(iv.InputError, match="no denoiser 'Nothing'"):
        priors.load("deepinv:Nothing")


def test_weights_that_deepinv_downloads_are_tensors_alone(tmp_path, monkeypatch):
    """Its downloads are read as torch reads anything, which would run what a pickle says."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("DEEPINV_DOWNLOAD_VERBOSE", "0")
    monkeypatch.delenv("INVSOLVE_OFFLINE", raising=False)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save({"weight": Bomb()}, tmp_path / "hub" / "checkpoints" / "drunet_deepinv_color_finetune_22k.pth")
    with pytest.raises(iv.InputError, match="DRUNet cannot be created"):
        priors.load("deepinv:DRUNet")
    assert not (tmp_path / "ran").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    monkeypatch.setenv("INVSOLVE_OFFLINE", "1")
    with pytest.raises(iv.InputError, match="give weights=FILE"):
        priors.load("deepinv:DRUNet")


def test_preconditioning_passes_clean_images_and_keeps_the_scale():
    class Zero(torch.nn.Module):
        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0 * z

    x = torch.ones(2, 3, 4, 4)
    out = Preconditioned(Zero(), EDMScaling(0.5))(x, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(out[0], x[0])
    torch.testing.assert_close(out[1], 0.5 * x[1])


def levels() -> Tensor:
    return torch.tensor([0.002, 0.05, 0.7, 11.0, 80.0], dtype=torch.float64)


def test_variance_preserving_scales_are_those_of_the_paper():
    """The time of sigma(t) is t; index (M - 1) t, c_in = alpha, and D is x0 from the network's noise."""
    scaling = VPScaling(beta_d=19.9, beta_min=0.1, n_steps=1000)
    times = [1e-4, 0.01, 0.3, 0.9, 1.0]
    sigma = torch.tensor([math.sqrt(math.exp(19.9 * t * t / 2 + 0.1 * t) - 1) for t in times], dtype=torch.float64)
    scales = scaling(sigma)
    torch.testing.assert_close(scales.noise, 999 * torch.tensor(times, dtype=torch.float64), rtol=1e-8, atol=0)
    torch.testing.assert_close(scales.inside, 1 / (sigma**2 + 1).sqrt())
    assert torch.equal(scales.skip, torch.ones(5).double())
    assert torch.equal(scales.out, -sigma)
    assert [scaling.sigma(t) for t in times] == pytest.approx(sigma.tolist())
    schedule = iv.VPSchedule(0.1, 20.0)
    assert [schedule(t)[1] / schedule(t)[0] for t in times] == pytest.approx(sigma.tolist())


def test_variance_exploding_and_edm_scales_are_those_of_the_paper():
    sigma = levels()
    skip, out, inside, noise = VEScaling()(sigma)
    assert torch.equal(out, sigma)
    assert bool((skip == 1).all() and (inside == 1).all())
    torch.testing.assert_close(noise, torch.log(sigma / 2))
    skip, out, inside, noise = EDMScaling(0.5)(sigma)
    torch.testing.assert_close(skip, 0.25 / (sigma**2 + 0.25))
    torch.testing.assert_close(out, sigma * 0.5 / (sigma**2 + 0.25).sqrt())
    torch.testing.assert_close(inside, 1 / (sigma**2 + 0.25).sqrt())
    torch.testing.assert_close(noise, sigma.log() / 4)


def test_improved_ddpm_scales_are_those_of_the_paper():
    """Index 0 is the least noise; levels are those of the cosine table but for the offset of its first bar."""
    scaling = IDDPMScaling()
    assert len(scaling.levels) == 1001
    assert scaling.levels[-1] == 0
    assert bool((scaling.levels.diff() < 0).all())
    for j in (1, 400, 999):
        after, before = scaling.levels[j].double(), scaling.levels[j - 1].double()
        bar = [math.sin(math.pi / 2 * k / (1000 * 1.008)) ** 2 for k in (j - 1, j)]
        ratio = max(bar[0] / bar[1], 0.001)
        torch.testing.assert_close(before, ((after**2 + 1) / ratio - 1).sqrt(), rtol=1e-4, atol=1e-6)
    sigma = scaling.levels[[999, 500, 1]]
    assert scaling(sigma).noise.tolist() == [0, 499, 998]
    assert torch.equal(scaling(sigma).out, -sigma)


def test_the_grid_of_noise_levels_is_that_of_the_paper():
    """Equation 5: sigma^(1/rho) equally spaced, then 0."""
    n, low, high, rho = 18, 0.002, 80.0, 7.0
    expected = [(high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(n)]
    schedule = iv.VESchedule(high, low, rho)
    assert [schedule(t)[1] for t in schedule.grid(n)] == pytest.approx([*expected, 0.0], rel=1e-9)


OUTER = {
    "VPPrecond": {"beta_d": 19.1, "beta_min": 0.2, "M": 900, "epsilon_t": 1e-5},
    "VEPrecond": {"sigma_min": 0.03, "sigma_max": 60.0},
    "iDDPMPrecond": {"C_1": 0.001, "C_2": 0.008, "M": 1000},
}


@pytest.mark.parametrize("outer", list(OUTER))
def test_networks_of_other_preconditioners_denoise_as_published(tmp_path, monkeypatch, outer):
    kind = {"VPPrecond": "SongUNet", "VEPrecond": "SongUNet-ncsn", "iDDPMPrecond": "DhariwalUNet"}[outer]
    doubled = {"out_channels": 6} if outer == "iDDPMPrecond" else {}
    inner = network(kind, **doubled)
    write(tmp_path / "net.pkl", monkeypatch, inner, kind, outer=outer, state=OUTER[outer], **doubled)
    convert(tmp_path / "net.pkl", tmp_path / "net.safetensors")
    prior = priors.load(tmp_path / "net.safetensors").given(label=2)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    sigma, one_hot = 0.6, torch.eye(4)[[2, 2]]
    match outer:
        case "VPPrecond":
            time = (math.sqrt(0.2**2 + 2 * 19.1 * math.log(1 + sigma**2)) - 0.2) / 19.1
            c_out, c_in, c_noise = -sigma, 1 / math.sqrt(1 + sigma**2), 899 * time
            assert repr(prior.schedule) == repr(iv.VPSchedule(0.2, 19.3))
        case "VEPrecond":
            c_out, c_in, c_noise = sigma, 1.0, math.log(sigma / 2)
            assert repr(prior.schedule) == repr(iv.VESchedule(60.0, 0.03))
        case _:
            nearest = (IDDPMScaling().levels - sigma).abs().argmin()
            c_out, c_in, c_noise = -sigma, 1 / math.sqrt(1 + sigma**2), 999 - float(nearest)
    with torch.no_grad():
        raw = inner.forward_unet(c_in * x, torch.full((2,), c_noise), class_labels=one_hot)
    alpha = prior.schedule(prior.schedule.time_of(sigma))[0]
    got = prior.denoise(alpha * x, prior.schedule.time_of(sigma))
    torch.testing.assert_close(got, x + c_out * raw[:, :3], rtol=1e-3, atol=1e-4)


def test_variants_of_the_networks_that_are_not_built_are_named(tmp_path, monkeypatch):
    write(tmp_path / "net.pkl", monkeypatch, network("SongUNet"), "SongUNet", embedding_type="fourier")
    convert(tmp_path / "net.pkl", tmp_path / "net.safetensors")
    with pytest.raises(iv.InputError, match="embedding_type is fourier, not positional"):
        priors.load(tmp_path / "net.safetensors")


def test_blocks_of_edm_networks_are_recomputed(tmp_path, monkeypatch):
    write(tmp_path / "net.pkl", monkeypatch, network("SongUNet"), "SongUNet")
    convert(tmp_path / "net.pkl", tmp_path / "net.safetensors")
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found, kept, calls = [], [], []
    for on in (False, True):
        prior: Any = priors.load(tmp_path / "net.safetensors", checkpointing=on).given(label=0)
        convolutions = [m for m in prior.module.modules() if type(m).__name__ == "UpDownConv2d"]
        ran: list[int] = []
        handles = [m.register_forward_hook(lambda *_, n=ran: n.append(1)) for m in convolutions]
        leaf, sizes = x.clone().requires_grad_(), []
        with torch.autograd.graph.saved_tensors_hooks(lambda v, s=sizes: s.append(v.numel()) or v, lambda v: v):
            out = prior.denoise(leaf, 0.4)
        found.append(torch.autograd.grad(out.square().sum(), leaf)[0])
        kept.append(sum(sizes))
        calls.append(len(ran))
        for handle in handles:
            handle.remove()
    torch.testing.assert_close(found[1], found[0])
    assert kept[1] < 0.5 * kept[0]
    assert calls[1] <= 2 * calls[0]
