"""A residual U-Net denoiser without normalisation layers, which works at half resolution and accepts any image size.

`D(x; sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, sigma)` estimates `E[x0 | x]` for `x = x0 + sigma n`
(Karras et al. 2022, "Elucidating the design space of diffusion-based generative models", arXiv:2206.00364, table 1).
`F` follows the practice of image denoisers: a pixel-unshuffle by 2, plain residual blocks without normalisation,
additive skips, the noise level as input to every stage (FFDNet, Zhang et al. 2018, arXiv:1710.04026; DRUNet, Zhang et
al. 2021, arXiv:2008.13751). Without normalisation layers an image never depends on its batch or on the statistics of
distant pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invsolve.core.boundary import foreign
from invsolve.core.checks import InputError
from invsolve.priors.loading.weights import blank, fill, read_weights, save_weights
from invsolve.priors.networks.packed import PackedConv2d, packs
from invsolve.priors.networks.unet_config import DenoiserConfig

__all__ = ["FORMAT", "Denoiser", "load_denoiser", "save_denoiser", "self_ensemble"]

FORMAT = "invsolve-denoiser-1"


class _Block(nn.Module):
    """Residual block `h + conv(relu(conv(h)))`. The second starts at zero, so the block starts as identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = PackedConv2d(channels, channels, 3, padding=1)
        self.conv2 = PackedConv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, h: Tensor) -> Tensor:
        return h + self.conv2(F.relu(self.conv1(h), inplace=True))

    def fused(self, h: Tensor) -> Tensor:
        """`forward`, computed in place in h."""
        return self.conv2.add_to(h, self.conv1.relu(h))


