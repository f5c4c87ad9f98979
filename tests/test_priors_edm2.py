"""EDM2 networks: magnitudes are kept, published pickles are converted to the same network, latents are decoded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from edm_files import Published, dump, published
from torch import Tensor, nn

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.commands.cli import main
from invsolve.priors.latent import LatentPrior
from invsolve.priors.loading.convert import convert
from invsolve.priors.loading.weights import read_weights
from invsolve.priors.networks.edm2 import (
    EDM2,
    Block,
    EDM2Config,
    MPConv,
    mp_cat,
    mp_silu,
    mp_sum,
    normalised,
    pixel_norm,
)

INNER = {
    "img_resolution": 8, "img_channels": 3, "label_dim": 4, "model_channels": 16, "channel_mult": [1, 2],
    "num_blocks": 1, "attn_resolutions": [4], "channels_per_head": 8, "dropout": 0.1,
}  # fmt: skip


def raw(logvar: bool = True, **changes: Any) -> EDM2:
    """A network whose weights are as they are during training: of any magnitude, with gains that are not 0."""
    network = EDM2(EDM2Config.read({**INNER, "logvar_channels": 12 * logvar, **changes}))
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("_gain"):
                value.fill_(0.7)
            elif name.endswith(("freqs", "phases")):
                value.copy_(2 * math.pi * torch.randn(value.shape, generator=g))
            else:
                value.copy_(3 * torch.randn(value.shape, generator=g))
    return network


def write(path: Path, monkeypatch: Any, network: EDM2, encoder: object = None, **init: Any) -> None:
    """The network in a pickle of the published form, in half precision as the published ones are."""
    outer = published(network.half(), "Precond", sigma_data=0.5, use_fp16=True, label_dim=4)
    outer.state["_modules"]["unet"] = published(network.unet, "UNet", _init_kwargs={**INNER, **init})
    network.float()
    dump(path, monkeypatch, {"ema": outer, "encoder": encoder, "loss_fn": None})


def reference(state: Mapping[str, Tensor], x: Tensor, c_noise: Tensor, labels: Tensor, heads: int) -> Tensor:
    """The network of figure 21 for the settings above, written out: unnormalised weights, double precision."""

    def layer(name: str, h: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        w = state[f"{name}.weight"]
        rms = w.flatten(1).square().mean(1).sqrt() + 1e-4
        w = w / rms.view(-1, *[1] * (w.ndim - 1)) * gain / math.sqrt(w[0].numel())
        return h @ w.T if w.ndim == 2 else nn.functional.conv2d(h, w, padding=w.shape[-1] // 2)

    def unit(h: Tensor, dim: int) -> Tensor:
        return h / (h.square().mean(dim, keepdim=True).sqrt() + 1e-4)

    def silu(h: Tensor) -> Tensor:
        return h * torch.sigmoid(h) / 0.596

    def mix(a: Tensor, b: Tensor, t: float) -> Tensor:
        return ((1 - t) * a + t * b) / math.sqrt((1 - t) ** 2 + t**2)

    def block(name: str, h: Tensor, *, decoder: bool, attention: bool) -> Tensor:
        skip = f"{name}.conv_skip.weight" in state
        if not decoder:
            h = unit(layer(f"{name}.conv_skip", h) if skip else h, 1)
        gain = layer(f"{name}.emb_linear", emb, state[f"{name}.emb_gain"]) + 1
        y = layer(f"{name}.conv_res1", silu(layer(f"{name}.conv_res0", silu(h)) * gain[:, :, None, None]))
        h = mix(layer(f"{name}.conv_skip", h) if decoder and skip else h, y, 0.3)
        if attention:
            n, c, height, width = h.shape
            qkv = unit(layer(f"{name}.attn_qkv", h).view(n, heads, c // heads, 3, height * width), 2)
            q, k, v = qkv[:, :, :, 0], qkv[:, :, :, 1], qkv[:, :, :, 2]
            share = torch.softmax(torch.einsum("nhci,nhcj->nhij", q, k) / math.sqrt(c // heads), -1)
            y = torch.einsum("nhij,nhcj->nhci", share, v).reshape(n, c, height, width)
            h = mix(h, layer(f"{name}.attn_proj", y), 0.3)
        return h.clamp(-256, 256)

    def join(a: Tensor, b: Tensor) -> Tensor:
        total = a.shape[1] + b.shape[1]
        return torch.cat([p * math.sqrt(total / 2 / p.shape[1]) for p in (a, b)], 1)

    features = math.sqrt(2) * torch.cos(c_noise[:, None] * state["emb_fourier.freqs"] + state["emb_fourier.phases"])
    emb = silu(mix(layer("emb_noise", features), layer("emb_label", labels * math.sqrt(labels.shape[1])), 0.5))
    a = layer("enc.8x8_conv", torch.cat([x, torch.ones_like(x[:, :1])], 1))
    b = block("enc.8x8_block0", a, decoder=False, attention=False)
    half = b.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    c = block("enc.4x4_down", half, decoder=False, attention=False)
    d = block("enc.4x4_block0", c, decoder=False, attention=True)
    h = block("dec.4x4_in0", d, decoder=True, attention=True)
    h = block("dec.4x4_in1", h, decoder=True, attention=False)
    for i, skip in enumerate((d, c)):
        h = block(f"dec.4x4_block{i}", join(h, skip), decoder=True, attention=True)
    h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
    h = block("dec.8x8_up", h, decoder=True, attention=False)
    for i, skip in enumerate((b, a)):
        h = block(f"dec.8x8_block{i}", join(h, skip), decoder=True, attention=False)
    return layer("out_conv", h, state["out_gain"])


def states(n: int = 2, channels: int = 3, side: int = 8) -> Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def test_names_are_those_of_the_published_files():
    names = set(raw().state_dict())
    block = {"emb_gain", "conv_res0.weight", "emb_linear.weight", "conv_res1.weight"}
    attention, skip = {"attn_qkv.weight", "attn_proj.weight"}, {"conv_skip.weight"}
    expected = {
        "unet.out_gain", "unet.emb_fourier.freqs", "unet.emb_fourier.phases", "unet.emb_noise.weight",
        "unet.emb_label.weight", "unet.enc.8x8_conv.weight", "unet.out_conv.weight", "logvar_fourier.freqs",
        "logvar_fourier.phases", "logvar_linear.weight",
    }  # fmt: skip
    for name, parts in {
        "enc.8x8_block0": block, "enc.4x4_down": block, "enc.4x4_block0": block | attention | skip,
        "dec.4x4_in0": block | attention, "dec.4x4_in1": block, "dec.4x4_block0": block | attention | skip,
        "dec.4x4_block1": block | attention | skip, "dec.8x8_up": block, "dec.8x8_block0": block | skip,
        "dec.8x8_block1": block | skip,
    }.items():  # fmt: skip
        expected |= {f"unet.{name}.{part}" for part in parts}
    assert names == expected


def test_the_published_small_network_has_its_number_of_weights():
    """EDM2-S has 280 million (table 2 of the paper)."""
    with torch.device("meta"):
        network = EDM2(EDM2Config(64, 3, 1000, logvar_channels=128))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(280e6, rel=0.005)


def magnitude(x: Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


def test_layers_keep_magnitudes():
    """Root mean squares of layers on 2e5 normal numbers are 1 to 3 %, whatever the weights' magnitude was."""
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(16, 32, 20, 20, generator=g), torch.randn(16, 64, 20, 20, generator=g)
    assert magnitude(mp_silu(a)) == pytest.approx(1, abs=0.01)
    for t in (0.3, 0.5):
        assert magnitude(mp_sum(a, b[:, :32], t)) == pytest.approx(1, abs=0.01)
        joined = mp_cat(a, b, t)
        assert magnitude(joined) == pytest.approx(1, abs=0.01)
        shares = magnitude(joined[:, :32]) ** 2 * 32, magnitude(joined[:, 32:]) ** 2 * 64
        assert shares[1] / shares[0] == pytest.approx((t / (1 - t)) ** 2, rel=0.03)
    assert magnitude(pixel_norm(7 * a)) == pytest.approx(1, abs=1e-3)
    for kernel in (1, 3):
        conv = MPConv(32, 48, kernel)
        conv.weight.data = normalised(5 * torch.randn(conv.weight.shape, generator=g))
        assert magnitude(conv(a)[..., 1:-1, 1:-1]) == pytest.approx(1, abs=0.03)
        torch.testing.assert_close(conv.weight.flatten(1).norm(dim=1), torch.ones(48), rtol=1e-4, atol=0)


