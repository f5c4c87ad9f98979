"""Networks and autoencoders of the diffusers library, with one call signature for all classes."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invsolve.core.checks import InputError

__all__ = ["Autoencoder", "DiffusersNetwork", "FirstHalf", "PackedNetwork"]

NEEDED = {
    "UNet2DConditionModel": ("encoder_hidden_states",),
    "SD3Transformer2DModel": ("encoder_hidden_states", "pooled_projections"),
    "FluxTransformer2DModel": ("encoder_hidden_states", "pooled_projections"),
}
"""The required conditions of each class: embeddings of a prompt."""


class DiffusersNetwork(nn.Module):
    """A network of diffusers with a uniform call: module(x, c, label=None, **conditions).

    Args:
        network: a network of one of the classes in `invsolve.priors.loading.diffusers.NETWORKS`.
        scale: c is multiplied by this.
        score: whether it predicts the score of x = x0 + sigma n, which gives x0 = x + sigma^2 score.
    """

    def __init__(self, network: Any, scale: float = 1.0, score: bool = False) -> None:
        super().__init__()
        self.network, self.scale, self.score = network, scale, score
        kind = type(network).__name__
        self.first = "hidden_states" if "Transformer" in kind else "sample"
        self.needed = NEEDED.get(kind, ())
        own = {"self", self.first, "timestep", "return_dict", "class_labels"}
        # Stable Diffusion XL: a pooled embedding and the image size, passed in one argument.
        self.added = ("text_embeds", "time_ids") if network.config.get("addition_embed_type") == "text_time" else ()
        self.needed = (*self.needed, *self.added)
        # Latent consistency models: distilled with a guidance scale, which is a condition.
        self.scale_width = network.config.get("time_cond_proj_dim")
        if self.scale_width:
            own.add("timestep_cond")
            self.needed = (*self.needed, "guidance")
        self.conditions = (
            "label",
            *(("guidance",) if self.scale_width else ()),
            *(name for name in inspect.signature(network.forward).parameters if name not in own),
            *self.added,
        )

    def forward(self, x: Tensor, c: Tensor, label: Tensor | int | None = None, **conditions: Any) -> Tensor:
        """The output of the network; twice the channels if it learned a variance.

        Raises:
            InputError: required embeddings are missing.
        """
        missing = [name for name in self.needed if name not in conditions]
        if missing:
            names = ", ".join(f"{name}=..." for name in missing)
            raise InputError(f"{type(self.network).__name__} needs embeddings of a prompt: use prior.given({names})")
        if label is not None:
            conditions["class_labels"] = torch.as_tensor(label, device=x.device).expand(len(x))
        if self.scale_width:
            guidance = torch.as_tensor(conditions.pop("guidance"), dtype=x.dtype, device=x.device).expand(len(x))
            conditions["timestep_cond"] = _waves(1000 * (guidance - 1), self.scale_width)
        if self.added:
            conditions["added_cond_kwargs"] = {name: conditions.pop(name) for name in self.added}
        out = self._called(x, c * self.scale if self.scale != 1.0 else c, conditions)
        return x + c.square()[:, None, None, None] * out if self.score else out

    def _called(self, x: Tensor, time: Tensor, conditions: dict[str, Any]) -> Tensor:
        return self.network(**{self.first: x}, timestep=time, return_dict=False, **conditions)[0]

    @property
    def checkpointing(self) -> bool:
        """Whether the network recomputes its blocks in the backward pass."""
        return bool(self.network.is_gradient_checkpointing)

    @checkpointing.setter
    def checkpointing(self, on: bool) -> None:
        (self.network.enable_gradient_checkpointing if on else self.network.disable_gradient_checkpointing)()


def _waves(values: Tensor, width: int) -> Tensor:
    """Sines and cosines of numbers [N], [N, width]: the guidance scale embedding of latent consistency models."""
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=values.dtype, device=values.device) * (-math.log(1e4) / (half - 1)))
    angles = values[:, None] * rates
    return F.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width - 2 * half))


class PackedNetwork(DiffusersNetwork):
    """A transformer whose tokens are squares of 2 x 2 latents, with their positions as a second input: FLUX.

    Its conditions are the two embeddings, and `guidance` (a number, or one per image) if it was distilled with a
    guidance scale. It works with every even size.
    """

    def __init__(self, network: Any) -> None:
        # The network itself multiplies the time by 1000.
        super().__init__(network, 1.0)
        self.guided = bool(network.config.guidance_embeds)
        places = {"img_ids", "txt_ids"} | (set() if self.guided else {"guidance"})
        self.conditions = tuple(name for name in self.conditions if name not in {"label", *places})
        self.needed = (*self.needed, "guidance") if self.guided else self.needed

    def _called(self, x: Tensor, time: Tensor, conditions: dict[str, Any]) -> Tensor:
        height, width = x.shape[-2:]
        if height % 2 or width % 2:
            raise InputError(f"latents with even sides expected, got {height} x {width}")
        rows, columns = torch.meshgrid(*(torch.arange(n // 2, device=x.device) for n in (height, width)), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], -1).flatten(0, 1).to(x.dtype)
        if self.guided:
            guidance = torch.as_tensor(conditions["guidance"], dtype=x.dtype, device=x.device)
            conditions = {**conditions, "guidance": guidance.expand(len(x))}
        words = x.new_zeros(conditions["encoder_hidden_states"].shape[1], 3)
        tokens = F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)
        out = super()._called(tokens, time, {**conditions, "img_ids": places, "txt_ids": words})
        return F.pixel_shuffle(out.transpose(1, 2).unflatten(2, (height // 2, width // 2)), 2)


class FirstHalf(nn.Module):
    """Drop the second half of the output channels: a variance that is not a position between two bounds."""

    def __init__(self, network: DiffusersNetwork) -> None:
        super().__init__()
        self.network, self.conditions = network, network.conditions

    def forward(self, x: Tensor, c: Tensor, **conditions: Any) -> Tensor:
        """The prediction, with the shape of the input."""
        return self.network(x, c, **conditions)[:, : x.shape[1]]


class Autoencoder:
    """Encoding and decoding with a diffusers autoencoder: latents are scale (raw - shift).

    Args:
        coder: the diffusers autoencoder.
        scale, shift: numbers, or one per channel [C, 1, 1].
        quantised: whether latents pass through the codebook, if the autoencoder has one.
    """

    def __init__(
        self, coder: Any, scale: float | Tensor = 1.0, shift: float | Tensor = 0.0, *, quantised: bool = True
    ) -> None:
        self.coder, self.scale, self.shift = coder, scale, shift
        self.options: dict[str, Any] = {} if quantised else {"force_not_quantize": True}
        widths = coder.config.get("block_out_channels") or coder.config["encoder_block_out_channels"]
        self.factor = 2 ** (len(widths) - 1)
        """Side of the square of pixels that one latent represents."""

    @classmethod
    def of(cls, coder: Any) -> Autoencoder:
        """Wrap an autoencoder with the scale and shift from its own configuration.

        Latents are scaling_factor (raw - shift_factor); with statistics per channel,
        scaling_factor (raw - latents_mean) / latents_std.
        """
        known = coder.config
        if known.get("norm_type") == "spatial":  # MoVQ of Kandinsky: latents are neither scaled nor quantised
            return cls(coder, quantised=False)
        scale, mean, std = (known.get(name) for name in ("scaling_factor", "latents_mean", "latents_std"))
        scale = 1.0 if scale is None else float(scale)
        if mean is None or std is None:
            return cls(coder, scale, float(known.get("shift_factor") or 0.0))
        mean, std = (torch.tensor(v, dtype=coder.dtype, device=coder.device).reshape(-1, 1, 1) for v in (mean, std))
        return cls(coder, scale / std, mean)

    def decode(self, z: Tensor) -> Tensor:
        """Map latents to images."""
        return self.coder.decode(z / self.scale + self.shift, return_dict=False, **self.options)[0]

    def encode(self, x: Tensor) -> Tensor:
        """Map images to latents: the mean of the encoder's distribution."""
        out = self.coder.encode(x, return_dict=False)[0]
        z = out if isinstance(out, Tensor) else out.mode()
        return (z - self.shift) * self.scale
