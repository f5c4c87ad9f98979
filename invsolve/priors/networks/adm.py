"""The U-Net of guided-diffusion (ADM) and its noisy classifier, with exactly the published parameter names.

Dhariwal and Nichol 2021, "Diffusion models beat GANs on image synthesis", arXiv 2105.05233. Images are in [-1, 1];
the network is called with x [N, C, H, W] and the table index [N]. It returns the noise prediction, followed by the
variance logits if it learned them. Weights are frozen here, so there is no dropout and no initialisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from invsolve.core.checks import InputError
from invsolve.priors.networks.adm_config import ADMConfig

__all__ = ["ADMClassifier", "ADMUNet"]


class ADMUNet(nn.Module):
    """The diffusion U-Net: eps(x, index), with 2 C channels if the variance was learned.

    Args:
        config: the architecture, see `adm_config.infer`.

    Attributes:
        n_labels: number of classes, 0 for an unconditional network; the published networks have no null label.
        checkpointing: recompute normalisations and activations in the backward pass instead of storing them.
    """

    def __init__(self, config: ADMConfig) -> None:
        super().__init__()
        self.config, self.n_labels = config, config.n_labels
        self.checkpointing = False
        width = 4 * config.width
        self.time_embed = nn.Sequential(nn.Linear(config.width, width), nn.SiLU(), nn.Linear(width, width))
        if config.n_labels:
            self.label_emb = nn.Embedding(config.n_labels, width)
        self.input_blocks, self.middle_block, channels = _encoder(config)
        here = channels[-1]
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(config.levels)):
            for i in range(config.blocks + 1):
                out = config.channels(level)
                layers: list[nn.Module] = [_ResBlock(config, here + channels.pop(), out)]
                here = out
                if config.attention[level]:
                    layers.append(_Attention(config, here))
                if level and i == config.blocks:
                    layers.append(_ResBlock(config, here, here, "up") if config.residual_resampling else _Up(here))
                self.output_blocks.append(_Stage(layers))
        self.out = nn.Sequential(nn.GroupNorm(32, here), nn.SiLU(), nn.Conv2d(here, config.out_channels, 3, padding=1))

    def forward(self, x: Tensor, index: Tensor, label: Tensor | int | None = None) -> Tensor:
        """The noise prediction (and variance logits).

        Args:
            x: [N, C, H, W] in [-1, 1] units, sides divisible by 2^(levels - 1).
            index: index into the DDPM table, [N].
            label: classes [N], for a class-conditional network.

        Raises:
            InputError: sides that the network cannot halve; a missing label.
        """
        _check_sides(x, self.config)
        emb = self.time_embed(timestep_embedding(index, self.config.width).to(x.dtype))
        if self.n_labels:
            if label is None:
                raise InputError(f"this network needs a class: use prior.given(label=0 ... {self.n_labels - 1})")
            emb = emb + self.label_emb(torch.as_tensor(label, device=x.device).expand(len(x)))
        run = _runner(self.checkpointing)
        h, skips = x, []
        for stage in self.input_blocks:
            h = cast(_Stage, stage)((h,), emb, run)
            skips.append(h)
        h = self.middle_block((h,), emb, run)
        for stage in self.output_blocks:
            h = cast(_Stage, stage)((h, skips.pop()), emb, run)
        return run(self.out, h)


class ADMClassifier(nn.Module):
    """The noisy classifier of the same paper: logits [N, classes] of x_t [N, C, H, W] at a table index [N]."""

    def __init__(self, config: ADMConfig) -> None:
        super().__init__()
        if config.size is None or config.head_channels is None:
            raise InputError("a noisy classifier needs its image size and the channels of its heads")
        self.config = config
        self.checkpointing = False
        width = 4 * config.width
        self.time_embed = nn.Sequential(nn.Linear(config.width, width), nn.SiLU(), nn.Linear(width, width))
        self.input_blocks, self.middle_block, channels = _encoder(config)
        side, here = config.size // 2 ** (config.levels - 1), channels[-1]
        pool = _AttentionPool(here, side, config.head_channels, config.out_channels)
        self.out = nn.Sequential(nn.GroupNorm(32, here), nn.SiLU(), pool)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Logits [N, classes]."""
        _check_sides(x, self.config)
        emb = self.time_embed(timestep_embedding(index, self.config.width).to(x.dtype))
        run, h = _runner(self.checkpointing), x
        for stage in self.input_blocks:
            h = cast(_Stage, stage)((h,), emb, run)
        return run(self.out, self.middle_block((h,), emb, run))


def timestep_embedding(index: Tensor, width: int) -> Tensor:
    """Cosines followed by sines of index * 10000^(-i / (width / 2)); [N, width] in float32."""
    half = width // 2
    rates = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=index.device) / half)
    angles = index[:, None].float() * rates
    return F.pad(torch.cat([angles.cos(), angles.sin()], 1), (0, width % 2))


_Run = Callable[..., Tensor]


def _runner(checkpointing: bool) -> _Run:
    """Return a function that calls a part of the network and stores only its inputs for the backward pass.

    A part ends with its convolution. Recomputation stops as soon as all stored tensors are available, which is before
    the convolution. Only the normalisation and the activation are therefore computed twice.
    """
    if not (checkpointing and torch.is_grad_enabled()):
        return lambda part, *args: part(*args)
    return lambda part, *args: cast(Tensor, checkpoint(part, *args, use_reentrant=False, preserve_rng_state=False))


