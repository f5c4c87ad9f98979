"""The problems of the recorded runs in tests/data: the authors' own implementations on 3x16x16 images, float64.

Every normal draw of those runs came from `noise_bank`: draw k of shape S gives row b noise_bank[k, b], flattened, cut
to prod(S[1:]) entries and reshaped.
"""

from __future__ import annotations

from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invsolve import DDPMSchedule, NoiseSource, costs, operators, priors

DATA = Path(__file__).parent / "data"
SHAPE = (3, 16, 16)


@cache
def load(name: str) -> dict[str, Tensor]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


class ConvNetwork(nn.Module):
    """eps and variance logits of a small convolutional network on the DDPM table (module(x, index))."""

    def __init__(self, variance: bool = False) -> None:
        super().__init__()
        data = load("problem")
        for name in ("conv_W1", "conv_b1", "conv_W2", "conv_b2"):
            self.register_parameter(name, nn.Parameter(data[name].double()))
        self.register_buffer("bars", data["alphas_cumprod_f64"])
        self.variance = variance

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        a = self.bars[t][:, None, None, None]
        c = torch.arange(1, 17, dtype=x.dtype)
        h = F.conv2d(x, self.conv_W1, self.conv_b1, padding=1)
        h = h + 0.5 * torch.sin(2 * torch.pi * t[:, None].to(x.dtype) * c / 1000)[:, :, None, None]
        o = F.conv2d(F.silu(h), self.conv_W2, self.conv_b2, padding=1)
        k = (1 - a).sqrt() / (1 - a + 0.25 * a)
        eps = k * x + 0.5 * a.sqrt() * o[:, :3]
        return torch.cat([eps, o[:, 3:]], 1) if self.variance else eps


def prior(variance: bool = False) -> priors.NetworkPrior:
    """The network as a prior in [-1, 1] units."""
    schedule = DDPMSchedule(load("problem")["betas_f64"])
    return priors.NetworkPrior(ConvNetwork(variance), "eps", schedule, (-1.0, 1.0), SHAPE)


def draw(k: int, shape: tuple[int, ...]) -> Tensor:
    """Draw k of a run."""
    bank = load("problem")["noise_bank"].double()
    return torch.stack([bank[k, b].flatten()[: prod(shape[1:])].reshape(shape[1:]) for b in range(shape[0])])


def unit(y: Tensor, operator: operators.Operator) -> Tensor:
    """A measurement recorded in [-1, 1] units, in those of [0, 1]: y = 2 u - A(1)."""
    ones = torch.ones(len(y), *operator.in_shape, dtype=torch.float64)
    return (y.double() + operator(ones)) / 2


def likelihood(operator: operators.Operator, y: Tensor, sigma: float = 0.005) -> costs.GaussianLikelihood:
    return costs.GaussianLikelihood(operator, unit(y.reshape(len(y), *operator.out_shape), operator), sigma)


def bicubic() -> operators.Operator:
    rows = load("problem")["bicubic4_rowmatrix_16"].double()
    return operators.as_operator(lambda x: rows.to(x) @ x @ rows.to(x).T, in_shape=SHAPE, linear=True)


def masked(name: str) -> operators.Operator:
    mask = load("problem")[name].double()
    return operators.Inpainting(SHAPE, mask[:, None] if mask.ndim == 3 else mask[None])


def unknown_blur(kernel_shape: tuple[int, int]) -> operators.Operator:
    """Blur by theta["kernel"] [N, h * w] of an image in [-1, 1] units, which is black beyond its border in those."""
    blur = operators.BlindBlur(SHAPE, kernel_shape, padding="zero")
    example = {"kernel": torch.zeros(kernel_shape[0] * kernel_shape[1])}
    return operators.as_operator(
        lambda x, theta: (blur(2 * x - 1, {"kernel": theta["kernel"].view(-1, *kernel_shape)}) + 1) / 2,
        in_shape=SHAPE,
        theta=example,
    )


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    assert a.shape == b.shape
    assert (a - b.double()).abs().max().item() <= tolerance


def replay(draws: list[Tensor]) -> NoiseSource:
    from invsolve.testing import ReplayRng

    return ReplayRng(draws)
