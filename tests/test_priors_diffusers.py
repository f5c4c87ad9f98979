"""Folders of diffusers: schedules, parametrisations, labels, latents and the hub's cache, against diffusers itself."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import priors, solvers
from invsolve.priors.loading.schedulers import reading
from invsolve.priors.padded import fitted

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(autouse=True)
def same_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def unet(**changes: Any) -> Any:
    settings: dict[str, Any] = {
        "sample_size": 8, "in_channels": 3, "out_channels": 3, "layers_per_block": 1, "block_out_channels": (8, 8),
        "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "norm_num_groups": 4,
        "attention_head_dim": 4,
    }  # fmt: skip
    return diffusers.UNet2DModel(**{**settings, **changes}).eval()


def pipeline(folder: Path, network: Any, scheduler: Any, name: str = "unet") -> Path:
    network.save_pretrained(folder / name)
    scheduler.save_pretrained(folder / "scheduler")
    index = {"_class_name": "Any", name: ["diffusers", "Any"], "scheduler": ["diffusers", "Any"], "vae": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def with_vae(folder: Path) -> None:
    """Put an autoencoder of 4 channels and 2 x 2 pixels beside a network."""
    coder = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    coder.save_pretrained(folder / "vae")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "vae": ["diffusers", "AutoencoderKL"]}))


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("table", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_tables_are_those_of_the_library(table, zero_snr):
    scheduler = diffusers.DDPMScheduler(beta_schedule=table, rescale_betas_zero_snr=zero_snr)
    schedule = reading({**scheduler.config, "_class_name": "DDPMScheduler"}).schedule
    assert isinstance(schedule, iv.DDPMSchedule)
    bars = torch.tensor(schedule.alpha_bars[1:])
    assert (bars - scheduler.alphas_cumprod).abs().max() < 2e-6
    if zero_snr:
        assert schedule(1.0) == (0.0, 1.0)
        assert 0 < schedule(0.9995)[0] < schedule(0.999)[0]


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_times_are_those_of_the_library(shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    read = reading({**scheduler.config, "_class_name": "FlowMatchEulerDiscreteScheduler"})
    assert (torch.tensor(read.schedule.grid(1000)[:-1]) - scheduler.sigmas).abs().max() < 1e-6
    assert (read.parametrization, read.conditioning, read.scale) == ("velocity", "time", 1000.0)
    grid = iv.FlowSchedule(shift).grid(4, t_start=0.6)
    assert grid[0] == 0.6
    assert all(a > b for a, b in zip(grid, grid[1:], strict=False))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_pipeline_predicts_what_its_network_does(tmp_path, kind):
    network, scheduler = unet(), diffusers.DDIMScheduler(prediction_type=kind, clip_sample=False)
    prior = priors.load(pipeline(tmp_path, network, scheduler))
    assert prior.shape == (3, 8, 8)
    x, k = noise(2, 3, 8, 8), 400
    with torch.no_grad():
        out = network(x, k).sample
        expected = scheduler
        expected.set_timesteps(1000)
        clean = expected.step(out, k, x).pred_original_sample
        torch.testing.assert_close(prior.denoise(x, (k + 1) / 1000), clean, rtol=1e-4, atol=1e-4)
    assert priors.load(tmp_path).module.network is prior.module.network


def test_flow_and_edm_networks_are_told_time_and_noise_as_they_expect(tmp_path):
    network = unet()
    flow = priors.load(pipeline(tmp_path / "flow", network, diffusers.FlowMatchEulerDiscreteScheduler()))
    x = noise(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            flow.velocity(x, 0.3), network(x, torch.tensor([300.0])).sample, rtol=1e-4, atol=1e-5
        )
        scheduler = diffusers.EDMEulerScheduler()
        scheduler.set_timesteps(10)
        edm = priors.load(pipeline(tmp_path / "edm", network, scheduler))
        sigma = 0.7
        out = network(x / (sigma**2 + 0.25) ** 0.5, torch.tensor([sigma]).log() / 4).sample
        expected = scheduler.precondition_outputs(x, out, sigma)
        torch.testing.assert_close(edm.denoise(x, edm.schedule.time_of(sigma)), expected, rtol=1e-4, atol=1e-5)


def test_a_variance_exploding_score_is_read_as_a_denoiser(tmp_path):
    network = unet(time_embedding_type="fourier")
    prior = priors.load(pipeline(tmp_path, network, diffusers.ScoreSdeVeScheduler()))
    assert prior.value_range == (0.0, 1.0)
    x, sigma = noise(2, 3, 8, 8), 1.3
    t = prior.schedule.time_of(sigma)
    with torch.no_grad():
        score = network(x, torch.full((2,), sigma)).sample
        torch.testing.assert_close(prior.score(x, t), score, rtol=1e-3, atol=1e-3)


def test_labels_reach_networks_and_transformers(tmp_path):
    network = unet(num_class_embeds=5)
    prior = priors.load(pipeline(tmp_path / "unet", network, diffusers.DDPMScheduler()))
    x, labels = noise(2, 3, 8, 8), torch.tensor([1, 4])
    with torch.no_grad():
        expected = network(x, 99, class_labels=labels).sample
    torch.testing.assert_close(prior.given(label=labels).eps(x, 0.1), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(iv.InputError, match="needs a class"):
        prior.eps(x, 0.1)
    last = priors.load(tmp_path / "unet", null=4)
    assert last.n_classes == 4
    torch.testing.assert_close(last.eps(x, 0.1), last.given(label=4).eps(x, 0.1))
    settings = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 8, "num_layers": 1}
    dit = diffusers.DiTTransformer2DModel(**settings, sample_size=8, patch_size=2, num_embeds_ada_norm=5).eval()
    prior = priors.load(pipeline(tmp_path / "dit", dit, diffusers.DDIMScheduler(), "transformer"))
    z = noise(2, 4, 8, 8)
    with torch.no_grad():
        out = dit(z, timestep=torch.tensor([99, 99]), class_labels=labels).sample
    prediction = prior.given(label=labels).predict(z, 0.1)
    torch.testing.assert_close(prediction.eps, out[:, :4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prediction.variance, out[:, 4:], rtol=1e-4, atol=1e-5)
    assert prior.null == 5
    assert torch.equal(prior.eps(z, 0.1), prior.given(label=5).eps(z, 0.1))


def test_a_flow_matching_transformer_takes_its_embeddings_as_conditions(tmp_path):
    network = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=6,
        pos_embed_max_size=8,
    ).eval()  # fmt: skip
    prior = priors.load(
        pipeline(tmp_path, network, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), "transformer")
    )
    conditions = {"encoder_hidden_states": noise(2, 3, 12), "pooled_projections": noise(2, 6)}
    z = noise(2, 4, 8, 8)
    with torch.no_grad():
        out = network(hidden_states=z, timestep=torch.tensor([250.0, 250.0]), **conditions).sample
    torch.testing.assert_close(prior.given(**conditions).velocity(z, 0.25), out, rtol=1e-4, atol=1e-5)

    with pytest.raises(iv.InputError, match=r"prior.given\(encoder_hidden_states=..., pooled_projections=...\)"):
        prior.denoise(z, 0.25)
    with pytest.raises(iv.CapabilityError, match="takes no argument prompt; it takes label, encoder_hidden_states"):
        prior.given(prompt="a cat")


@pytest.mark.parametrize("guided", [False, True])
def test_a_transformer_of_tokens_is_given_squares_of_latents_and_their_places(tmp_path, guided):
    """FLUX: token (i, j) holds the 2 x 2 latents below (2 i, 2 j), channel by channel; the time is not scaled."""
    network = diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=12, pooled_projection_dim=6, axes_dims_rope=(4, 6, 6), guidance_embeds=guided,
    ).eval()  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, max_shift=1.15)
    prior = priors.load(pipeline(tmp_path, network, scheduler, "transformer"))
    conditions: dict[str, Any] = {"encoder_hidden_states": noise(2, 3, 12), "pooled_projections": noise(2, 6)}
    z, height, width = noise(2, 4, 6, 8), 3, 4
    tokens = torch.empty(2, height * width, 16)
    places = torch.zeros(height * width, 3)
    for i in range(height):
        for j in range(width):
            tokens[:, i * width + j] = z[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(2, 16)
            places[i * width + j, 1:] = torch.tensor([i, j])
    known = {**conditions, "img_ids": places, "txt_ids": torch.zeros(3, 3)}
    if guided:
        with pytest.raises(iv.InputError, match="guidance="):
            prior.given(**conditions).velocity(z, 0.25)
        conditions["guidance"], known["guidance"] = 3.5, torch.tensor([3.5, 3.5])
    else:
        with pytest.raises(iv.CapabilityError, match="takes no argument guidance"):
            prior.given(guidance=3.5)
    with torch.no_grad():
        out = network(hidden_states=tokens, timestep=torch.tensor([0.25, 0.25]), **known).sample
        got = prior.given(**conditions).velocity(z, 0.25)
    for i in range(height):
        for j in range(width):
            square = got[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(2, 16)
            torch.testing.assert_close(square, out[:, i * width + j], rtol=1e-4, atol=1e-5)
    assert repr(prior.schedule) == repr(iv.FlowSchedule(math.exp(1.15)))
    with pytest.raises(iv.InputError, match="even sides"):
        prior.given(**conditions).denoise(noise(2, 4, 7, 8), 0.25)
    with_vae(tmp_path)
    latent = fitted(priors.load(tmp_path).given(**conditions), (12, 16))
    assert latent.shape == (4, 6, 8)
    assert torch.equal(latent.velocity(z, 0.25), got)
    assert latent.decode(z).shape == (2, 3, 12, 16)


def test_restore_takes_a_latent_pipeline_for_images_of_other_sizes(tmp_path):
    network = unet(sample_size=32, in_channels=4, out_channels=4)
    folder = pipeline(tmp_path, network, diffusers.DDPMScheduler())
    with_vae(folder)
    image = torch.rand(3, 96, 48, generator=torch.Generator().manual_seed(0))
    common: dict[str, Any] = {
        "prior": str(folder),
        "noise": 0.1,
        "solver": solvers.NDTM(n_steps=3, n_inner=1),
        "device": "cpu",
    }
    assert iv.restore(image, "denoise", **common).image.size == (96, 48)
    with pytest.raises(iv.InputError, match="multiples of 2"):
        iv.restore(image[:, :95], "denoise", **common)


def test_blocks_are_recomputed_to_the_same_gradient_with_less_kept(tmp_path):
    folder = pipeline(tmp_path, unet(block_out_channels=(16, 16), sample_size=16), diffusers.DDPMScheduler())
    found, kept = [], []
    for on in (False, True):
        prior = priors.load(folder, checkpointing=on)
        leaf, sizes = noise(2, 3, 16, 16).requires_grad_(), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x):
            out = prior.denoise(leaf, 0.3)
        found.append(torch.autograd.grad(out.square().sum(), leaf)[0])
        kept.append(sum(sizes))
    torch.testing.assert_close(found[1], found[0])
    assert kept[1] < 0.5 * kept[0]


def test_flow_networks_under_other_schedulers_are_read_as_such():
    scheduler = diffusers.UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )
    read = reading({**scheduler.config, "_class_name": "UniPCMultistepScheduler"})
    assert (repr(read.schedule), read.parametrization, read.scale) == ("FlowSchedule(shift=3)", "velocity", 1000.0)


def test_folders_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(iv.InputError, match="neither model_index"):
        priors.load(tmp_path)
    folder = pipeline(tmp_path / "p", unet(), diffusers.DDPMScheduler())
    shutil.copytree(folder / "unet", tmp_path / "alone")
    with pytest.raises(iv.InputError, match="has no scheduler"):
        priors.load(tmp_path / "alone")
    assert priors.load(tmp_path / "alone", schedule="cosine").shape == (3, 8, 8)
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**config, "prediction_type": "magic"}))
    with pytest.raises(iv.InputError, match="is not known"):
        priors.load(folder)
    (folder / "unet" / "config.json").write_text('{"_class_name": "os.system"}')
    with pytest.raises(iv.InputError, match="supported are"):
        priors.load(folder, schedule="linear")


def read(kind: str, **fields: Any) -> Any:
    return reading({"_class_name": kind, **fields})


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_edm_networks_are_read_by_their_prediction_and_data_deviation(tmp_path, kind, prediction):
    """D = c_skip x + c_out F, whose c_out has the other sign for v, and whose scales follow sigma_data."""
    network, scheduler = unet(), getattr(diffusers, kind)(prediction_type=prediction, sigma_data=0.7)
    prior = priors.load(pipeline(tmp_path, network, scheduler))
    x, sigma = noise(1, 3, 8, 8), torch.tensor(1.3)
    with torch.no_grad():
        out = network(scheduler.precondition_inputs(x, sigma), scheduler.precondition_noise(sigma).reshape(1)).sample
        clean = scheduler.precondition_outputs(x, out, sigma)
    torch.testing.assert_close(prior.denoise(x, prior.schedule.time_of(1.3)), clean, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__")
def test_euler_at_noise_levels_is_read_as_the_library_reads_it(tmp_path):
    network = unet()
    scheduler = diffusers.EulerDiscreteScheduler(
        timestep_type="continuous", prediction_type="v_prediction", sigma_min=0.002, sigma_max=700.0,
        use_karras_sigmas=True,
    )  # fmt: skip
    prior = priors.load(pipeline(tmp_path, network, scheduler))
    scheduler.set_timesteps(7)
    x, time, sigma = 20 * noise(1, 3, 8, 8), scheduler.timesteps[3], float(scheduler.sigmas[3])
    with torch.no_grad():
        out = network(scheduler.scale_model_input(x, time), time).sample
        clean = scheduler.step(out, time, x).pred_original_sample
    torch.testing.assert_close(prior.denoise(x, prior.schedule.time_of(sigma)), clean, rtol=1e-3, atol=1e-4)
    assert (prior.schedule.sigma_max, prior.schedule.sigma_min) == (700.0, 0.002)


@pytest.mark.filterwarnings("ignore:__array__")
@pytest.mark.parametrize("prediction", ["flow_prediction", "epsilon", "sample"])
def test_predictions_on_the_straight_path_are_the_library_s(tmp_path, prediction):
    network = unet()
    scheduler = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type=prediction, flow_shift=3.0, final_sigmas_type="zero"
    )
    prior = priors.load(pipeline(tmp_path, network, scheduler))
    scheduler.set_timesteps(5)
    sigma, x = float(scheduler.sigmas[0]), noise(1, 3, 8, 8)
    with torch.no_grad():
        out = network(x, torch.tensor([1000 * sigma])).sample
        scheduler._step_index = 0
        clean = scheduler.convert_model_output(out, sample=x)
    torch.testing.assert_close(prior.denoise(x, sigma), clean, rtol=1e-3, atol=1e-3)


def test_fields_that_a_configuration_leaves_out_have_the_defaults_of_its_class():
    bars = torch.tensor(read("LCMScheduler").schedule.alpha_bars[1:])
    assert (bars - diffusers.LCMScheduler().alphas_cumprod).abs().max() < 2e-6
    assert read("LCMScheduler").few_steps
    bars = torch.tensor(read("UnCLIPScheduler").schedule.alpha_bars[1:])
    assert (bars - diffusers.UnCLIPScheduler().alphas_cumprod).abs().max() < 2e-6
    linear = read("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True, max_shift=3.0, time_shift_type="linear")
    assert repr(linear.schedule) == "FlowSchedule(shift=3)"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("EDMDPMSolverMultistepScheduler", {"prediction_type": "sample"}),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "v_prediction"}),
        ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction"}),
        ("CogVideoXDDIMScheduler", {}),
        ("SCMScheduler", {}),
        ("CMStochasticIterativeScheduler", {}),
        ("DDPMScheduler", {"beta_schedule": "laplace"}),
        ("MadeUpScheduler", {"beta_schedule": "linear"}),
    ],
)
def test_what_is_not_known_to_be_read_rightly_is_refused(kind, fields):
    with pytest.raises(iv.InputError, match=rf"the scheduler {kind} \(.*is not known: give schedule="):
        read(kind, **fields)


def test_a_variance_that_is_no_place_between_bounds_is_left_out(tmp_path):
    network = unet(out_channels=6)
    ranged = priors.load(pipeline(tmp_path / "a", network, diffusers.DDPMScheduler(variance_type="learned_range")))
    free = priors.load(pipeline(tmp_path / "b", network, diffusers.DDPMScheduler(variance_type="learned")))
    x = noise(1, 3, 8, 8)
    assert ranged.predict(x, 0.3).variance is not None
    assert free.predict(x, 0.3).variance is None
    assert torch.equal(free.denoise(x, 0.3), ranged.denoise(x, 0.3))


def test_networks_that_are_given_more_than_the_noisy_image_are_refused(tmp_path):
    with pytest.raises(iv.InputError, match="takes 9 channels and predicts 4"):
        priors.load(pipeline(tmp_path, unet(in_channels=9, out_channels=4), diffusers.DDPMScheduler()))


def test_a_network_that_centres_its_input_has_images_from_0_to_1(tmp_path):
    network = unet(center_input_sample=True)
    assert priors.load(pipeline(tmp_path, network, diffusers.DDPMScheduler())).value_range == (0.0, 1.0)


def test_folders_with_nothing_but_half_precision_are_read(tmp_path):
    """Variants: as `save_pretrained(variant="fp16")` writes them; single files, parts, and old pickles."""
    network, x = unet(), noise(1, 3, 8, 8)
    folder = pipeline(tmp_path / "whole", network, diffusers.DDPMScheduler())
    expected = priors.load(folder).denoise(x, 0.3)
    for name, settings in {
        "one": {"variant": "fp16"},
        "parts": {"variant": "fp16", "max_shard_size": "8KB"},
        "old": {"safe_serialization": False},
    }.items():
        shutil.copytree(folder, tmp_path / name)
        shutil.rmtree(tmp_path / name / "unet")
        saved = unet()
        saved.load_state_dict(network.state_dict())
        saved = saved.half() if "variant" in settings else saved
        saved.save_pretrained(tmp_path / name / "unet", **settings)
        torch.testing.assert_close(priors.load(tmp_path / name).denoise(x, 0.3), expected, rtol=1e-2, atol=1e-2)
    network.half().save_pretrained(folder / "unet", variant="fp16")
    assert torch.equal(priors.load(folder).denoise(x, 0.3), expected)


def test_latents_are_scaled_by_the_statistics_of_their_channels(tmp_path):
    """As in pipelines of Stable Diffusion XL: raw = z std / scale + mean."""
    folder = pipeline(tmp_path, unet(in_channels=4, out_channels=4), diffusers.DDPMScheduler())
    with_vae(folder)
    plain = priors.load(folder)
    config = json.loads((folder / "vae" / "config.json").read_text())
    mean, std = [0.1, -0.2, 0.3, 0.0], [1.0, 2.0, 0.5, 3.0]
    config |= {"latents_mean": mean, "latents_std": std, "scaling_factor": 0.5}
    (folder / "vae" / "config.json").write_text(json.dumps(config))
    prior, z = priors.load(folder), noise(1, 4, 8, 8)
    raw = z * torch.tensor(std)[:, None, None] / 0.5 + torch.tensor(mean)[:, None, None]
    torch.testing.assert_close(prior.decode(z), plain.decode(raw * plain.decoder.__self__.scale))
    image = noise(1, 3, 16, 16).clamp(-1, 1)
    raw = plain.encode(image) / plain.decoder.__self__.scale
    expected = 0.5 * (raw - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(prior.encode(image), expected)


def test_a_repository_with_nothing_but_half_precision_is_fetched_in_it(monkeypatch, tmp_path):
    import huggingface_hub

    asked: list[list[str]] = []

    def snapshot(repository: str, *, ignore_patterns: list[str], **settings: Any) -> str:
        asked.append(ignore_patterns)
        network = unet().half()
        pipeline(tmp_path, network, diffusers.DDPMScheduler())
        (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        if "*.fp16*" not in ignore_patterns:
            network.save_pretrained(tmp_path / "unet", variant="fp16")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert priors.load("hf:org/half").shape == (3, 8, 8)
    assert len(asked) == 2


def test_of_a_repository_what_a_prior_needs_is_fetched_alone(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    name = "diffusion_pytorch_model"
    needed = {
        "model_index.json", "scheduler/scheduler_config.json", f"transformer/{name}-00001-of-00002.safetensors",
        f"transformer/{name}.safetensors.index.json", f"vae/{name}.safetensors", f"{name}.safetensors",
    }  # fmt: skip
    others = {
        "text_encoder_3/model-00001-of-00002.safetensors", "whole.safetensors", f"unet/{name}.fp16.safetensors",
        f"unet/{name}.bin", "code.py",
    }  # fmt: skip
    asked: list[set[str]] = []

    def snapshot(repository: str, *, allow_patterns: list[str], ignore_patterns: list[str], **settings: Any) -> str:
        kept = filter_repo_objects(needed | others, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        asked.append(set(kept))
        return str(pipeline(tmp_path, unet(), diffusers.DDPMScheduler()))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert priors.load("hf:org/name").shape == (3, 8, 8)
    assert asked == [needed]


def test_the_hub_is_read_from_its_cache_when_offline(tmp_path, monkeypatch):
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--name"
    pipeline(repository / "snapshots" / ("a" * 40), unet(), diffusers.DDPMScheduler())
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert priors.load("hf:org/name", offline=True).shape == (3, 8, 8)
    with pytest.raises(iv.InputError, match="org/other cannot be loaded"):
        priors.load("hf:org/other", offline=True)
