"""A small classifier of noisy images, log p(y | x0 + sigma n), whose gradient guides a prior.

All activations are smooth (SiLU), because the guidance is the gradient of the network; with a piecewise linear
activation it would jump. Without normalisation layers an image never depends on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invsolve.core.boundary import foreign, parse_json
from invsolve.core.checks import InputError
from invsolve.core.settings import Range, check_settings, made_with
from invsolve.core.weights import write_network
from invsolve.priors.loading.weights import blank, fill, read_weights
from invsolve.priors.networks.unet import NoiseEmbedding

__all__ = ["ClassifierConfig", "NoisyClassifier", "load_classifier", "save_classifier"]

_FORMAT = "invsolve-classifier-1"


@dataclass(frozen=True)
class ClassifierConfig:
    """Architecture of a `NoisyClassifier`.

    Args:
        classes: number of classes, 2 or more.
        image_channels: colour channels of the images.
        size: side of the images, divisible by 4.
        width: feature channels at half resolution; twice as many at quarter resolution.
        embedding: width of the noise level's embedding.
    """

    classes: Annotated[int, Range(2, 1 << 20)] = 10
    image_channels: Annotated[int, Range(1, 1024)] = 1
    size: Annotated[int, Range(4, 4096)] = 16
    width: Annotated[int, Range(1, 4096)] = 24
    embedding: Annotated[int, Range(1, 4096)] = 32

    def __post_init__(self) -> None:
        check_settings(self)
        if self.size % 4:
            raise InputError(f"size must be divisible by 4, got {self.size}")


class _Block(nn.Module):
    """h + conv(silu(conv(h (1 + gain) + shift)))."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(embedding, 2 * channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        gain, shift = self.modulation(emb)[:, :, None, None].chunk(2, 1)
        return h + 0.5 * self.conv2(F.silu(self.conv1(F.silu(h * (1 + gain) + shift))))


class NoisyClassifier(nn.Module):
    """Logits [N, classes] from noisy images x = x0 + sigma n in [-1, 1] units and their noise levels sigma [N]."""

    def __init__(self, config: ClassifierConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ClassifierConfig()
        w, e = config.width, config.embedding
        self.noise = NoiseEmbedding(e)
        self.head = nn.Conv2d(config.image_channels, w, 4, stride=2, padding=1)
        self.fine = nn.ModuleList([_Block(w, e)])
        self.down = nn.Conv2d(w, 2 * w, 2, stride=2)
        self.coarse = nn.ModuleList([_Block(2 * w, e), _Block(2 * w, e)])
        self.tail = nn.Linear(2 * w * (config.size // 4) ** 2, config.classes)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Compute the logits.

        Raises:
            InputError: images of another size.
        """
        c = self.config
        if tuple(x.shape[1:]) != (c.image_channels, c.size, c.size):
            raise InputError(
                f"this classifier takes images [N, {c.image_channels}, {c.size}, {c.size}], got {list(x.shape)}"
            )
        sigma = sigma.to(x).expand(len(x)).clamp_min(0.004)
        emb = self.noise(sigma.log() / 4)
        h = self.head(x * (sigma.square() + 0.75).rsqrt()[:, None, None, None])
        for block in self.fine:
            h = block(h, emb)
        h = self.down(F.silu(h))
        for block in self.coarse:
            h = block(h, emb)
        return self.tail(F.silu(h).flatten(1))

    def of_images(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Logits from images and noise levels in [0, 1] units, as needed by `ClassifierCost(..., conditional=True)`."""
        dtype = self.tail.weight.dtype
        return self(2 * x.to(dtype) - 1, 2 * sigma.to(dtype)).to(x.dtype)


def save_classifier(classifier: NoisyClassifier, path: str | Path, notes: dict[str, str] | None = None) -> None:
    """Write weights (float16) and configuration to a safetensors file, atomically."""
    write_network(classifier, classifier.config, _FORMAT, Path(path), notes)


def load_classifier(path: str | Path, device: torch.device | str = "cpu") -> NoisyClassifier:
    """Load a classifier: float32, evaluation mode, no weight requires a gradient.

    Raises:
        InputError: missing file, or another kind of file.
    """
    weights = read_weights(path)
    if weights.metadata.get("format") != _FORMAT:
        raise InputError(f"{path} contains no {_FORMAT} weights: write them with `invsolve train classifier`")
    what = f"the configuration in {path}"
    config = made_with(ClassifierConfig, parse_json(weights.metadata.get("config", ""), what), what)
    with foreign(what), blank():
        classifier = NoisyClassifier(config)
    fill(classifier, weights.tensors, path, device=device)
    return classifier.to(device)