class _Stage(nn.Module):
    """A gain and a shift per channel that depend on the noise level, followed by residual blocks."""

    def __init__(self, channels: int, blocks: int, embedding: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(embedding, 2 * channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.blocks = nn.Sequential(*(_Block(channels) for _ in range(blocks)))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        gain, shift = self.modulation(emb).to(h.dtype)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(h + shift, h, gain)
        for block in cast("list[_Block]", list(self.blocks)):
            h = block.fused(h) if packs(h, block.conv1) else block(h)
        return h


class NoiseEmbedding(nn.Module):
    """Embed `log(sigma) / 4` by fixed Gaussian bumps, for `sigma` in about [0.002, 200], and one hidden layer."""

    centres: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        centres = torch.linspace(-1.6, 1.4, 32, device="cpu")  # real values even on the meta device
        self.register_buffer("centres", centres, persistent=False)
        self.hidden = nn.Linear(32, width)

    def forward(self, c_noise: Tensor) -> Tensor:
        bumps = torch.exp(-0.5 * ((c_noise[:, None] - self.centres) / 0.15).square())
        return F.silu(self.hidden(bumps))


class Denoiser(nn.Module):
    """Denoiser `D(x; sigma) = E[x0 | x]` for `x = x0 + sigma n`, with EDM preconditioning inside.

    Any height and width works: the image is padded by reflection (replication if it is too small to reflect) to a
    multiple of `config.multiple` and cropped again. Input and output are float32; a caller may wrap the call in
    autocast.
    """

    def __init__(self, config: DenoiserConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DenoiserConfig()
        c, emb, pixels = config.channels, config.embedding, 4 * config.image_channels
        self.noise = NoiseEmbedding(emb)
        self.head = nn.Conv2d(pixels, c[0], 3, padding=1)
        self.encoder = nn.ModuleList(_Stage(w, b, emb) for w, b in zip(c, config.blocks, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(c))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(c))
        self.decoder = nn.ModuleList(_Stage(w, b, emb) for w, b in zip(c[:-1], config.blocks[:-1], strict=True))
        self.tail = nn.Conv2d(c[0], pixels, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # pyright: ignore[reportArgumentType]

    def preconditioning(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return `(c_skip, c_out, c_in, c_noise)` for `sigma` of any shape (arXiv:2206.00364, table 1)."""
        data_sq = self.config.sigma_data**2
        total_sq = sigma.square() + data_sq
        c_in = total_sq.rsqrt()
        return data_sq / total_sq, sigma * self.config.sigma_data * c_in, c_in, sigma.log() / 4

    def network(self, z: Tensor, c_noise: Tensor, shift: Tensor | None = None) -> Tensor:
        """The inner network `F` for scaled input `z [N, C, H, W]` and `c_noise [N]`; output of the same shape, float32.

        `shift [N, embedding]` is added to the noise level's embedding.
        """
        height, width = z.shape[-2:]
        h = F.pixel_unshuffle(_pad(z, self.config.multiple), 2)
        h = h.contiguous(memory_format=torch.channels_last)
        # Under bfloat16 autocast the rounding of z would be larger than noise below sigma ~ 0.01. A coarse part and a
        # remainder keep 16 bits, because the convolution sums them in float32. In float32 the two parts add up to z
        # exactly.
        coarse = h.bfloat16().to(h.dtype)
        h = F.conv2d(torch.cat((coarse, h - coarse), 1), self.head.weight.repeat(1, 2, 1, 1), self.head.bias, padding=1)
        emb = self.noise(c_noise)
        emb = emb if shift is None else emb + shift.to(emb.dtype)
        skips: list[Tensor] = []
        for i, stage in enumerate(self.encoder):
            h = stage(h, emb)
            if i < len(self.down):
                skips.append(h)
                h = self.down[i](h)
        for i in reversed(range(len(self.decoder))):
            h = self.decoder[i](self.up[i](h) + skips[i], emb)
        return F.pixel_shuffle(self.tail(h).float(), 2)[..., :height, :width]

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Estimate the clean image.

        Args:
            x: noisy images `[N, C, H, W]`, clean part in [-1, 1].
            sigma: noise standard deviation in the same units, `> 0`, shape `[N]`, `[1]` or `[]`.

        Returns:
            `E[x0 | x]`, shape `[N, C, H, W]`, float32.

        Raises:
            ValueError: the shapes do not match the above.
        """
        return self.denoise(x, sigma)

    def denoise(self, x: Tensor, sigma: Tensor, shift: Tensor | None = None) -> Tensor:
        """`forward`, with `shift` added to the embedding of the noise level."""
        if x.ndim != 4 or x.shape[1] != self.config.image_channels:
            raise ValueError(f"expected x of shape [N, {self.config.image_channels}, H, W], got {tuple(x.shape)}")
        if sigma.ndim > 1 or sigma.numel() not in (1, x.shape[0]):
            raise ValueError(f"expected sigma of shape [], [1] or [{x.shape[0]}], got {tuple(sigma.shape)}")
        x, sigma = x.float(), sigma.float().reshape(-1).expand(x.shape[0])
        c_skip, c_out, c_in, c_noise = self.preconditioning(sigma)
        f = self.network(c_in[:, None, None, None] * x, c_noise, shift)
        return c_skip[:, None, None, None] * x + c_out[:, None, None, None] * f


class LabelledDenoiser(Denoiser):
    """A `Denoiser` whose noise embedding is shifted by an embedding of the class label.

    Args:
        config: a configuration with `classes` above 0; the label `classes` means no label.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        if config.classes < 1:
            raise ValueError("a labelled denoiser needs a configuration with classes above 0")
        self.labels = nn.Embedding(config.classes + 1, config.embedding)
        nn.init.normal_(self.labels.weight, std=0.3)

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor | int | None = None) -> Tensor:
        """Estimate the clean image given labels [N], one number for all images, or None for no label.

        Raises:
            ValueError: the shapes do not match.
        """
        label = self.config.classes if label is None else label
        index = torch.as_tensor(label, device=x.device).expand(len(x))
        return self.denoise(x, sigma, self.labels(index))


def _pad(z: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom to a multiple: by reflection, or by replication if the image is too small to reflect."""
    height, width = z.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return z
    return F.pad(z, (0, right, 0, bottom), mode="reflect" if bottom < height and right < width else "replicate")


def self_ensemble(denoiser: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Average a denoiser over the eight flips and rotations of its input: better results, at eight times the cost.

    The result is equivariant to flips and rotations by 90 degrees (exactly, up to rounding, for sizes that the network
    does not pad).
    """

    def averaged(x: Tensor, sigma: Tensor) -> Tensor:
        total = torch.zeros_like(x, dtype=torch.float32)
        for turns in range(4):
            turned = x.rot90(turns, (-2, -1))
            total += denoiser(turned, sigma).rot90(-turns, (-2, -1))
            total += denoiser(turned.flip(-1), sigma).flip(-1).rot90(-turns, (-2, -1))
        return total / 8

    return averaged


def save_denoiser(
    denoiser: Denoiser, path: str | Path, *, dtype: torch.dtype = torch.float16, notes: dict[str, str] | None = None
) -> None:
    """Write weights and configuration to a safetensors file, atomically (a temporary file, then a rename).

    Args:
        denoiser: the network.
        path: the file to write.
        dtype: storage type of the weights.
        notes: further metadata, such as the training step.
    """
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in denoiser.state_dict().items()}
    metadata = {"format": FORMAT, "config": denoiser.config.to_json(), **(notes or {})}
    save_weights(Path(path), tensors, metadata)


def load_denoiser(
    path: str | Path,
    device: torch.device | str = "cpu",
    build: Callable[[DenoiserConfig], Denoiser] | None = None,
) -> Denoiser:
    """Load a denoiser from a file of `save_denoiser`: float32, evaluation mode, no weight requires a gradient.

    `build` makes the network from its configuration if it is not a plain `Denoiser`.

    Raises:
        InputError: missing file, another kind of file, or names or shapes that do not match the configuration.
    """
    weights = read_weights(path)
    if weights.metadata.get("format") != FORMAT or "config" not in weights.metadata:
        raise InputError(
            f"{path} contains no {FORMAT} weights (format: {weights.metadata.get('format')!s:.100}); write them with "
            "save_denoiser"
        )
    config = DenoiserConfig.from_json(weights.metadata["config"])
    with foreign(f"the configuration in {path}"), blank():
        denoiser = (build or Denoiser)(config)
    fill(denoiser, {name: value.float() for name, value in weights.tensors.items()}, path, device=device)
    return denoiser.to(device)
