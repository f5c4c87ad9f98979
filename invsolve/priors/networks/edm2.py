"""The network of EDM2, whose layers preserve the magnitude of their input.

Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", arXiv 2312.02696; numbers of
equations and figures below refer to this paper. Weights have the published names. They must have unit magnitude, which
`normalised` ensures once, when a published file is converted. Normalisation in each call, as in training, would give
the same network but run more slowly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invsolve.core.checks import InputError

__all__ = ["EDM2", "EDM2Config", "mp_cat", "mp_silu", "mp_sum", "normalised", "pixel_norm"]

EPSILON = 1e-4
SILU_MAGNITUDE = 0.596
"""Root mean square of silu(n) for a standard normal n."""


def normalised(weight: Tensor) -> Tensor:
    """Divide the weights of each output by their norm, so that a layer preserves magnitudes (eq. 47).

    w_i / (|w_i| + EPSILON sqrt(N)) for the N weights w_i of output i, in float32.
    """
    rows = weight.float().flatten(1)
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True) + EPSILON * math.sqrt(rows.shape[1])
    return (rows / norm).view(weight.shape)


def pixel_norm(x: Tensor, dim: int = 1) -> Tensor:
    """x divided by its root mean square over a dimension (eq. 30)."""
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
    return x / (norm / math.sqrt(x.shape[dim]) + EPSILON).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """silu(x) at the magnitude of x (eq. 81)."""
    return F.silu(x) / SILU_MAGNITUDE


def mp_sum(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """((1 - t) a + t b) / sqrt((1 - t)^2 + t^2) (eq. 88)."""
    norm = math.hypot(1 - t, t)
    return torch.add((1 - t) / norm * a, b, alpha=t / norm)


def mp_cat(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """Concatenate a and b along the channels, with shares 1 - t and t of the magnitude (eq. 103)."""
    n_a, n_b = a.shape[1], b.shape[1]
    scale = math.sqrt((n_a + n_b) / ((1 - t) ** 2 + t**2))
    return torch.cat([scale * (1 - t) / math.sqrt(n_a) * a, scale * t / math.sqrt(n_b) * b], 1)


_LEFT = {"dropout", "use_fp16", "sigma_data", "resample_filter"}


@dataclass(frozen=True)
class EDM2Config:
    """Architecture, with the argument names of the published files.

    Args:
        img_resolution, img_channels: side and channels of the images or latents.
        label_dim: number of classes, 0 for none.
        model_channels, channel_mult: their products are the channels at each resolution.
        channel_mult_noise, channel_mult_emb: multipliers of the two embeddings; if None, the first and the largest of
            `channel_mult`.
        num_blocks: blocks at each resolution.
        attn_resolutions: resolutions with attention, in addition to the first block of the decoder.
        label_balance, concat_balance, res_balance, attn_balance: the parameter t of `mp_sum` and `mp_cat`.
        channels_per_head: channels per attention head.
        clip_act: limit of activations; no limit if None.
        logvar_channels: width of the head that estimates the uncertainty; 0 if there is no such head.
    """

    img_resolution: int
    img_channels: int
    label_dim: int = 0
    model_channels: int = 192
    channel_mult: Sequence[int] = (1, 2, 3, 4)
    channel_mult_noise: int | None = None
    channel_mult_emb: int | None = None
    num_blocks: int = 3
    attn_resolutions: Sequence[int] = (16, 8)
    label_balance: float = 0.5
    concat_balance: float = 0.5
    res_balance: float = 0.3
    attn_balance: float = 0.3
    channels_per_head: int = 64
    clip_act: float | None = 256
    logvar_channels: int = 0

    @staticmethod
    def read(settings: Mapping[str, Any]) -> EDM2Config:
        """Make a configuration from the arguments of a published network; arguments only used in training are ignored.

        Raises:
            InputError: an unknown argument, or a resampling filter that differs from the published networks.
        """
        if list(settings.get("resample_filter", (1, 1))) != [1, 1]:
            raise InputError(f"EDM2 networks are resampled by [1, 1], got {settings['resample_filter']}")
        names = {field.name for field in fields(EDM2Config)}
        unknown = sorted(settings.keys() - names - _LEFT)
        if unknown:
            raise InputError(f"the EDM2 network has unknown arguments {', '.join(unknown)}")
        return EDM2Config(**{name: value for name, value in settings.items() if name in names})


class MPFourier(nn.Module):
    """sqrt(2) cos(f_i c + p_i) with fixed random f and p (eq. 75)."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.zeros(channels))
        self.register_buffer("phases", torch.zeros(channels))

    def forward(self, c: Tensor) -> Tensor:
        return math.sqrt(2) * torch.cos(torch.outer(c, self.freqs.to(c.dtype)) + self.phases.to(c.dtype))