def test_blocks_keep_magnitudes_and_depth_does_not_change_them():
    config = EDM2Config.read({**INNER, "model_channels": 64})
    g = torch.Generator().manual_seed(0)
    x, emb = torch.randn(8, 64, 12, 12, generator=g), torch.randn(8, 32, generator=g)
    with torch.no_grad():
        for depth in range(6):
            block = Block(64, 64, 32, config, decoder=depth > 2)
            for conv in (m for m in block.modules() if isinstance(m, MPConv)):
                conv.weight.data = normalised(torch.randn(conv.weight.shape, generator=g))
            x = block(x, emb)
            # Zeros beyond the border take some of the magnitude of a convolution of 3 x 3.
            assert 0.9 < magnitude(x) < 1.1


@pytest.mark.parametrize("encoder", [None, "StandardRGBEncoder"])
def test_a_published_network_survives_conversion(tmp_path, monkeypatch, encoder):
    network = raw()
    write(tmp_path / "net.pkl", monkeypatch, network, encoder and Published(encoder, {}))
    assert main(["priors", "convert", str(tmp_path / "net.pkl"), str(tmp_path / "net.safetensors")]) == 0
    prior = priors.load(tmp_path / "net.safetensors")
    assert prior.shape == (3, 8, 8)
    x, labels, sigma = states(), torch.tensor([1, 3]), 0.6
    state = {name.removeprefix("unet."): v.half().double() for name, v in network.state_dict().items()}
    total = sigma**2 + 0.25
    c_noise = torch.full((2,), math.log(sigma) / 4).double()
    with torch.no_grad():
        out = reference(state, x.double() / math.sqrt(total), c_noise, torch.eye(4).double()[labels], heads=4)
    expected = 0.25 / total * x + sigma * 0.5 / math.sqrt(total) * out
    got = prior.given(label=labels).denoise(x, prior.schedule.time_of(sigma))
    torch.testing.assert_close(got.double(), expected.double(), rtol=1e-3, atol=2e-4)
    assert (prior.given(label=0).denoise(x, 0.5) - prior.given(label=2).denoise(x, 0.5)).abs().max() > 1e-2
    with pytest.raises(iv.InputError, match="needs a class"):
        prior.denoise(x, 0.3)


