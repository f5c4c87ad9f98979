"""The images of a suite, each identified by the hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor

from invsolve.bench.suite import DataSpec, canonical
from invsolve.core.boundary import read_text
from invsolve.core.checks import InputError
from invsolve.core.identity import identify
from invsolve.core.prior import Prior
from invsolve.core.rng import Rng

__all__ = ["Item", "find_items", "packaged"]


@dataclass(frozen=True)
class Item:
    """An image that is read when it is needed.

    Attributes:
        name: name of the row: the file name without its ending.
        digest: hash of the file content and of the size and fit of the crop.
        source: path, or the index of a draw.
    """

    name: str
    digest: str
    source: Path | int
    spec: DataSpec

    def load(self, prior: Prior | None = None) -> Tensor:
        """Read the image [3, H, W] in [0, 1].

        Raises:
            InputError: if it cannot be read, or is smaller than the size of the suite.
        """
        if isinstance(self.source, int):
            return _draw(prior, self.source)
        from invsolve.io import read_image

        image = read_image(self.source).pixels.expand(3, -1, -1).clamp(0, 1)
        return _cut(image, self.spec, self.name)


def find_items(spec: DataSpec, prior: Prior | None = None) -> list[Item]:
    """Return the items of a suite, in the order of their paths or of the list.

    Raises:
        InputError: if the folder or list is missing or has no images, two images have the same name, or the prior has
            no exact sampler.
    """
    if spec.kind == "draws":
        _drawable(prior)
        law = identify(prior, "the prior that images are drawn from")
        return [Item(f"draw {i}", _digest(law.encode(), {"draw": i}), i, spec) for i in range(spec.items)]
    paths = _paths(spec)
    paths = paths[: spec.items] if spec.items else paths
    names = [path.stem for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two images of the data are named {name}: rename one")
    cut = {"size": spec.size, "fit": spec.fit}
    return [Item(path.stem, _digest(_bytes(path), cut), path, spec) for path in paths]


def _paths(spec: DataSpec) -> list[Path]:
    from invsolve.io import READABLE
    from invsolve.io.folder import images_in

    if spec.kind == "packaged":
        return packaged()
    if not spec.path:
        raise InputError("this suite needs your images: give them with --data (a folder, or a list of paths)")
    path = Path(spec.path)
    if spec.kind == "list" or path.is_file():
        if not path.is_file():
            raise InputError(f"there is no list of images {path}")
        if path.suffix.lower() in READABLE:
            raise InputError(f"{path} is an image, where a folder or a list of paths is expected: give its folder")
        lines = [line.strip() for line in read_text(path, "list of images").splitlines()]
        found = [path.parent / line for line in lines if line and not line.startswith("#")]
        missing = [entry for entry in found if not entry.is_file()]
        if missing:
            raise InputError(f"{path} names {missing[0]}, which is not there ({len(missing)} of {len(found)} missing)")
    else:
        if not path.is_dir():
            raise InputError(f"there is no folder of images {path}: give it with --data DIR")
        found = images_in(path)
    if not found:
        raise InputError(f"{path} contains no images ({', '.join(sorted(READABLE))})")
    return found


def packaged() -> list[Path]:
    """Return the test images included in the package."""
    folder = Path(str(files("invsolve") / "bench" / "images"))
    return sorted(path for path in folder.iterdir() if path.suffix == ".png")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        return f"unreadable {path.name}: {error.strerror}".encode()


def _digest(content: bytes, cut: Mapping[str, Any]) -> str:
    return hashlib.sha256(hashlib.sha256(content).digest() + canonical(cut).encode()).hexdigest()[:32]


def _cut(image: Tensor, spec: DataSpec, name: str) -> Tensor:
    """Cut the central square of the size of the suite, after the resizing that `fit` asks for."""
    if not spec.size:
        return image.contiguous()
    height, width = image.shape[1:]
    if spec.fit == "stretch":
        return _stretched(image, spec.size)
    if spec.fit == "resize" and min(height, width) != spec.size:
        from invsolve.tasks.resizing import resized

        scale = spec.size / min(height, width)
        height, width = max(spec.size, round(height * scale)), max(spec.size, round(width * scale))
        image = resized(image, (height, width)).clamp(0, 1)
    if min(height, width) < spec.size:
        raise InputError(f"{name} has {width} x {height} pixels, the suite cuts squares of {spec.size}")
    top, left = (height - spec.size) // 2, (width - spec.size) // 2
    return image[:, top : top + spec.size, left : left + spec.size].contiguous()


def _stretched(image: Tensor, size: int) -> Tensor:
    """Resize both sides to `size` with Pillow's bilinear filter on 8 bits, like torchvision's `Resize` for a file."""
    import numpy as np
    import torch
    from PIL import Image as pillow

    pixels = (255 * image).round().byte().permute(1, 2, 0).contiguous().numpy()
    made = pillow.fromarray(pixels).resize((size, size), pillow.Resampling.BILINEAR)
    return torch.from_numpy(np.array(made)).permute(2, 0, 1).contiguous().float() / 255


def _drawable(prior: Prior | None) -> Any:
    sample = getattr(prior, "sample", None)
    if prior is None or sample is None:
        raise InputError("[data] kind 'draws' needs a prior with an exact sampler: a Gaussian or mixture prior")
    return sample


def _draw(prior: Prior | None, index: int) -> Tensor:
    from invsolve.core.problem import Problem

    x = _drawable(prior)(1, Rng(index, [("draw", 0)]))
    assert prior is not None
    return Problem(prior).to_image(x)[0].float()
