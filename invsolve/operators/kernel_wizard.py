"""Non-linear blur by a network that applies a kernel code to an image; the user provides its weights as a file.

Tran, Tran, Phung, Hoai 2021, "Explore image deblurring via encoded blur kernel space" (BKSE), arXiv 2104.00317.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invsolve.core.boundary import foreign, load_torch
from invsolve.core.checks import InputError, ShapeError
from invsolve.core.constants import Constants, select_rows
from invsolve.core.operator import EMPTY, Operator, Params, Shape
from invsolve.core.rng import NoiseSource
from invsolve.operators.shapes import digest, image_shape

__all__ = ["KernelWizard", "KernelWizardBlur"]

STRIDE = 128
"""The encoder halves the size twice and the adapter five times."""


class _Residual(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class _Level(nn.Module):
    """One level of the adapter's U-Net; the code enters at the innermost one.

    The skip connection passes on the activated input, because the published network activates it in place.
    """

    def __init__(self, outer: int, inner: int, submodule: nn.Module | None, *, outermost: bool = False) -> None:
        super().__init__()
        self.outermost = outermost
        down = nn.Conv2d(outer, inner, 4, 2, 1, bias=False)
        up = nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1, bias=outermost)
        self.down = nn.Sequential(down) if outermost else nn.Sequential(nn.Identity(), down)
        self.submodule = submodule
        self.up = nn.Sequential(nn.ReLU(), up, nn.Tanh()) if outermost else nn.Sequential(nn.ReLU(), up)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        if not self.outermost:
            x = F.leaky_relu(x, 0.2)
        low = self.down(x)
        inside = torch.cat([low, code], 1) if self.submodule is None else self.submodule(low, code)
        out = self.up(inside)
        return out if self.outermost else torch.cat([out, x], 1)


class _Adapter(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        level = _Level(8 * width, 8 * width, None)
        for outer, inner in ((4, 8), (2, 4), (1, 2)):
            level = _Level(outer * width, inner * width, level)
        self.model = _Level(width, width, level, outermost=True)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.model(x, code)


class KernelWizard(nn.Module):
    """The blurring part of the published network: encoder, kernel adapter, reconstruction trunk (23.7 M weights).

    Its keys are those of the published checkpoint without `kernel_extractor`.
    """

    def __init__(self, width: int = 64, front: int = 10, back: int = 20) -> None:
        super().__init__()
        slope = nn.LeakyReLU(0.1)
        convs = [nn.Conv2d(3, width, 3, 1, 1), *(nn.Conv2d(width, width, 3, 2, 1) for _ in range(2))]
        encoder = [layer for conv in convs for layer in (conv, slope)]
        self.feature_extractor = nn.Sequential(*encoder, *(_Residual(width) for _ in range(front)))
        self.adapter = _Adapter(width)
        enlarge = [nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2), slope]
        again = [nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2), slope]
        last = [nn.Conv2d(width, width, 3, 1, 1), slope, nn.Conv2d(width, 3, 3, 1, 1)]
        self.recon_trunk = nn.Sequential(*(_Residual(width) for _ in range(back)), *enlarge, *again, *last)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return x + self.recon_trunk(self.adapter(self.feature_extractor(x), code))


class KernelWizardBlur(Operator):
    """y = clip(x + trunk(adapter(encoder(x), code)), 0, 1), images in [0, 1], with a kernel code per measurement.

    The code [512, H / 128, W / 128] ~ 1.2 N(0, I) belongs to the measurement. It is drawn once, by `draw`, and kept in
    the operator (`operator.code`). If no code is given, it is unknown and is passed as theta["code"].

    Args:
        in_shape: (3, H, W), multiples of 128.
        network: a `KernelWizard`, see `KernelWizardBlur.load`.
        code: [512, H / 128, W / 128], or [B, ...] with one for each sample; None if it is unknown.

    Raises:
        ShapeError: the images or codes have another shape.
    """

    def __init__(self, in_shape: Shape, network: nn.Module, code: Tensor | None = None) -> None:
        self.in_shape = self.out_shape = c, h, w = image_shape(in_shape)
        if c != 3 or h % STRIDE or w % STRIDE:
            raise ShapeError(f"this blur takes (3, H, W) with H and W multiples of {STRIDE}, got {list(in_shape)}")
        self.code_shape = (8 * self._width(network), h // STRIDE, w // STRIDE)
        self.network = network.eval().requires_grad_(False)
        self._moved: tuple[Any, nn.Module] | None = None
        if code is None:
            self.parameters = ("code",)
            return
        code = code[None] if code.ndim == 3 else code
        if tuple(code.shape[1:]) != self.code_shape:
            raise ShapeError(f"the kernel code must be {list(self.code_shape)}, got {list(code.shape)}")
        self.constants = Constants(code=code.detach())

    @staticmethod
    def _width(network: nn.Module) -> int:
        return next(network.parameters()).shape[0]

    @staticmethod
    def load(path: str | Path) -> KernelWizard:
        """Load the network with the published weights (GOPRO_wVAE.pth), without running anything in the file.

        Raises:
            InputError: the file does not exist, or holds other weights.
        """
        state: Any = load_torch(path, "weight file of the kernel wizard (GOPRO_wVAE.pth)")
        with foreign(f"{path}, which does not hold the weights of the kernel wizard,"):
            network = KernelWizard()
            state = {key.removeprefix("module."): value for key, value in state.items()}
            network.load_state_dict({k: v for k, v in state.items() if not k.startswith("kernel_extractor.")})
        return network

    @classmethod
    def draw(cls, in_shape: Shape, network: nn.Module, rng: NoiseSource, samples: int = 1) -> Self:
        """Create the operator with codes drawn from 1.2 N(0, I): one code for all images, or one for each image."""
        blind = cls(in_shape, network)
        return cls(in_shape, network, 1.2 * rng.normal(torch.empty(samples, *blind.code_shape)))

    @property
    def code(self) -> Tensor:
        """The kernel code; store it together with the measurement."""
        return self.constants["code"]

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        if self.parameters:
            if set(theta) != {"code"}:
                raise InputError(f'this blur has no kernel code: it needs theta["code"], got {sorted(theta)}')
            code = theta["code"].to(x)
        else:
            self._no_parameters(theta)
            code = self.constants.get("code", x)
        return self._network_like(x)(x, code.expand(len(x), *self.code_shape)).clamp(0, 1)

    def _network_like(self, x: Tensor) -> nn.Module:
        """The network in the precision and on the device of `x`; the original network is not changed."""
        own, wanted = next(self.network.parameters()), (x.dtype, x.device)
        if (own.dtype, own.device) == wanted:
            return self.network
        if self._moved is None or self._moved[0] != wanted:
            self._moved = wanted, copy.deepcopy(self.network).to(x.device, x.dtype)
        return self._moved[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_moved": None}

    def select(self, rows: Tensor) -> Self:
        if self.parameters or len(self.code) == 1:
            return self
        return select_rows(self, code=self.code[rows.cpu()])

    def __repr__(self) -> str:
        code = "unknown" if self.parameters else f"{list(self.code.shape)}:{digest(self.code)}"
        return f"KernelWizardBlur({list(self.in_shape)}, code={code})"