def test_the_uncertainty_head_is_kept_where_there_is_one(tmp_path, monkeypatch):
    for there in (True, False):
        network = raw(logvar=there)
        path = tmp_path / f"{there}.safetensors"
        write(tmp_path / f"{there}.pkl", monkeypatch, network)
        convert(tmp_path / f"{there}.pkl", path)
        loaded: Any = priors.load(path)
        edm2, sigma = loaded.module.network.network, torch.tensor([0.1, 2.0])
        if not there:
            with pytest.raises(iv.InputError, match="no head"):
                edm2.logvar(sigma)
            continue
        w, f, p = (
            network.state_dict()[f"logvar_{k}"].half().double()
            for k in ("linear.weight", "fourier.freqs", "fourier.phases")
        )
        features = math.sqrt(2) * torch.cos(sigma.double().log()[:, None] / 4 * f + p)
        torch.testing.assert_close(edm2.logvar(sigma).double(), features @ (w[0] / w[0].norm()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [({"checkpointing": True}, 1e-6), ({"channels_last": True}, 1e-5), ({"chunk": 1}, 1e-5),
     ({"dtype": "bfloat16"}, 3e-2), ({"dtype": "float16"}, 1e-2)],
    ids=str,
)  # fmt: skip
def test_speed_options_change_neither_outputs_nor_gradients(tmp_path, monkeypatch, options, tolerance):
    write(tmp_path / "net.pkl", monkeypatch, raw())
    convert(tmp_path / "net.pkl", tmp_path / "net.safetensors")
    found = []
    for chosen in ({}, options):
        leaf = states().requires_grad_()
        out = priors.load(tmp_path / "net.safetensors", **chosen).given(label=1).denoise(leaf, 0.4)
        found.append((out.detach(), torch.autograd.grad(out.square().sum(), leaf)[0]))
    for own, fast in zip(*found, strict=True):
        assert fast.dtype == torch.float32
        assert float((fast - own).norm() / own.norm()) < tolerance


def test_weights_that_do_not_fit_are_named(tmp_path, monkeypatch):
    network = raw()
    write(tmp_path / "net.pkl", monkeypatch, network, num_blocks=2)
    convert(tmp_path / "net.pkl", tmp_path / "net.safetensors")
    with pytest.raises(iv.InputError, match=r"missing unet.dec.4x4_block2"):
        priors.load(tmp_path / "net.safetensors")
    write(tmp_path / "filter.pkl", monkeypatch, network, resample_filter=[1, 3, 3, 1])
    convert(tmp_path / "filter.pkl", tmp_path / "filter.safetensors")
    with pytest.raises(iv.InputError, match="resampled by"):
        priors.load(tmp_path / "filter.safetensors")
    write(tmp_path / "more.pkl", monkeypatch, network, cross_attention=True)
    convert(tmp_path / "more.pkl", tmp_path / "more.safetensors")
    with pytest.raises(iv.InputError, match="unknown arguments cross_attention"):
        priors.load(tmp_path / "more.safetensors")


SCALE, BIAS = [0.12, 0.11, 0.13, 0.15], [-0.7, -0.35, -0.02, 0.33]


def latent_file(tmp_path: Path, monkeypatch: Any) -> Path:
    """A network of latents, with an encoder that keeps scale and bias as arrays, as the published ones do."""
    import numpy as np

    state = {
        "vae_name": "org/vae",
        "scale": np.array(SCALE, np.float32),
        "bias": np.array(BIAS, np.float32),
        "batch_size": 8,
        "_vae": None,
    }
    changes: dict[str, Any] = {"img_channels": 4, "label_dim": 0}
    encoder = Published("StabilityVAEEncoder", state)
    write(tmp_path / "net.pkl", monkeypatch, raw(**changes), encoder, **changes)
    convert(tmp_path / "net.pkl", tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_latents_are_decoded_with_the_scale_and_bias_of_the_file(tmp_path, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    path = latent_file(tmp_path, monkeypatch)
    with pytest.raises(iv.InputError, match=r"latents of org/vae: give vae=FOLDER"):
        priors.load(path)
    with pytest.raises(iv.InputError, match="not an autoencoder folder"):
        priors.load(path, vae=tmp_path / "nowhere")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        coder = diffusers.AutoencoderKL(
            block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ).eval()  # fmt: skip
    coder.save_pretrained(tmp_path / "vae")
    prior = priors.load(path, vae=tmp_path / "vae")
    assert isinstance(prior, LatentPrior)
    assert prior.value_range == (0.0, 1.0)
    assert prior.shape == (4, 8, 8)
    scale, bias = (torch.tensor(v)[:, None, None] for v in (SCALE, BIAS))
    z, x = states(2, 4), torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(prior.decode(z), coder.decode((z - bias) / scale).sample)
        torch.testing.assert_close(prior.encode(x), coder.encode(x).latent_dist.mean * scale + bias)
    operator = operators.SuperResolution(in_shape=(3, 16, 16), factor=2)
    cost = costs.GaussianLikelihood(operator, operator(x), sigma=0.05)
    result = iv.solve(iv.Problem(prior, cost), solvers.NDTM(n_steps=3, n_inner=1, start="guided"))
    assert result.ok
    assert result.samples.shape == (1, 1, 3, 16, 16)


def test_arrays_and_scales_come_from_the_file_without_running_it(tmp_path, monkeypatch):
    import json

    import numpy as np

    config = json.loads(read_weights(latent_file(tmp_path, monkeypatch)).metadata["config"])
    assert config["encoder"] == {"vae_name": "org/vae", "scale": pytest.approx(SCALE), "bias": pytest.approx(BIAS)}
    write(tmp_path / "odd.pkl", monkeypatch, raw(), Published("OtherEncoder", {}))
    with pytest.raises(iv.InputError, match="encoder of an unknown kind: OtherEncoder"):
        convert(tmp_path / "odd.pkl", tmp_path / "odd.safetensors")
    write(tmp_path / "bare.pkl", monkeypatch, raw(), Published("StabilityVAEEncoder", {"vae_name": "org/vae"}))
    with pytest.raises(iv.InputError, match="without the scale and bias"):
        convert(tmp_path / "bare.pkl", tmp_path / "bare.safetensors")
    assert not (tmp_path / "odd.safetensors").exists()
    names = Published("StabilityVAEEncoder", {"scale": np.array(["a", {}], object)})
    write(tmp_path / "objects.pkl", monkeypatch, raw(), names)
    with pytest.raises(iv.InputError, match="an array that does not hold plain numbers"):
        convert(tmp_path / "objects.pkl", tmp_path / "objects.safetensors")


@pytest.mark.parametrize("limit", [None, 0.5])
def test_activations_are_limited_as_the_file_says(tmp_path, monkeypatch, limit):
    write(tmp_path / "net.pkl", monkeypatch, raw(), clip_act=limit)
    convert(tmp_path / "net.pkl", tmp_path / "net.safetensors")
    loaded: Any = priors.load(tmp_path / "net.safetensors").given(label=0)
    seen: list[float] = []
    for block in (m for m in loaded.module.modules() if isinstance(m, Block)):
        block.register_forward_hook(lambda module, args, out: seen.append(float(out.abs().max())))
    loaded.denoise(states(), 0.5)
    assert (max(seen) <= 0.5) == (limit == 0.5)


def test_images_need_no_autoencoder(tmp_path, monkeypatch):
    write(tmp_path / "net.pkl", monkeypatch, raw())
    convert(tmp_path / "net.pkl", tmp_path / "net.safetensors")
    with pytest.raises(iv.InputError, match="omit vae"):
        priors.load(tmp_path / "net.safetensors", vae=tmp_path)
