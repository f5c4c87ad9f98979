"""Convolutions with a fused activation or sum and weights that are packed once, for calls without gradients.

They use oneDNN on a CPU, through the operations of torch's compiler. Weights are packed for each image size, because
another size may need another order. Results differ from those of separate operations only by rounding; in bfloat16
there are fewer roundings.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PackedConv2d", "packs"]

KEPT = 4
"""Number of image sizes with packed weights per convolution: two scales of an image and of the rotated image."""

DTYPES = (torch.float32, torch.bfloat16)


class PackedConv2d(nn.Conv2d):
    """An `nn.Conv2d` with two additional fused operations, for inputs that `packs` allows."""

    def __init__(self, channels: int, out_channels: int, kernel_size: int, padding: int) -> None:
        super().__init__(channels, out_channels, kernel_size, padding=padding)
        self._kept = _Kept()

    def relu(self, x: Tensor) -> Tensor:
        """Compute relu(self(x))."""
        where = self._where()
        return _ops()._convolution_pointwise(x, self._kept.weight(self, x), self.bias, *where, "relu", [], "")

    def add_to(self, total: Tensor, x: Tensor) -> Tensor:
        """Compute total += self(x) in place."""
        weight, where = self._kept.weight(self, x), self._where()
        return _ops()._convolution_pointwise_.binary(
            total, x, weight, self.bias, *where, "add", 1.0, None, [], None
        )  # fmt: skip

    def pack(self, x: Tensor) -> Tensor:
        """Reorder the weights for the fastest computation on images like x."""
        return _ops()._reorder_convolution_weight(self.weight, *self._where(), list(x.shape))

    def _where(self) -> tuple[Any, ...]:
        return list(self.padding), list(self.stride), list(self.dilation), self.groups


class _Kept:
    """Packed weights for the latest image sizes. They follow from the weights and are not part of the state."""

    def __init__(self) -> None:
        self._weights: dict[tuple[Any, ...], Tensor] = {}

    def weight(self, conv: PackedConv2d, x: Tensor) -> Tensor:
        own = conv.weight
        key = (tuple(x.shape), own.data_ptr(), own._version)
        packed = self._weights.get(key)
        if packed is None:
            packed = conv.pack(x)
            for old in list(self._weights)[: max(len(self._weights) - KEPT + 1, 0)]:
                self._weights.pop(old, None)  # another thread may have removed it
            self._weights[key] = packed
        return packed

    def identity_state(self) -> tuple[()]:
        return ()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Kept:
        return _Kept()

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()


def packs(x: Tensor, conv: PackedConv2d) -> bool:
    """Whether the fused operations can replace separate ones for x."""
    return (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == conv.weight.dtype
        and x.dtype in DTYPES
        and not conv.weight.is_inference()
        and not torch.compiler.is_compiling()
        and torch.backends.mkldnn.enabled
        and _works(x.dtype)
    )


@cache
def _works(dtype: torch.dtype) -> bool:
    """Whether this build of torch has the operations, and they give correct results on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    random = torch.Generator().manual_seed(0)
    conv = PackedConv2d(16, 16, 3, padding=1).requires_grad_(False).float()
    for parameter in conv.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=random) / 12)
    x = torch.randn(1, 16, 24, 24, generator=random, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", enabled=False):
        plain = conv(x)
        conv, x = conv.to(dtype), x.to(dtype)
        try:
            pairs = ((conv.relu(x), F.relu(plain)), (conv.add_to(x.clone(), x), plain + x))
        except (RuntimeError, AttributeError, TypeError):
            return False
    close = 1e-4 if dtype == torch.float32 else 0.05
    return all(torch.allclose(found.float(), expected, atol=close) for found, expected in pairs)


def _ops() -> Any:
    return torch.ops.mkldnn
