"""Non-linear deblurring: the blur of the BKSE network, whose weights the user provides as a file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from invsolve.core.boundary import MAX_TEXT_BYTES, foreign, read_bytes
from invsolve.core.checks import InputError
from invsolve.core.lazy import torch
from invsolve.core.options import option
from invsolve.core.weight_files import VARIABLE, find_weight_file, weight_folders
from invsolve.tasks.base import Size, Streams, Task

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import Operator
    from invsolve.io import Image

__all__ = ["NonlinearDeblur", "NonlinearOptions"]


@dataclass(frozen=True)
class NonlinearOptions:
    """The user options. The kernel code belongs to the measurement; a simulation draws it."""

    operator_weights: Path | None = option(None, "weights of the BKSE network (GOPRO_wVAE.pth)", metavar="FILE")
    operator_code: Path | None = option(None, "kernel code of the blur, .npy [512, H/128, W/128]", metavar="FILE")


@dataclass(frozen=True)
class NonlinearDraw:
    """The suite options."""

    operator_weights: str = option("", "weights of the BKSE network (GOPRO_wVAE.pth)")


@dataclass(frozen=True, eq=False)
class NonlinearDeblur(Task):
    """y = clip(x + network(x, code), 0, 1) + noise; colour images whose sides are multiples of 128.

    Tran, Tran, Phung, Hoai 2021, "Explore image deblurring via encoded blur kernel space", arXiv 2104.00317.

    Args:
        weights: file with the network weights.
        code: the kernel code [512, H / 128, W / 128].
    """

    weights: Path
    code: Tensor

    name = "nonlinear-deblur"
    options, suite_options = NonlinearOptions, NonlinearDraw
    simulated_noise = 0.005

    @classmethod
    def from_options(cls, options: NonlinearOptions, image: Image, simulation: Streams | None) -> Self:
        if options.operator_weights is None:
            raise InputError("this blur needs the weights of the BKSE network: give --operator-weights FILE")
        weights, size = Path(options.operator_weights), image.size
        if len(image.pixels) != 3 or size[0] % 128 or size[1] % 128:
            raise InputError(
                f"this blur needs a colour image whose sides are multiples of 128, got {len(image.pixels)} channels "
                f"of {size[1]} x {size[0]} pixels: cut the image"
            )
        if options.operator_code is not None:
            return cls(weights, _read_code(options.operator_code))
        if simulation is None:
            raise InputError(
                "the kernel code of the blur is needed: give --operator-code FILE, or --simulate to draw it"
            )
        return cls(weights, cls._drawn(weights, size, simulation))

    @classmethod
    def draw(cls, options: NonlinearDraw, size: Size, streams: Streams) -> dict[str, Tensor]:
        return {"code": cls._drawn(Path(options.operator_weights), size, streams)}

    @classmethod
    def from_draw(cls, options: NonlinearDraw, drawn: Mapping[str, Tensor]) -> Task:
        return cls(Path(options.operator_weights), drawn["code"])

    @classmethod
    def needs(cls, options: NonlinearDraw) -> str:
        return "" if find_weight_file(options.operator_weights) else _missing(options.operator_weights)

    @staticmethod
    def _drawn(weights: Path, size: Size, streams: Streams) -> Tensor:
        from invsolve.operators import KernelWizardBlur

        return KernelWizardBlur.draw((3, *size), _network(weights), streams("code")).code[0]

    def operator(self, channels: int, size: Size) -> Operator:
        from invsolve.operators import KernelWizardBlur

        return KernelWizardBlur((channels, *size), _network(self.weights), self.code)

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "blurred", y

    def record(self, prior: Any) -> dict[str, Any]:
        return {"operator_weights": str(self.weights)}


def _network(path: Path) -> Any:
    found = find_weight_file(path)
    if found is None:
        raise InputError(f"there is no file {path}: give the weights of the BKSE network with --operator-weights")
    status = found.stat()
    return _loaded(str(found.resolve()), status.st_mtime_ns, status.st_size)


def _missing(name: str) -> str:
    return f"weights missing: put {name} into {weight_folders()[-1]}, or name its folder in the variable {VARIABLE}"


@lru_cache(maxsize=1)
def _loaded(path: str, *stamp: int) -> Any:
    from invsolve.operators import KernelWizardBlur

    return KernelWizardBlur.load(path)


def _read_code(path: Path) -> Tensor:
    import numpy

    content = read_bytes(path, "kernel code", MAX_TEXT_BYTES)
    with foreign(f"the kernel code {path}"):
        return torch.from_numpy(numpy.load(io.BytesIO(content), allow_pickle=False)).float()
