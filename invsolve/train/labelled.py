"""Small images with class labels: a folder with one sub-folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invsolve import io
from invsolve.core.checks import InputError
from invsolve.train.data import find_images

__all__ = ["LabelledSet", "read_labelled"]


@dataclass(frozen=True)
class LabelledSet:
    """Images of one size, uncropped, in memory.

    Args:
        images: [M, C, H, W] in [-1, 1].
        labels: [M], from 0.
        classes: names of the classes, in the order of their labels.
        drop: share of the drawn labels replaced by the number of classes, which means no label.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    drop: float = 0.15

    def draw(self, n: int, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw `n` images and their labels, some of them dropped; the result depends only on `rng`."""
        pick = torch.from_numpy(rng.integers(len(self.labels), size=n))
        dropped = torch.from_numpy(rng.random(n) < self.drop)
        return self.images[pick], torch.where(dropped, len(self.classes), self.labels[pick])

    def split(self, share: float, seed: int = 0) -> tuple[LabelledSet, LabelledSet]:
        """Split off a share of every class; return the rest and that share, with at least one image per class in each.

        Raises:
            InputError: if a class has a single image.
        """
        rng, held = np.random.default_rng(seed), torch.zeros(len(self.labels), dtype=torch.bool)
        for label, name in enumerate(self.classes):
            own = torch.nonzero(self.labels == label)[:, 0]
            if len(own) < 2:
                raise InputError(f"class {name} has a single image: one for training and one to hold out are needed")
            count = min(max(1, round(share * len(own))), len(own) - 1)
            held[own[torch.from_numpy(rng.permutation(len(own))[:count])]] = True
        return self._part(~held), self._part(held)

    def _part(self, rows: Tensor) -> LabelledSet:
        return LabelledSet(self.images[rows], self.labels[rows], self.classes, self.drop)


def read_labelled(directory: Path) -> LabelledSet:
    """Read a folder with one sub-folder per class; labels follow the sorted names (numerically if they are numbers).

    A set of grey images has one channel; a set with any colour image has three.

    Raises:
        InputError: if there are no sub-folders, or images are outside them, of different sizes, or unreadable.
    """
    paths = find_images(directory)
    names = {path.relative_to(directory).parts[0] for path in paths if path.parent != directory}
    if len(names) < 2 or any(path.parent == directory for path in paths):
        raise InputError(
            f"--labels needs one sub-folder of images for each class in {directory}, and at least two classes"
        )
    classes = tuple(sorted(names, key=lambda name: (0, int(name), name) if name.isdigit() else (1, 0, name)))
    index = {name: label for label, name in enumerate(classes)}
    arrays, labels = [], []
    for path in paths:
        arrays.append(io.read_image(path).pixels)
        labels.append(index[path.relative_to(directory).parts[0]])
    channels = max(len(pixels) for pixels in arrays)
    arrays = [pixels.expand(channels, -1, -1) for pixels in arrays]
    odd = next((p for p, a in zip(paths, arrays, strict=True) if a.shape != arrays[0].shape), None)
    if odd is not None:
        raise InputError(f"labelled images must have one size: {paths[0]} and {odd} differ")
    return LabelledSet(2 * torch.stack(arrays) - 1, torch.tensor(labels), classes)
