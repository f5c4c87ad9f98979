"""Weight files: mapped, strict, refused where they are damaged or would run code; loading again is free."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from adm_files import narrow, random_state
from safetensors.torch import save_file

import invsolve as iv
from invsolve import priors
from invsolve.priors.loading import files as loading
from invsolve.priors.loading.weights import read_weights
from invsolve.priors.networks.unet import Denoiser, save_denoiser
from invsolve.priors.networks.unet_config import DenoiserConfig


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return random_state(narrow("ffhq", multipliers=(1, 1), attention=(False, True), size=None))


def load(path: Path) -> priors.Prior:
    return priors.load(path, head_channels=16)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["INVSOLVE_BOMB"],)


def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path, monkeypatch, state):
    trap = tmp_path / "ran"
    monkeypatch.setenv("INVSOLVE_BOMB", str(trap))
    torch.save({**state, "extra": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps({"ema": Bomb()}))
    for name in ("bomb.pt", "bomb.pkl"):
        with pytest.raises(iv.InputError, match="would run code"):
            load(tmp_path / name)
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_truncated_file_is_named_as_such(tmp_path, state, suffix, share):
    path = tmp_path / f"net{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(20, int(share * len(whole)))])
    with pytest.raises(iv.InputError, match=r"damaged|truncated|neither"):
        load(path)


def test_missing_unexpected_and_wrong_weights_are_named(tmp_path, state):
    short = {k: v for k, v in state.items() if k != "out.2.bias"} | {"spare": torch.zeros(2)}
    torch.save(short, tmp_path / "a.pt")
    with pytest.raises(iv.InputError, match=r"missing out\.2\.bias; unexpected spare"):
        load(tmp_path / "a.pt")
    torch.save({**state, "time_embed.2.bias": torch.zeros(7)}, tmp_path / "b.pt")
    with pytest.raises(iv.InputError, match=r"time_embed\.2\.bias is \[7\], \[128\] expected"):
        load(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["conv1.weight"], "unknown architecture"),
        (["down_blocks.0.weight"], "diffusers"),
        (["enc.64x64_conv.weight"], "EDM"),
    ],
)
def test_another_architecture_is_refused_with_what_to_do(tmp_path, names, match):
    save_file({name: torch.zeros(3) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(iv.InputError, match=match):
        priors.load(tmp_path / "x.safetensors")


def test_what_is_no_weight_file_is_refused(tmp_path):
    (tmp_path / "text.pt").write_text("these are no weights at all")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    for name, match in (("text.pt", "neither"), ("tensor.pt", "not named weights"), ("gone.pt", "no prior, file")):
        with pytest.raises(iv.InputError, match=match):
            priors.load(tmp_path / name)
    with pytest.raises(iv.InputError, match="natural"):
        priors.load("naturall")


@pytest.mark.parametrize(
    "wrap", [lambda s: {"state_dict": s, "epoch": 3}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
def test_what_training_scripts_wrap_around_weights_is_taken_off(tmp_path, state, wrap):
    torch.save(wrap(state), tmp_path / "w.pt")
    torch.save(state, tmp_path / "plain.pt")
    x = torch.zeros(1, 3, 8, 8)
    assert torch.equal(load(tmp_path / "w.pt").denoise(x, 0.5), load(tmp_path / "plain.pt").denoise(x, 0.5))


def wrapped(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{k}": v for k, v in state.items()}


def zeros(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: torch.zeros_like(v) for k, v in state.items()}


WRAPPERS = {
    "average of torch": lambda s: {"n_averaged": torch.tensor(7), **wrapped("module.", s)},
    "compiled, then parallel": lambda s: wrapped("module._orig_mod.", s),
    "parallel, then compiled": lambda s: wrapped("_orig_mod.module.", s),
    "wrapper in a wrapper": lambda s: wrapped("model.module.", s),
    "an unknown attribute": lambda s: wrapped("my_diffusion.inner.", s),
    "beside other modules": lambda s: {**wrapped("generator.", s), "ema_loss.weight": torch.ones(3)},
    "net": lambda s: {"net": s, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}},
    "an unknown key": lambda s: {"my_unet": s, "optimizer_g": {"state": {0: {"m": torch.zeros(3)}}}, "epoch": 4},
    "average before network": lambda s: {"model": zeros(s), "ema": s},
    "average as a list": lambda s: {"model": zeros(s), "ema": {"decay": 0.9, "shadow_params": list(s.values())}},
    "average as a bare list": lambda s: {"state_dict": wrapped("module.", zeros(s)), "ema": list(s.values())},
    "one of several rates": lambda s: {"model": zeros(s), "ema": [s]},
    "average of an unknown name": lambda s: {"unet": zeros(s), "ema_unet": s},
    "average of parameters": lambda s: {"model": zeros(s), "ema_params": s},
    "average in capitals": lambda s: {"model": zeros(s), "EMA": s},
    "average of a state dict": lambda s: {"model_state_dict": zeros(s), "ema_model_state_dict": s},
    "beside a generator's state": lambda s: {"model": s, "rng_state": torch.get_rng_state()},
    "beside a schedule": lambda s: {"model": zeros(s), "ema": s, "betas": torch.ones(9)},
    "beside losses": lambda s: {"state_dict": s, "losses": torch.ones(9)},
    "average in camel case": lambda s: {"model": zeros(s), "modelEMA": s},
    "average of stochastic weights": lambda s: {"model": zeros(s), "swa_model": s},
    "an average's losses": lambda s: {"model": s, "ema_losses": {"loss": torch.ones(3)}, "ema_loss": [torch.ones(1)]},
    "losses beside weights": lambda s: {**s, "ema_stats": {"loss": torch.ones(3)}},
    "average beside, named": lambda s: {
        "ema": {"initted": torch.tensor(True), "step": torch.tensor(3), **wrapped("online_model.model.", zeros(s)),
                **wrapped("ema_model.model.", s)}
    },
    "average beside, without dots": lambda s: {
        "state_dict": {**wrapped("model.", zeros(s)), **{f"model_ema.{k.replace('.', '')}": v for k, v in s.items()},
                       "model_ema.decay": torch.tensor(0.9)}
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_network_is_found_inside_what_training_scripts_save(tmp_path, state, name):
    torch.save(WRAPPERS[name](state), tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt").tensors
    assert found.keys() == state.keys()
    assert all(torch.equal(found[k], v) for k, v in state.items())
    assert load(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda s: {"first": s, "second": s}, r"could be the network \(first, second\)"),
        (lambda s: {"model": s, "ema_fast": s, "ema_slow": s}, r"several averages \(ema_fast, ema_slow\)"),
        (lambda s: {"epoch": 3, "note": "x"}, r"its entries are epoch, note"),
        (lambda s: {"ema": [s, s]}, r"2 averages under 'ema'"),
        (lambda s: {"ema": {"shadow_params": list(s.values())}}, r"a list without names"),
        (lambda s: {"model": s, "ema": list(s.values())[:-1]}, r"do not fit the network's"),
        (lambda s: wrapped("model.diffusion_model.", s) | {"first_stage_model.x": torch.ones(2)}, r"latent diffusion"),
    ],
)
def test_what_could_be_meant_in_several_ways_is_refused_by_name(tmp_path, state, content, match):
    torch.save(content(state), tmp_path / "w.pt")
    with pytest.raises(iv.InputError, match=match):
        load(tmp_path / "w.pt")


def test_safetensors_and_half_precision_files_give_the_same_network(tmp_path, state):
    halved = {k: v.half() for k, v in state.items()}
    save_file(halved, tmp_path / "half.safetensors")
    torch.save({k: v.half().float() for k, v in state.items()}, tmp_path / "full.pt")
    x = torch.ones(1, 3, 8, 8)
    out = load(tmp_path / "half.safetensors").denoise(x, 0.5)
    assert out.dtype == torch.float32
    assert torch.equal(out, load(tmp_path / "full.pt").denoise(x, 0.5))


def test_loading_again_shares_the_network_until_the_file_changes(tmp_path, state, monkeypatch):
    path = tmp_path / "net.pt"
    torch.save(state, path)
    first = load(path)
    monkeypatch.setattr(loading, "fill", lambda *args, **kwargs: pytest.fail("the file was read again"))
    assert load(path).module is first.module
    monkeypatch.undo()
    torch.save({k: 2 * v for k, v in state.items()}, path)
    os.utime(path, ns=(0, 0))
    assert load(path).module is not first.module


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_stay_in_the_file(tmp_path, suffix):
    """Peak memory of loading 64 MB, over what the process held before: far below the file's size."""
    path = tmp_path / f"big{suffix}"
    big = {"w": torch.zeros(16_000_000)}
    save_file(big, path) if suffix == ".safetensors" else torch.save(big, path)
    script = (
        "import resource, sys, pathlib, torch, safetensors\n"
        "from invsolve.priors.loading.weights import read_weights\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); w = read_weights(sys.argv[1]); print(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 16e6
    assert read_weights(path).shapes == {"w": (16_000_000,)}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_loading_a_network_takes_less_memory_than_its_file(tmp_path, suffix):
    """Peak memory of `load`, over what the process held before, for 100 MB of weights: pages of the file included."""
    state = random_state(narrow("ffhq", width=128, multipliers=(1, 1, 2, 2, 4), attention=(False,) * 5, size=None))
    path = tmp_path / f"big{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert path.stat().st_size > 100e6
    script = (
        "import resource, sys\n"
        "import safetensors\n"
        "from invsolve import priors\n"
        "import invsolve.priors.loading.files\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); prior = priors.load(sys.argv[1]); print(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 1.3 * path.stat().st_size


def test_unknown_options_and_devices_are_refused_in_a_sentence(tmp_path, state):
    torch.save(state, tmp_path / "net.pt")
    for name in ("natural", "digits", tmp_path / "net.pt"):
        with pytest.raises(iv.InputError, match=r"takes no option 'shedule'.*did you mean 'schedule'"):
            priors.load(name, shedule="cosine")
        with pytest.raises(iv.InputError, match="device 'abacus' cannot be used"):
            priors.load(name, device="abacus")
    assert isinstance(priors.load("natural", schedule="cosine").schedule, iv.DDPMSchedule)


def test_a_prior_trained_by_the_project_loads_from_its_file(tmp_path):
    config = DenoiserConfig(image_channels=1, channels=(8, 8), blocks=(1, 1), embedding=8)
    save_denoiser(Denoiser(config), tmp_path / "own.safetensors")
    prior = priors.load(tmp_path / "own.safetensors")
    assert prior.denoise(torch.zeros(1, 1, 12, 12), 0.3).shape == (1, 1, 12, 12)
    whole = (tmp_path / "own.safetensors").read_bytes()
    (tmp_path / "own.safetensors").write_bytes(whole[:-50])
    with pytest.raises(iv.InputError):
        priors.load(tmp_path / "own.safetensors")


def test_weights_of_deepinv_that_come_in_two_units_need_theirs(tmp_path):
    pytest.importorskip("deepinv")
    (tmp_path / "edm.pt").write_bytes(b"")
    for name in ("NCSNpp", "ADMUNet"):
        with pytest.raises(iv.InputError, match="give _was_trained_on_minus_one_one and pixel_std"):
            priors.load(f"deepinv:{name}", weights=tmp_path / "edm.pt")