def _check_sides(x: Tensor, config: ADMConfig) -> None:
    multiple = 2 ** (config.levels - 1)
    if x.ndim != 4 or x.shape[1] != config.in_channels or x.shape[2] % multiple or x.shape[3] % multiple:
        raise InputError(
            f"the network takes [N, {config.in_channels}, H, W] with sides divisible by {multiple}, got {list(x.shape)}"
        )


def _encoder(config: ADMConfig) -> tuple[nn.ModuleList, _Stage, list[int]]:
    """Input blocks, middle block and the channels after each input block."""
    here = config.channels(0)
    blocks = nn.ModuleList([_Stage([nn.Conv2d(config.in_channels, here, 3, padding=1)])])
    channels = [here]
    for level in range(config.levels):
        for _ in range(config.blocks):
            out = config.channels(level)
            layers: list[nn.Module] = [_ResBlock(config, here, out)]
            here = out
            if config.attention[level]:
                layers.append(_Attention(config, here))
            blocks.append(_Stage(layers))
            channels.append(here)
        if level < config.levels - 1:
            down = _ResBlock(config, here, here, "down") if config.residual_resampling else _Down(here)
            blocks.append(_Stage([down]))
            channels.append(here)
    middle = _Stage([_ResBlock(config, here, here), _Attention(config, here), _ResBlock(config, here, here)])
    return blocks, middle, channels


class _Stage(nn.Sequential):
    """Layers in sequence; the first layer concatenates its inputs."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__(*layers)

    def forward(self, parts: tuple[Tensor, ...], emb: Tensor, run: _Run) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        for layer in self:
            if isinstance(layer, _ResBlock):
                h = layer(parts, emb, run)
            elif isinstance(layer, _Attention):
                h = run(layer, *parts)
            else:
                h = layer(*parts)
            parts = (h,)
        return parts[0]


class _ResBlock(nn.Module):
    def __init__(self, config: ADMConfig, here: int, out: int, resample: str | None = None) -> None:
        super().__init__()
        self.resample, self.scale_shift = resample, config.scale_shift
        self.in_layers = nn.Sequential(nn.GroupNorm(32, here), nn.SiLU(), nn.Conv2d(here, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * config.width, (1 + config.scale_shift) * out))
        # The published names count the dropout layer of training.
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if here == out else nn.Conv2d(here, out, 1)

    def forward(self, parts: tuple[Tensor, ...], emb: Tensor, run: _Run) -> Tensor:
        emb = self.emb_layers(emb)[:, :, None, None]
        h = run(self._enter, *parts)
        skip = self._skip if isinstance(self.skip_connection, nn.Identity) else partial(run, self._skip)
        return skip(*parts) + run(self._leave, h, emb)

    def _enter(self, *parts: Tensor) -> Tensor:
        norm, act, conv = self.in_layers
        return conv(self._resampled(act(norm(_cat(parts)))))

    def _leave(self, h: Tensor, emb: Tensor) -> Tensor:
        norm, act, _, conv = self.out_layers
        if not self.scale_shift:
            return conv(act(norm(h + emb)))
        scale, shift = emb.chunk(2, 1)
        return conv(act(torch.addcmul(shift, norm(h), 1 + scale)))

    def _skip(self, *parts: Tensor) -> Tensor:
        return self.skip_connection(self._resampled(_cat(parts)))

    def _resampled(self, h: Tensor) -> Tensor:
        match self.resample:
            case "up":
                return F.interpolate(h, scale_factor=2.0, mode="nearest")
            case "down":
                return F.avg_pool2d(h, 2)
            case _:
                return h


def _cat(parts: tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class _Attention(nn.Module):
    """Self-attention over the pixels."""

    def __init__(self, config: ADMConfig, channels: int) -> None:
        super().__init__()
        self.heads, self.split_first = config.heads_of(channels), config.new_attention_order
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(2)
        h = h + self.proj_out(_attend(self.qkv(self.norm(h)), self.heads, self.split_first))
        return h.view_as(x)


def _attend(qkv: Tensor, heads: int, split_first: bool) -> Tensor:
    """Attention [N, 3 C, L] -> [N, C, L]; rows are (q, k, v) x heads if `split_first`, else heads x (q, k, v)."""
    n, width, length = qkv.shape
    order = (3, heads) if split_first else (heads, 3)
    parts = qkv.view(n, *order, width // (3 * heads), length).transpose(-1, -2)
    q, k, v = parts.unbind(1 if split_first else 2)
    return F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(n, width // 3, length)


class _AttentionPool(nn.Module):
    """Attention pooling of CLIP: the output for the mean of all pixels as query."""

    def __init__(self, channels: int, side: int, head_channels: int, out: int) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.positional_embedding = nn.Parameter(torch.zeros(channels, side * side + 1))
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(2)
        h = torch.cat([h.mean(2, keepdim=True), h], 2) + self.positional_embedding
        return self.c_proj(_attend(self.qkv_proj(h), self.heads, True))[:, :, 0]


class _Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class _Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
