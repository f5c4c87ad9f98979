"""The denoiser network: preconditioning, sizes, independence and its weight file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from invsolve.core.checks import InputError
from invsolve.priors.networks.unet import Denoiser, load_denoiser, save_denoiser, self_ensemble
from invsolve.priors.networks.unet_config import DenoiserConfig

TINY = DenoiserConfig(channels=(8, 12), blocks=(1, 1), embedding=8)


def random_denoiser(seed: int = 0, config: DenoiserConfig = TINY) -> Denoiser:
    """A tiny denoiser whose every weight is random, so that no path is switched off by a zero start."""
    generator = torch.Generator().manual_seed(seed)
    denoiser = Denoiser(config).eval().requires_grad_(False)
    for p in denoiser.parameters():
        p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return denoiser


def test_preconditioning_gives_the_exact_posterior_mean_of_gaussian_data() -> None:
    # For x0 ~ N(m, s^2) with s = sigma_data, the optimal F at each sigma is the constant (m - c_skip m) / c_out.
    denoiser = Denoiser(TINY).eval()
    generator = torch.Generator().manual_seed(0)
    sigma = torch.tensor([0.005, 0.1, 0.5, 3.0, 80.0])
    x = torch.randn(5, 3, 8, 8, generator=generator) * (0.25 + sigma.square()).sqrt()[:, None, None, None]
    gain = 0.25 / (0.25 + sigma.square())
    torch.testing.assert_close(denoiser(x, sigma), gain[:, None, None, None] * x, rtol=1e-5, atol=1e-6)

    mean = 0.3
    c_skip, c_out, _, _ = denoiser.preconditioning(sigma)
    for i in range(5):
        with torch.no_grad():
            constant = (mean - c_skip[i] * mean) / c_out[i]
            torch.nn.init.constant_(denoiser.get_parameter("tail.bias"), float(constant))
            expected = mean + gain[i] * (x[i : i + 1] - mean)
            torch.testing.assert_close(denoiser(x[i : i + 1], sigma[i]), expected, rtol=1e-5, atol=1e-5)


def test_preconditioned_input_and_target_have_unit_variance() -> None:
    sigma = torch.logspace(-2.3, 1.9, 20, dtype=torch.float64)
    c_skip, c_out, c_in, _ = Denoiser(TINY).preconditioning(sigma)
    torch.testing.assert_close(c_in.square() * (0.25 + sigma.square()), torch.ones_like(sigma))
    target_variance = ((1 - c_skip).square() * 0.25 + c_skip.square() * sigma.square()) / c_out.square()
    torch.testing.assert_close(target_variance, torch.ones_like(sigma))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (5, 4), (16, 16), (37, 53)])
def test_serves_any_size(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    out = random_denoiser()(x, torch.tensor(0.3))
    assert out.shape == x.shape
    assert out.dtype == torch.float32
    assert out.isfinite().all()


def test_an_image_does_not_depend_on_its_batch() -> None:
    denoiser = random_denoiser()
    x = torch.randn(3, 3, 20, 12, generator=torch.Generator().manual_seed(2))
    sigma = torch.tensor([0.01, 0.5, 40.0])
    together = denoiser(x, sigma)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], denoiser(x[i : i + 1], sigma[i]), rtol=1e-5, atol=1e-5)


def test_the_noise_level_reaches_the_network() -> None:
    z = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    denoiser = random_denoiser()
    low, high = (denoiser.network(z, torch.tensor([c])) for c in (-0.8, 0.2))
    assert (low - high).abs().max() > 1e-4


def test_self_ensemble_is_equivariant_and_the_plain_network_is_not() -> None:
    denoiser = random_denoiser()
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    sigma = torch.tensor(0.3)
    averaged = self_ensemble(denoiser)
    for turn in (lambda t: t.flip(-1), lambda t: t.rot90(1, (-2, -1)), lambda t: t.flip(-2)):
        torch.testing.assert_close(averaged(turn(x), sigma), turn(averaged(x, sigma)), rtol=1e-4, atol=1e-5)
    assert (denoiser(x.flip(-1), sigma) - denoiser(x, sigma).flip(-1)).abs().max() > 1e-4


def test_bfloat16_autocast_keeps_noise_below_its_own_rounding() -> None:
    # bfloat16 rounds values near 1 to steps of 2^-8. Filters of zero mean see only the noise of std 0.004 around 0.9,
    # and rounding the input first would change it by about a third. (The rounded filters' means are taken out of the
    # comparison.)
    denoiser = random_denoiser()
    denoiser.head.weight -= denoiser.head.weight.mean(dim=(1, 2, 3), keepdim=True)
    denoiser.get_parameter("head.bias").zero_()
    features: list[torch.Tensor] = []
    denoiser.encoder[0].register_forward_pre_hook(lambda _, args: features.append(args[0][..., 1:-1, 1:-1].float()))
    z = 0.9 + 0.004 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    denoiser.network(z, torch.zeros(1))
    with torch.autocast("cpu", torch.bfloat16):
        denoiser.network(z, torch.zeros(1))
    denoiser.network(z.bfloat16().float(), torch.zeros(1))
    exact, inside, rounded = (f - f.mean((-2, -1), keepdim=True) for f in features)
    assert (inside - exact).norm() < 0.02 * exact.norm()
    assert (rounded - exact).norm() > 0.1 * exact.norm()


def test_saved_weights_load_frozen_and_equal(tmp_path: Path) -> None:
    denoiser = random_denoiser()
    save_denoiser(denoiser, tmp_path / "w.safetensors", dtype=torch.float32, notes={"step": "7"})
    loaded = load_denoiser(tmp_path / "w.safetensors")
    assert loaded.config == TINY
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    x = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(6))
    assert torch.equal(loaded(x, torch.tensor(0.2)), denoiser(x, torch.tensor(0.2)))
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_loading_names_missing_extra_and_misshapen_keys(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_denoiser(random_denoiser(), path)
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(str(path))
    changed = {k: v for k, v in tensors.items() if k != "head.bias"} | {"surplus": torch.zeros(1)}
    save_file(changed, str(path), metadata=metadata)
    with pytest.raises(ValueError, match=r"missing head.bias; unexpected surplus"):
        load_denoiser(path)
    save_file(tensors | {"head.bias": torch.zeros(5)}, str(path), metadata=metadata)
    with pytest.raises(ValueError, match=r"head.bias is \[5\], \[8\] expected"):
        load_denoiser(path)
    save_file(tensors, str(path))
    with pytest.raises(ValueError, match="save_denoiser"):
        load_denoiser(path)
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"neither|not a weight file"):
        load_denoiser(path)
    with pytest.raises(InputError, match="there is no weight file"):
        load_denoiser(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("x", "sigma"),
    [((3, 8, 8), ()), ((1, 1, 8, 8), ()), ((2, 3, 8, 8), (3,)), ((2, 3, 8, 8), (2, 1))],
)
def test_wrong_shapes_are_refused(x: tuple[int, ...], sigma: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        random_denoiser()(torch.zeros(x), torch.ones(sigma))


def test_wrong_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        DenoiserConfig(channels=(8,), blocks=(1, 1))
    with pytest.raises(ValueError, match="whole number"):
        DenoiserConfig(channels=(0,), blocks=(1,))
    assert DenoiserConfig.from_json(TINY.to_json()) == TINY
