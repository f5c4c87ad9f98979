"""The published architectures with random weights, which do not matter for time or memory, and calls of a prior."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from invsolve.core.prior import Prior
from invsolve.priors.networks.adm import ADMUNet
from invsolve.priors.networks.adm_config import ADMConfig

__all__ = ["FFHQ", "IMAGENET", "forward", "gradient", "random_network"]

FFHQ = ADMConfig(128, (1, 1, 2, 2, 4, 4), 1, (False, False, False, False, True, False), size=256)
"""The network of `ffhq256`, 94 million weights."""

IMAGENET = ADMConfig(256, (1, 1, 2, 2, 4, 4), 2, (False, False, False, True, True, True), size=256)
"""The network of `imagenet256`, 553 million weights."""


def random_network(config: ADMConfig, device: torch.device | str = "cpu") -> nn.Module:
    """The network with random weights, none of them zero, scaled so that the outputs stay finite.

    They are drawn on the device.
    """
    with torch.device(device):
        module = ADMUNet(config)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.7 / weight[0].numel() ** 0.5, generator=generator)
    return module.eval().requires_grad_(False)


@torch.no_grad()
def forward(prior: Prior, x: Tensor) -> Tensor:
    """One network call."""
    return prior.denoise(x, 0.3)


def gradient(prior: Prior, x: Tensor) -> Tensor:
    """The input-gradient of one network call."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(prior.denoise(leaf, 0.3).sum(), leaf)[0]
