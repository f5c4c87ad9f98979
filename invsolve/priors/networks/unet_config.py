"""The configuration of the U-Net denoiser, without an import of torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, TypeAlias

from invsolve.core.boundary import parse_json
from invsolve.core.checks import InputError
from invsolve.core.options import option
from invsolve.core.settings import Range, check_settings, made_with

__all__ = ["DenoiserConfig"]

MAX_STAGES = 8
_Width: TypeAlias = Annotated[int, Range(1, 1 << 14)]
_Count: TypeAlias = Annotated[int, Range(1, 64)]


@dataclass(frozen=True)
class DenoiserConfig:
    """Architecture of a `Denoiser`; stored as JSON in the weight file's metadata.

    Args:
        image_channels: colour channels of the images.
        channels: feature channels of each stage; stage `i` works at `1 / 2^(i + 1)` of the image's resolution.
        blocks: residual blocks of each stage, in the encoder and again in the decoder (only once for the last stage).
        embedding: width of the noise level's embedding.
        sigma_data: standard deviation of the clean images in [-1, 1] units.
        classes: number of class labels; 0 for a denoiser without labels.
    """

    image_channels: _Width = 3
    channels: tuple[_Width, ...] = option((96, 128, 160, 192), "features per stage, comma-separated")
    blocks: tuple[_Count, ...] = option((2, 2, 2, 2), "residual blocks per stage, comma-separated")
    embedding: _Width = 64
    sigma_data: Annotated[float, Range(0, 1e3, above=True)] = 0.5
    classes: Annotated[int, Range(0, 1 << 20)] = 0

    def __post_init__(self) -> None:
        check_settings(self)
        if not 0 < len(self.channels) <= MAX_STAGES or len(self.channels) != len(self.blocks):
            raise InputError(
                f"channels and blocks must be equally long, 1 to {MAX_STAGES}, got {self.channels}, {self.blocks}"
            )

    @property
    def multiple(self) -> int:
        """Height and width are padded to a multiple of this."""
        return 2 ** len(self.channels)

    def to_json(self) -> str:
        """Serialise for the weight file's metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> DenoiserConfig:
        """Rebuild a configuration from the text of `to_json`; other text raises `InputError`."""
        what = "the configuration of the denoiser"
        return made_with(DenoiserConfig, parse_json(text, what), what)