class MPConv(nn.Module):
    """A linear layer or convolution without bias and with weights of unit magnitude (see `normalised`)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 0) -> None:
        super().__init__()
        self.channels_out = channels_out
        self.weight = nn.Parameter(torch.zeros(channels_out, channels_in, *([kernel] * 2 if kernel else [])))

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 2:
            return F.linear(x, self.weight)
        return F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)


class Block(nn.Module):
    """A residual block with a gain from the noise level and optional attention (fig. 21).

    Args:
        channels_in, channels_out, embedding: widths.
        config: configuration of the whole network.
        decoder: whether the block is part of the decoder.
        resample: "down" (mean of 2 x 2), "up" (each pixel repeated four times) or "".
        attention: whether the block ends with attention.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        embedding: int,
        config: EDM2Config,
        *,
        decoder: bool = False,
        resample: str = "",
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.channels_out, self.decoder, self.resample, self.config = channels_out, decoder, resample, config
        self.heads = channels_out // config.channels_per_head if attention else 0
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = MPConv(channels_in if decoder else channels_out, channels_out, 3)
        self.emb_linear = MPConv(embedding, channels_out)
        self.conv_res1 = MPConv(channels_out, channels_out, 3)
        self.conv_skip = MPConv(channels_in, channels_out, 1) if channels_in != channels_out else None
        self.attn_qkv = MPConv(channels_out, 3 * channels_out, 1) if self.heads else None
        self.attn_proj = MPConv(channels_out, channels_out, 1) if self.heads else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        if self.resample == "down":
            x = F.avg_pool2d(x, 2)
        elif self.resample == "up":
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        if not self.decoder:
            x = pixel_norm(x if self.conv_skip is None else self.conv_skip(x))
        gain = self.emb_linear(emb) * self.emb_gain + 1
        y = self.conv_res0(mp_silu(x))
        y = self.conv_res1(mp_silu(y * gain[:, :, None, None].to(y.dtype)))
        if self.decoder and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = mp_sum(x, y, self.config.res_balance)
        if self.heads:
            x = mp_sum(x, self._attention(x), self.config.attn_balance)
        limit = self.config.clip_act
        return x if limit is None else x.clamp(-limit, limit)

    def _attention(self, x: Tensor) -> Tensor:
        """Cosine attention: queries, keys and values are normalised (eq. 34)."""
        assert self.attn_qkv is not None
        assert self.attn_proj is not None
        parts = self.attn_qkv(x).reshape(len(x), self.heads, -1, 3, x.shape[-2] * x.shape[-1])
        q, k, v = (part.transpose(2, 3) for part in pixel_norm(parts, 2).unbind(3))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.attn_proj(out.transpose(2, 3).reshape(x.shape))


class UNet(nn.Module):
    """F(z [N, C, H, W], c_noise [N], one-hot labels [N, classes] or None) (fig. 21)."""

    def __init__(self, config: EDM2Config) -> None:
        super().__init__()
        self.config = config
        widths = [config.model_channels * m for m in config.channel_mult]
        noise = widths[0] if config.channel_mult_noise is None else config.model_channels * config.channel_mult_noise
        emb = max(widths) if config.channel_mult_emb is None else config.model_channels * config.channel_mult_emb
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier, self.emb_noise = MPFourier(noise), MPConv(noise, emb)
        self.emb_label = MPConv(config.label_dim, emb) if config.label_dim else None
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        width = widths[0]
        skips = [width]
        sides = [config.img_resolution >> level for level in range(len(widths))]
        for level, (side, own) in enumerate(zip(sides, widths, strict=True)):
            if level == 0:
                # One extra channel: a constant, in place of biases.
                self.enc[f"{side}x{side}_conv"] = MPConv(config.img_channels + 1, width, 3)
            else:
                self.enc[f"{side}x{side}_down"] = Block(width, width, emb, config, resample="down")
                skips.append(width)
            for i in range(config.num_blocks):
                attention = side in config.attn_resolutions
                self.enc[f"{side}x{side}_block{i}"] = Block(width, own, emb, config, attention=attention)
                width = own
                skips.append(width)
        for level, (side, own) in reversed(list(enumerate(zip(sides, widths, strict=True)))):
            if level == len(widths) - 1:
                self.dec[f"{side}x{side}_in0"] = Block(width, width, emb, config, decoder=True, attention=True)
                self.dec[f"{side}x{side}_in1"] = Block(width, width, emb, config, decoder=True)
            else:
                self.dec[f"{side}x{side}_up"] = Block(width, width, emb, config, decoder=True, resample="up")
            for i in range(config.num_blocks + 1):
                attention = side in config.attn_resolutions
                joined = width + skips.pop()
                self.dec[f"{side}x{side}_block{i}"] = Block(joined, own, emb, config, decoder=True, attention=attention)
                width = own
        self.out_conv = MPConv(width, config.img_channels, 3)

    def forward(self, z: Tensor, c_noise: Tensor, labels: Tensor | None = None) -> Tensor:
        emb = self.emb_noise(self.emb_fourier(c_noise))
        if self.emb_label is not None:
            assert labels is not None
            emb = mp_sum(emb, self.emb_label(labels * math.sqrt(labels.shape[1])), self.config.label_balance)
        emb = mp_silu(emb)
        x = torch.cat([z, torch.ones_like(z[:, :1])], 1)
        skips = []
        for block in self.enc.values():
            x = block(x, emb) if isinstance(block, Block) else block(x)
            skips.append(x)
        for name, block in self.dec.items():
            x = block(mp_cat(x, skips.pop(), self.config.concat_balance) if "_block" in name else x, emb)
        return self.out_conv(x) * self.out_gain


class EDM2(nn.Module):
    """A `UNet` with the names of the published files, and the head that estimates the uncertainty if there is one.

    Args:
        config: the architecture.
    """

    def __init__(self, config: EDM2Config) -> None:
        super().__init__()
        self.unet = UNet(config)
        n = config.logvar_channels
        self.logvar_fourier = MPFourier(n) if n else None
        self.logvar_linear = MPConv(n, 1) if n else None

    def forward(self, z: Tensor, c_noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compute F, see `UNet`."""
        return self.unet(z, c_noise, labels)

    def logvar(self, sigma: Tensor) -> Tensor:
        """u(sigma), [N]: the logarithm of the squared error that the network expects at sigma [N] (eq. 21).

        Raises:
            InputError: the network has no such head.
        """
        if self.logvar_fourier is None or self.logvar_linear is None:
            raise InputError("this network has no head that estimates its uncertainty")
        return self.logvar_linear(self.logvar_fourier(sigma.log() / 4))[:, 0]
