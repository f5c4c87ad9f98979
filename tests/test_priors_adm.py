"""Guided-diffusion networks: the published names and shapes, recorded outputs and gradients, labels and variances."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from adm_files import KEYS, narrow, random_state, shapes_of, tiny

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.priors.networks.adm import ADMClassifier, ADMUNet
from invsolve.priors.networks.adm_config import ADMConfig, infer


@pytest.mark.parametrize("name", ["ffhq", "imagenet256_uncond"])
def test_published_networks_are_built_from_their_names_and_shapes(name):
    with torch.device("meta"):
        built = {key: list(value.shape) for key, value in ADMUNet(infer(KEYS[name])).state_dict().items()}
    assert list(built.items()) == list(KEYS[name].items())
    assert infer(KEYS[name]).size == 256


@pytest.mark.parametrize("checkpointing", [False, True])
def test_output_and_input_gradient_equal_the_recorded_ones(tmp_path, checkpointing):
    weights, run = tiny()
    torch.save(weights, tmp_path / "tiny.pt")
    prior = priors.load(tmp_path / "tiny.pt", head_channels=16, checkpointing=checkpointing)
    x = run["x"].clone().requires_grad_()
    out = prior.module(x, run["t"])
    assert (out - run["out"]).abs().max() < 1e-4
    (grad,) = torch.autograd.grad(out[:, :3].square().sum(), x)
    assert (grad - run["grad_sum_eps_sq"]).abs().max() < 1e-4 * run["grad_sum_eps_sq"].abs().max()
    assert not any(p.requires_grad for p in prior.module.parameters())


def test_the_prior_splits_noise_and_variance_at_the_right_index(tmp_path):
    weights, run = tiny()
    torch.save(weights, tmp_path / "tiny.pt")
    prior = priors.load(tmp_path / "tiny.pt", head_channels=16)
    for i in range(2):
        prediction = prior.predict(run["x"][i : i + 1], (int(run["t"][i]) + 1) / 1000)
        assert (prediction.eps - run["out"][i : i + 1, :3]).abs().max() < 1e-4
        assert (prediction.variance - run["out"][i : i + 1, 3:]).abs().max() < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"n_labels": 5},
        {"residual_resampling": False},
        {"scale_shift": False},
        {"out_channels": 3},
        {"multipliers": (0.5, 1, 2), "attention": (False, True, True), "blocks": 2},
        {"in_channels": 1, "out_channels": 2},
    ],
)
def test_every_variant_is_told_by_its_weights(changes):
    base = {"width": 64, "multipliers": (1, 2), "blocks": 1, "attention": (False, True), "head_channels": 16}
    config = ADMConfig(**{**base, **changes})
    assert infer(shapes_of(config), head_channels=16) == config
    network = ADMUNet(config).eval()
    label = {"label": torch.tensor([1, 4])} if config.n_labels else {}
    x = torch.randn(2, config.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    assert network(x, torch.tensor([3, 900]), **label).shape == (2, config.out_channels, 16, 16)


def test_labels_reach_the_network_and_are_checked(tmp_path):
    shapes = narrow("ffhq", multipliers=(1, 1), attention=(False, True), n_labels=7, size=None)
    torch.save(random_state(shapes), tmp_path / "c.pt")
    prior = priors.load(tmp_path / "c.pt", head_channels=16)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    both = prior.given(label=torch.tensor([2, 6])).denoise(x, 0.5)
    torch.testing.assert_close(prior.given(label=2).denoise(x, 0.5)[0], both[0])
    assert (prior.given(label=2).denoise(x, 0.5)[1] - both[1]).abs().max() > 1e-3
    assert prior.given(label=torch.tensor([2, 6])).items == 2
    own = prior.given(label=torch.tensor([2, 6])).select(torch.tensor([1]))
    torch.testing.assert_close(own.denoise(x[1:], 0.5)[0], both[1])
    with pytest.raises(iv.InputError, match="needs a class"):
        prior.denoise(x, 0.5)
    with pytest.raises(iv.InputError, match="0 to 6"):
        prior.given(label=7)
    with pytest.raises(iv.CapabilityError, match="takes no argument prompt"):
        prior.given(prompt="a face")


def test_a_network_that_was_taught_no_class_has_a_label_for_it(tmp_path):
    shapes = narrow("ffhq", multipliers=(1, 1), attention=(False, False), n_labels=4, size=None)
    torch.save(random_state(shapes), tmp_path / "net.pt")
    prior: Any = priors.load(tmp_path / "net.pt", head_channels=16, null=3)
    assert (prior.n_classes, prior.null) == (3, 3)
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prior.eps(x, 0.3), priors.load(tmp_path / "net.pt", head_channels=16).given(label=3).eps(x, 0.3))
    assert not torch.equal(prior.eps(x, 0.3), prior.given(label=2).eps(x, 0.3))


def test_attention_orders_agree_after_permuting_the_rows_of_qkv():
    config = ADMConfig(32, (1,), 1, (True,), head_channels=16, residual_resampling=False)
    old, new = ADMUNet(config), ADMUNet(ADMConfig(**{**vars(config), "new_attention_order": True}))
    state = random_state(shapes_of(config))
    old.load_state_dict(state)
    for name, value in state.items():
        if ".qkv." in name:  # heads x (q, k, v) -> (q, k, v) x heads
            state[name] = value.view(2, 3, 16, *value.shape[1:]).transpose(0, 1).reshape(value.shape)
    new.load_state_dict(state)
    x, index = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    torch.testing.assert_close(old(x, index), new(x, index))


def test_noisy_classifiers_load_and_judge_noisy_images(tmp_path):
    config = ADMConfig(32, (1, 2), 2, (False, True), out_channels=10, head_channels=16, size=16)
    with torch.device("meta"):
        shapes = {name: list(tensor.shape) for name, tensor in ADMClassifier(config).state_dict().items()}
    torch.save(random_state(shapes), tmp_path / "classifier.pt")
    classifier = priors.load_classifier(tmp_path / "classifier.pt", head_channels=16)
    assert classifier.config == config
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = classifier(x, torch.tensor([10, 500, 999]))
    assert logits.shape == (3, 10)
    (grad,) = torch.autograd.grad(logits.log_softmax(1)[:, 4].sum(), x)
    assert (grad.flatten(1).norm(dim=1) > 0).all()
    with pytest.raises(iv.InputError, match="load_classifier"):
        priors.load(tmp_path / "classifier.pt")


def test_a_network_states_its_size_and_refuses_others(tmp_path):
    torch.save(random_state(narrow("ffhq")), tmp_path / "ffhq.pt")
    prior = priors.load(tmp_path / "ffhq.pt", head_channels=16)
    assert prior.shape == (3, 256, 256)
    operator = operators.Denoising((3, 128, 128))
    cost = costs.GaussianLikelihood(operator, torch.zeros(1, 3, 128, 128), 0.1)
    with pytest.raises(iv.InputError, match=r"\[3, 256, 256\].*\[3, 128, 128\]"):
        iv.solve(iv.Problem(prior, cost), solvers.DPS(n_steps=2))
    with pytest.raises(iv.InputError, match="divisible by 32"):
        prior.denoise(torch.zeros(1, 3, 40, 40), 0.5)


def test_the_published_64_network_has_its_own_schedule_and_attention(tmp_path):
    config = ADMConfig(192, (1, 2, 3, 4), 1, (False, True, True, True), n_labels=1000)
    assert infer(shapes_of(config)).new_attention_order
    assert infer(shapes_of(ADMConfig(64, (1, 1, 2, 3, 4), 1, (False,) * 5))).heads == 4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width"), [("ffhq", 128), ("imagenet256_uncond", 256)])
def test_full_size_networks_load_from_files_with_the_published_names(tmp_path, name, width):
    path: Path = tmp_path / f"{name}.pt"
    torch.save(random_state(KEYS[name]), path)
    script = (
        "import resource, sys\nfrom invsolve import priors\nimport invsolve.priors.loading.files\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); priors.load(sys.argv[1]); print(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 0.3 * path.stat().st_size  # mapped: not even read
    prior = priors.load(path)
    assert prior.module.config.width == width
    assert prior.predict(torch.zeros(1, 3, 64, 64), 0.5).eps.shape == (1, 3, 64, 64)


@pytest.mark.slow
def test_the_full_ffhq_network_makes_a_step_of_ndtm(tmp_path):
    torch.save(random_state(KEYS["ffhq"]), tmp_path / "ffhq.pt")
    prior = priors.load(tmp_path / "ffhq.pt", checkpointing=True)
    operator = operators.SuperResolution((3, 256, 256), 4)
    cost = costs.GaussianLikelihood(operator, torch.full((1, 3, 64, 64), 0.5), 0.01)
    result = iv.solve(iv.Problem(prior, cost), solvers.NDTM(n_steps=1, n_inner=1))
    assert result.ok
    assert result.samples.shape == (1, 1, 3, 256, 256)


def test_a_schedule_without_a_table_is_refused(tmp_path):
    torch.save(tiny()[0], tmp_path / "tiny.pt")
    for schedule in (iv.CosineSchedule(), iv.VPSchedule()):
        with pytest.raises(iv.InputError, match="takes an index into a table"):
            priors.load(tmp_path / "tiny.pt", head_channels=16, schedule=schedule)
