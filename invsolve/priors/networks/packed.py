"""Convolutions with an activation or a sum fused into them, and weights packed once, where no gradient is wanted.

They are oneDNN's on a CPU, by the operations that torch's compiler uses. Weights are packed for each size of image, as
another size may want another order. Results differ from those of separate operations by rounding alone, which bfloat16
needs less often then.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PackedConv2d", "packs"]

KEPT = 4
"""Sizes of image for which a convolution keeps packed weights: two scales of an image and of the image turned."""

DTYPES = (torch.float32, torch.bfloat16)


class PackedConv2d(nn.Conv2d):
    """An `nn.Conv2d` that also computes two fused operations, where `packs` allows them."""

    def __init__(self, channels: int, out_channels: int, kernel_size: int, padding: int) -> None:
        super().__init__(channels, out_channels, kernel_size, padding=padding)
        self._kept = _Kept()

    def relu(self, x: Tensor) -> Tensor:
        """relu(self(x))."""
        where = self._where()
        return _ops()._convolution_pointwise(x, self._kept.weight(self, x), self.bias, *where, "relu", [], "")

    def add_to(self, total: Tensor, x: Tensor) -> Tensor:
        """total += self(x), in place."""
        weight, where = self._kept.weight(self, x), self._where()
        return _ops()._convolution_pointwise_.binary(
            total, x, weight, self.bias, *where, "add", 1.0, None, [], None
        )  # fmt: skip

    def pack(self, x: Tensor) -> Tensor:
        """The weights in the order that is fastest for images like x."""
        return _ops()._reorder_convolution_weight(self.weight, *self._where(), list(x.shape))

    def _where(self) -> tuple[Any, ...]:
        return list(self.padding), list(self.stride), list(self.dilation), self.groups


class _Kept:
    """Packed weights by size of image, the latest few. They follow from the weights and are no state of their own."""

    def __init__(self) -> None:
        self._weights: dict[tuple[Any, ...], Tensor] = {}

    def weight(self, conv: PackedConv2d, x: Tensor) -> Tensor:
        own = conv.weight
        key = (tuple(x.shape), own.data_ptr(), own._version)
        if key not in self._weights:
            while len(self._weights) >= KEPT:
                self._weights.pop(next(iter(self._weights)))
            self._weights[key] = conv.pack(x)
        return self._weights[key]

    def identity_state(self) -> tuple[()]:
        return ()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Kept:
        return _Kept()

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()


def packs(x: Tensor, conv: PackedConv2d) -> bool:
    """Whether the fused operations may take the place of separate ones for x."""
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
    """Whether this build of torch has the operations, and they do what is expected of them on this processor."""
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
