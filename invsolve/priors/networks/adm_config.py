"""The architecture of a guided-diffusion network, derived from the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invsolve.core.checks import InputError

__all__ = ["ADMConfig", "infer", "is_adm", "is_classifier"]

Shapes = Mapping[str, Sequence[int]]

_SIZES = {
    (0.5, 1, 1, 2, 2, 4, 4): 512,
    (1, 1, 2, 2, 4, 4): 256,
    (1, 1, 2, 3, 4): 128,
    (1, 2, 3, 4): 64,
}
"""Side of the images for the published channel multipliers."""


@dataclass(frozen=True)
class ADMConfig:
    """Architecture of an `ADMUNet` or `ADMClassifier`.

    Args:
        width: base channels.
        multipliers: channels of each level, in units of `width`.
        blocks: residual blocks per level.
        attention: whether each level has self-attention.
        in_channels, out_channels: channels of input and output; for a classifier out_channels is the number of classes.
        n_labels: number of classes of a conditional network, 0 for none.
        head_channels: channels of an attention head, or None if `heads` is used.
        heads: number of attention heads, if `head_channels` is None.
        new_attention_order: whether queries, keys and values are split before the heads.
        scale_shift: whether the time embedding scales and shifts the features (otherwise it is added).
        residual_resampling: whether residual blocks resample (otherwise convolutions do).
        size: side of the training images, if known.
    """

    width: int
    multipliers: tuple[float, ...]
    blocks: int
    attention: tuple[bool, ...]
    in_channels: int = 3
    out_channels: int = 6
    n_labels: int = 0
    head_channels: int | None = 64
    heads: int = 4
    new_attention_order: bool = False
    scale_shift: bool = True
    residual_resampling: bool = True
    size: int | None = None

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.multipliers)

    def channels(self, level: int) -> int:
        """Channels of a level."""
        return int(self.multipliers[level] * self.width)

    def heads_of(self, channels: int) -> int:
        """Heads of an attention layer.

        Raises:
            InputError: the channels cannot be divided into heads.
        """
        each = self.head_channels or channels // max(self.heads, 1)
        if each < 1 or channels % each:
            raise InputError(
                f"{channels} channels cannot be divided into attention heads of {each}: give head_channels or heads, "
                "which the weights do not define"
            )
        return channels // each


def is_adm(shapes: Shapes) -> bool:
    """Whether these are the weights of a guided-diffusion network or classifier."""
    return {"time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight"} <= shapes.keys()


def is_classifier(shapes: Shapes) -> bool:
    """Whether these are the weights of a noisy classifier."""
    return is_adm(shapes) and "output_blocks.0.0.in_layers.0.weight" not in shapes


def infer(shapes: Shapes, **known: Any) -> ADMConfig:
    """Derive the architecture from the shapes of the weights.

    Settings that do not follow from the shapes are those of the published networks: heads of 64 channels, but 4 heads
    in the 128 x 128 network; the new attention order only in the 64 x 64 network (192 channels).

    Args:
        shapes: shape of each weight.
        known: fields of `ADMConfig` that are known; they replace the derived ones.

    Raises:
        InputError: the shapes do not belong to such a network.
    """
    try:
        config = _infer(shapes, known)
    except KeyError as error:
        raise InputError(f"the weights are not those of a guided-diffusion network: {error} is missing") from error
    except TypeError as error:
        raise InputError(f"unknown architecture option: {error}") from error
    except (IndexError, ValueError, ArithmeticError) as error:
        raise InputError(f"the weights have shapes that no guided-diffusion network has: {error}") from error
    if config.in_channels not in (1, 3, 4):
        raise InputError(
            f"the network takes {config.in_channels} channels: a network that also takes a small image (an upsampler) "
            "cannot be used as a prior"
        )
    return config


def _infer(shapes: Shapes, known: Mapping[str, Any]) -> ADMConfig:
    width, classifier = shapes["time_embed.0.weight"][1], is_classifier(shapes)
    blocks, levels = _encoder_depth(shapes) if classifier else _decoder_depth(shapes)
    firsts = [1 + level * (blocks + 1) for level in range(levels)]
    multipliers = tuple(shapes[f"input_blocks.{i}.0.out_layers.3.weight"][0] / width for i in firsts)
    multipliers = tuple(int(m) if m == int(m) else m for m in multipliers)
    out = shapes["input_blocks.1.0.out_layers.3.weight"][0]
    size = _SIZES.get(multipliers)
    fields: dict[str, Any] = {
        "width": width,
        "multipliers": multipliers,
        "blocks": blocks,
        "attention": tuple(f"input_blocks.{i}.1.qkv.weight" in shapes for i in firsts),
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.c_proj.weight" if classifier else "out.2.weight"][0],
        "n_labels": shapes["label_emb.weight"][0] if "label_emb.weight" in shapes else 0,
        "scale_shift": shapes["input_blocks.1.0.emb_layers.1.weight"][0] == 2 * out,
        "residual_resampling": f"input_blocks.{blocks + 1}.0.op.weight" not in shapes,
        "size": size,
    }
    if classifier:
        side = round((shapes["out.2.positional_embedding"][1] - 1) ** 0.5)
        fields["size"] = side * 2 ** (levels - 1)
    elif size == 128:
        fields |= {"head_channels": None, "heads": 4}
    elif size == 64 and width == 192:
        fields["new_attention_order"] = True
    if "heads" in known:
        fields["head_channels"] = None
    return ADMConfig(**{**fields, **known})


def _count(shapes: Shapes, blocks: str) -> int:
    count = 1 + max((int(m[1]) for key in shapes if (m := re.match(rf"{blocks}\.(\d+)\.", key))), default=-1)
    if count > len(shapes):
        raise InputError(f"the weights are not those of a guided-diffusion network: {blocks} are numbered to {count}")
    return count


def _decoder_depth(shapes: Shapes) -> tuple[int, int]:
    """Residual blocks per level and number of levels: the decoder upsamples after every `blocks` + 1 stages."""
    count = _count(shapes, "output_blocks")
    enlarging = re.compile(r"output_blocks\.(\d+)\.[12]\.(in_layers\.0|conv)\.weight")
    ups = sorted(int(m[1]) for key in shapes if (m := enlarging.fullmatch(key)))
    blocks = ups[0] if ups else count - 1
    if blocks < 1 or count != (len(ups) + 1) * (blocks + 1):
        raise InputError(
            f"the weights are not those of a guided-diffusion network: {count} output blocks, {len(ups)} ups"
        )
    return blocks, len(ups) + 1


def _encoder_depth(shapes: Shapes) -> tuple[int, int]:
    """The same for a classifier, which has no decoder.

    All levels have the same number of blocks, so the image is halved in every (`blocks` + 1)-th stage. Such a stage
    never has attention and never changes the number of channels.
    """
    if "out.2.positional_embedding" not in shapes:
        raise InputError("a noisy classifier with attention pooling is expected, this one pools in another way")
    count = _count(shapes, "input_blocks")
    fits = []
    for blocks in range(1, count):
        if count % (blocks + 1):
            continue
        halving = range(blocks + 1, count, blocks + 1)
        if all(_keeps_channels(shapes, i) for i in halving) and _levels_agree(shapes, blocks, count):
            fits.append(blocks)
    if not fits:
        raise InputError(f"the weights are not those of a noisy classifier: {count} input blocks do not form levels")
    # If neighbouring levels look alike, several numbers of blocks fit; published networks have 2 or 4.
    blocks = next((b for b in (2, 4) if b in fits), fits[0])
    return blocks, count // (blocks + 1)


def _keeps_channels(shapes: Shapes, i: int) -> bool:
    return f"input_blocks.{i}.0.skip_connection.weight" not in shapes and f"input_blocks.{i}.1.qkv.weight" not in shapes


def _levels_agree(shapes: Shapes, blocks: int, count: int) -> bool:
    """Whether in each level either all blocks have attention or none has."""
    levels = [range(1 + a, 1 + a + blocks) for a in range(0, count - 1, blocks + 1)]
    return all(len({f"input_blocks.{i}.1.qkv.weight" in shapes for i in level}) == 1 for level in levels)
