"""Pipelines in memory and their texts, with tiny networks and encoders of random weights."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import invsolve as iv
from invsolve import priors, solvers
from invsolve.priors.prompts import Prompts

diffusers = pytest.importorskip("diffusers")
WORDS = {"": 0.0, "a cat": 0.5, "a dog": -0.7, "blurry": 0.2}


@pytest.fixture(autouse=True)
def same_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def unet(**changes: Any) -> Any:
    settings: dict[str, Any] = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (8, 8),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "norm_num_groups": 4, "attention_head_dim": 4,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 12,
    }  # fmt: skip
    return diffusers.UNet2DConditionModel(**{**settings, **changes}).eval()


def vae() -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, scaling_factor=0.5,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip


class Stub:
    """What `from_pipeline` reads of a pipeline, with an encoder that counts its calls."""

    text_encoder = nn.Linear(1, 1)

    def __init__(self, unet: Any = None, scheduler: Any = None, transformer: Any = None, vae: Any = None) -> None:
        self.unet, self.transformer, self.vae, self.calls = unet, transformer, vae, 0
        self.scheduler = scheduler or diffusers.DDIMScheduler()
        self.config: Any = type("Config", (), {})()

    def __call__(self, prompt: str, guidance_scale: float = 7.5) -> None: ...

    def embedded(self, texts: list[str], *shape: int) -> Tensor:
        self.calls += 1
        return torch.stack([torch.full(shape, WORDS[text]) + 0.1 * torch.arange(shape[-1]) for text in texts])


class StableDiffusionPipeline(Stub):
    def encode_prompt(
        self, prompt: Any, device: Any, num_images_per_prompt: int, do_classifier_free_guidance: bool
    ) -> Any:
        return self.embedded(prompt, 3, 12), None


class StableDiffusionXLPipeline(Stub):
    def encode_prompt(
        self, prompt: Any, prompt_2: Any = None, device: Any = None, num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
    ) -> Any:  # fmt: skip
        return self.embedded(prompt, 3, 12), None, self.embedded(prompt, 6), None


class StableDiffusion3Pipeline(Stub):
    def encode_prompt(
        self, prompt: Any, prompt_2: Any, prompt_3: Any, device: Any = None, num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
    ) -> Any:  # fmt: skip
        return self.embedded(prompt, 3, 12), None, self.embedded(prompt, 6), None


class FluxPipeline(Stub):
    def __call__(self, prompt: str, guidance_scale: float = 3.5) -> None: ...

    def encode_prompt(
        self, prompt: Any, prompt_2: Any = None, device: Any = None, num_images_per_prompt: int = 1
    ) -> Any:
        return self.embedded(prompt, 3, 12), self.embedded(prompt, 6), torch.zeros(3, 3)


def test_a_prompt_is_what_the_pipeline_s_own_encoders_make_of_it():
    pipe = StableDiffusionPipeline(unet(), vae=vae())
    prior = priors.from_pipeline(pipe)
    z = noise(2, 4, 8, 8)
    with torch.no_grad():
        words = pipe.embedded(["a cat"] * 2, 3, 12)
        expected = pipe.unet(z, 299, encoder_hidden_states=words).sample
    cat = prior.given(prompt="a cat")
    torch.testing.assert_close(cat.eps(z, 0.3), expected, rtol=1e-4, atol=1e-5)
    both = prior.given(prompt=["a cat", "a dog"])
    assert (cat.items, both.items) == (None, 2)
    torch.testing.assert_close(both.eps(z, 0.3)[:1], expected[:1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both.eps(z, 0.3)[1], expected[1], atol=1e-4)
    calls = pipe.calls
    prior.given(prompt="a cat").eps(z, 0.3)
    assert pipe.calls == calls  # kept
    assert cat.latent
    assert prior.unbound is not None
    assert cat.unbound is None


def test_guidance_is_classifier_free_against_the_negative_prompt_or_no_text():
    pipe = StableDiffusionPipeline(unet(), vae=vae())
    prior, z = priors.from_pipeline(pipe), noise(2, 4, 8, 8)
    cat, blurry, empty = (prior.given(prompt=text).eps(z, 0.3) for text in ("a cat", "blurry", ""))
    for condition, null, scale in (
        ({"negative_prompt": "blurry", "guidance_scale": 3.0}, blurry, 3.0),
        ({"negative_prompt": "blurry"}, blurry, 7.5),  # the pipeline's own
        ({"guidance_scale": 2.0}, empty, 2.0),
    ):
        guided = prior.given(prompt="a cat", **condition).eps(z, 0.3)
        torch.testing.assert_close(guided, null + scale * (cat - null), rtol=1e-3, atol=1e-4)
    with pytest.raises(iv.InputError, match="need a prompt"):
        prior.given(negative_prompt="blurry")
    with pytest.raises(iv.InputError, match="1 prompts and 2 negative"):
        prior.given(prompt="a cat", negative_prompt=["blurry", ""])


@pytest.mark.parametrize("zeros", [False, True])
def test_stable_diffusion_xl_is_told_pooled_texts_and_sizes(zeros):
    network = unet(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=4 * 6 + 6
    )
    pipe = StableDiffusionXLPipeline(network, vae=vae())
    pipe.config.force_zeros_for_empty_prompt = zeros
    prior, z = priors.from_pipeline(pipe), noise(1, 4, 8, 8)

    def expected(words: Tensor, pooled: Tensor) -> Tensor:
        added = {"text_embeds": pooled, "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]])}
        with torch.no_grad():
            return network(z, 299, encoder_hidden_states=words, added_cond_kwargs=added).sample

    words, pooled = pipe.embedded(["a dog"], 3, 12), pipe.embedded(["a dog"], 6)
    dog = expected(words, pooled)
    torch.testing.assert_close(prior.given(prompt="a dog").eps(z, 0.3), dog, rtol=1e-4, atol=1e-5)
    empty = (pipe.embedded([""], 3, 12), pipe.embedded([""], 6))
    null = expected(*(torch.zeros_like(v) if zeros else v for v in empty))
    guided = prior.given(prompt="a dog", guidance_scale=2.0).eps(z, 0.3)
    torch.testing.assert_close(guided, null + 2 * (dog - null), rtol=1e-3, atol=1e-4)


def test_stable_diffusion_3_and_flux_take_texts():
    shared: dict[str, Any] = {"num_layers": 1, "joint_attention_dim": 12, "pooled_projection_dim": 6}
    three = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, attention_head_dim=8, num_attention_heads=2,
        caption_projection_dim=16, pos_embed_max_size=8, **shared,
    ).eval()  # fmt: skip
    pipe = StableDiffusion3Pipeline(transformer=three, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=vae())
    z = noise(1, 4, 8, 8)
    words, pooled = pipe.embedded(["a cat"], 3, 12), pipe.embedded(["a cat"], 6)
    with torch.no_grad():
        out = three(z, timestep=torch.tensor([250.0]), encoder_hidden_states=words, pooled_projections=pooled).sample
    got = priors.from_pipeline(pipe).given(prompt="a cat").velocity(z, 0.25)
    torch.testing.assert_close(got, out, rtol=1e-4, atol=1e-5)
    flux = diffusers.FluxTransformer2DModel(
        in_channels=16, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, axes_dims_rope=(4, 6, 6),
        guidance_embeds=True, **shared,
    ).eval()  # fmt: skip
    pipe = FluxPipeline(transformer=flux, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=vae())
    prior = priors.from_pipeline(pipe)
    bound = {"encoder_hidden_states": words, "pooled_projections": pooled}
    for given, guidance in (({}, 3.5), ({"guidance_scale": 2.0}, 2.0)):
        told = prior.given(**bound, guidance=guidance).velocity(z, 0.25)
        torch.testing.assert_close(prior.given(prompt="a cat", **given).velocity(z, 0.25), told)
    with pytest.raises(iv.CapabilityError, match="no negative prompt"):
        prior.given(prompt="a cat", negative_prompt="blurry")


def test_restore_takes_a_prompt_and_guidance_composes_with_a_solver():
    prior = priors.from_pipeline(StableDiffusionPipeline(unet(), vae=vae()))
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    common: dict[str, Any] = {"noise": 0.1, "prior": prior, "solver": solvers.NDTM(n_steps=2, n_inner=1)}
    done = restore(image, prompt="a cat", negative_prompt="blurry", **common)
    assert done.record["prior"]["prompt"] == "a cat"
    other = restore(image, prompt="a dog", negative_prompt="blurry", **common)
    assert not torch.equal(done.image.pixels, other.image.pixels)
    with pytest.raises(iv.InputError, match="give --prompt"):
        restore(image, **common)
    samples = iv.restore(image, "denoise", prompt="a cat", samples=3, **common).samples
    assert samples is not None
    assert len(samples) == 3


def restore(image: Tensor, **options: Any) -> Any:
    return iv.restore(image, "denoise", **options)


def clip(folder: Path) -> tuple[Any, Any]:
    """A tokenizer of letters and an untrained text network of CLIP."""
    transformers = pytest.importorskip("transformers")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return transformers.CLIPTokenizer(*files, model_max_length=16), transformers.CLIPTextModel(config).eval()


def clip_pipeline(folder: Path) -> Any:
    """A pipeline of Stable Diffusion with that encoder."""
    tokenizer, encoder = clip(folder)
    return diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=encoder, tokenizer=tokenizer, unet=unet(),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def test_a_real_pipeline_with_the_encoder_of_clip_in_memory_and_from_its_folder(tmp_path):
    pipe = clip_pipeline(tmp_path)
    z, expected = noise(1, 4, 8, 8), {}
    for text in ("a cat", "a dog"):
        ids = pipe.tokenizer(
            [text], padding="max_length", max_length=16, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            expected[text] = pipe.unet(z, 299, encoder_hidden_states=pipe.text_encoder(ids)[0]).sample
    assert not torch.allclose(expected["a cat"], expected["a dog"], atol=1e-4)
    pipe.save_pretrained(tmp_path / "pipeline")
    for prior in (priors.from_pipeline(pipe), priors.load(str(tmp_path / "pipeline"))):
        for text, right in expected.items():
            torch.testing.assert_close(prior.given(prompt=text).eps(z, 0.3), right, rtol=1e-4, atol=1e-5)


def test_text_encoders_of_the_hub_are_downloaded_when_a_prompt_is_given(tmp_path, monkeypatch):
    pipe = clip_pipeline(tmp_path)
    remote, local = tmp_path / "remote", tmp_path / "models--me--it" / "snapshots" / "c0ffee"
    pipe.save_pretrained(remote)

    def snapshot_download(name, *, allow_patterns, ignore_patterns, revision=None, **_):
        assert (name, revision) in (("me/it", None), ("me/it", "c0ffee"))
        for file in remote.rglob("*.*"):
            path = file.relative_to(remote).as_posix()
            matches = [any(fnmatch(path, p) for p in patterns) for patterns in (allow_patterns, ignore_patterns)]
            if file.is_file() and matches == [True, False]:
                (local / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, local / path)
        return str(local)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    prior = priors.load("hf:me/it")
    assert (local / "text_encoder" / "config.json").is_file()
    assert not (local / "text_encoder" / "model.safetensors").exists()
    z = noise(1, 4, 8, 8)
    expected = priors.load(str(remote)).given(prompt="a cat").eps(z, 0.3)
    torch.testing.assert_close(prior.given(prompt="a cat").eps(z, 0.3), expected)
    assert (local / "text_encoder" / "model.safetensors").is_file()
    (remote / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(iv.InputError, match="text_encoder has no weights: add model"):
        priors.load(str(remote)).given(prompt="a dog").eps(z, 0.3)


def test_pipelines_that_cannot_be_used_are_told():
    with pytest.raises(iv.InputError, match="a unet or a transformer"):
        priors.from_pipeline(StableDiffusionPipeline())
    with pytest.raises(iv.InputError, match="load it in float32"):
        priors.from_pipeline(StableDiffusionPipeline(unet().half()))
    with pytest.raises(iv.InputError, match="encoding texts with a object is not supported"):
        Prompts(object).encode(["a cat"], torch.device("cpu"))


def test_texts_are_encoded_where_the_encoders_are_and_taken_to_the_network() -> None:
    class Elsewhere(Stub):
        device = torch.device("meta")

        def encode_prompt(self, prompt: list[str], device: Any, **_: Any) -> tuple[Tensor]:
            assert torch.device(device).type == "meta"
            return (torch.zeros(len(prompt), 3, 12),)

    pipe = type("StableDiffusionElsewhere", (Elsewhere,), {})()
    told = Prompts(lambda: pipe, None).encode(["a cat"], torch.device("cpu"))
    assert {name: value.device.type for name, value in told.items()} == {"encoder_hidden_states": "cpu"}


def test_a_latent_consistency_model_is_told_its_guidance() -> None:
    from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_text2img import (
        LatentConsistencyModelPipeline as Pipeline,
    )

    from invsolve.priors.networks.diffusers import DiffusersNetwork

    network = unet(time_cond_proj_dim=6)
    module, x, words = DiffusersNetwork(network), noise(2, 4, 8, 8), noise(2, 3, 12)
    assert "guidance" in module.needed
    with pytest.raises(iv.InputError, match="guidance"):
        module(x, torch.tensor([5, 5]), encoder_hidden_states=words)
    own = module(x, torch.tensor([5, 5]), encoder_hidden_states=words, guidance=8.5)
    embedded = Pipeline.get_guidance_scale_embedding(None, torch.tensor([7.5, 7.5]), embedding_dim=6)  # pyright: ignore[reportArgumentType]
    theirs = network(x, torch.tensor([5, 5]), words, timestep_cond=embedded, return_dict=False)[0]
    torch.testing.assert_close(own, theirs)


def test_latents_of_movq_are_decoded_as_kandinsky_does() -> None:
    from invsolve.priors.networks.diffusers import Autoencoder

    coder = diffusers.VQModel(
        block_out_channels=(32, 32), latent_channels=4, num_vq_embeddings=16, norm_type="spatial",
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("AttnUpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip
    z = noise(1, 4, 4, 4)
    with torch.no_grad():
        theirs = coder.decode(z, force_not_quantize=True, return_dict=False)[0]
        assert torch.equal(Autoencoder.of(coder).decode(z), theirs)
        assert not torch.equal(coder.decode(z / 0.18215, return_dict=False)[0], theirs)
