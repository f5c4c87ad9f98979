"""EDM networks: taken out of pickles that never run, preconditioned as published, with labels."""

from __future__ import annotations

import os
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import priors
from invsolve.cli import main
from invsolve.priors.convert import convert
from invsolve.priors.edm import Preconditioned

INNER = {
    "img_resolution": 8, "in_channels": 3, "out_channels": 3, "label_dim": 4, "augment_dim": 2, "model_channels": 32,
    "channel_mult": [1, 1], "num_blocks": 1, "attn_resolutions": [4],
}  # fmt: skip


def network(kind: str) -> torch.nn.Module:
    from deepinv.models import ADMUNet, NCSNpp

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "DhariwalUNet":
            return ADMUNet(pretrained=None, **INNER)
        return NCSNpp(model_type="ddpm" if kind == "SongUNet" else "ncsn", pretrained=None, **INNER)


class Published:
    """Pickles as the published files do: a call of a function of their own on class name, source and state."""

    def __init__(self, class_name: str, state: dict) -> None:
        self.class_name, self.state = class_name, state

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": self.class_name}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, ({**meta, "state": self.state},)


def published(module: torch.nn.Module, kind: str, init: dict) -> Published:
    """The module and everything below it in that form."""
    modules = {name: published(child, type(child).__name__, {}) for name, child in module.named_children()}
    state = {"_parameters": dict(module._parameters), "_buffers": dict(module._buffers), "_modules": modules}
    return Published(kind, {**state, "_init_args": (), "_init_kwargs": init, "training": False})


def write(path: Path, inner: torch.nn.Module, kind: str, monkeypatch, outer: str = "EDMPrecond") -> None:
    place = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("the pickle ran")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    place._reconstruct_persistent_obj = _reconstruct_persistent_obj
    extra = {"encoder_type": "residual"} if kind == "SongUNet-ncsn" else {}
    model = published(inner, kind.removesuffix("-ncsn"), {**INNER, **extra})
    whole = Published(
        outer, {"_modules": {"model": model}, "sigma_data": 0.5, "sigma_max": float("inf"), "label_dim": 4}
    )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
        patch.setitem(sys.modules, "torch_utils.persistence", place)
        path.write_bytes(pickle.dumps({"ema": whole, "loss_fn": None}))


@pytest.mark.parametrize("kind", ["SongUNet", "SongUNet-ncsn", "DhariwalUNet"])
def test_a_published_network_survives_conversion(tmp_path, monkeypatch, kind):
    inner = network(kind)
    write(tmp_path / "net.pkl", inner, kind, monkeypatch)
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
    write(tmp_path / "vp.pkl", network("SongUNet"), "SongUNet", monkeypatch, outer="VPPrecond")
    with pytest.raises(iv.InputError, match="only EDMPrecond"):
        convert(tmp_path / "vp.pkl", target)
    whole = (tmp_path / "vp.pkl").read_bytes()
    (tmp_path / "cut.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(iv.InputError, match="no readable pickle"):
        convert(tmp_path / "cut.pkl", target)
    with pytest.raises(iv.InputError, match="must be a new"):
        convert(tmp_path / "vp.pkl", tmp_path / "out.pt")
    assert not target.exists()


def test_a_denoiser_of_deepinv_is_given_pictures_and_noise_in_its_units(tmp_path):
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


def test_preconditioning_passes_clean_pictures_and_keeps_the_scale():
    class Zero(torch.nn.Module):
        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return 0 * z

    x = torch.ones(2, 3, 4, 4)
    out = Preconditioned(Zero(), 0.5)(x, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(out[0], x[0])
    torch.testing.assert_close(out[1], 0.5 * x[1])
