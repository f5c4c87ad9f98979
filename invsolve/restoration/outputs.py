"""The files of a restoration: their names, and writing them all or none."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.core.checks import InputError
from invsolve.io import LONGEST, SUFFIXES, Image, check_target, encode_image, write_files
from invsolve.restoration.figure import comparison, deviation_map

if TYPE_CHECKING:
    from invsolve.restoration.run import Restoration

__all__ = ["output_paths", "save", "targets"]

logger = logging.getLogger(__name__)

TAG = "-restored"
SECONDARY = ("comparison", "record")
"""Files without which a restoration is still whole."""

_ADDED = len("-comparison.png")


def output_paths(images: Sequence[Path], out: Path | None) -> list[Path]:
    """Where the restoration of each image goes.

    Beside the image as NAME-restored.EXT if `out` is None; under that name in the folder `out`; or at `out` itself
    where it has the ending of an image. A folder that does not exist is made when the first file is written, if its
    parent exists. A name that would be too long for a file is cut, and ends with "~" and a hash of the whole.

    Raises:
        InputError: one file for several images, two images of one name, or a folder whose parent does not exist.
    """
    if out is not None and out.suffix.lower() in SUFFIXES and not out.is_dir():
        if len(images) > 1:
            raise InputError(f"{out} is one file for {len(images)} images: name a folder with -o")
        return [out]
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"{out} is neither a folder nor a file with the ending of an image ({', '.join(SUFFIXES)})")
    if out is not None and not out.exists() and not out.parent.is_dir():
        raise InputError(f"the folder {out.parent} does not exist: make it first")
    paths = [(image.parent if out is None else out) / _named(image) for image in images]
    stems = [path.with_suffix("") for path in paths]
    for i, stem in enumerate(stems):
        if stem in stems[:i]:
            other = images[stems.index(stem)]
            raise InputError(f"{other} and {images[i]} would be written under one name: restore them one by one")
    return paths


def _named(image: Path) -> str:
    ending = _ending(image)
    return f"{_cut(image.stem, LONGEST - len(TAG) - _ADDED)}{TAG}{ending}"


def _cut(stem: str, size: int) -> str:
    """A stem of at most `size` bytes."""
    content = os.fsencode(stem)
    if len(content) <= size:
        return stem
    return content[: size - 9].decode(errors="ignore") + "~" + hashlib.sha256(content).hexdigest()[:8]


def _ending(image: Path) -> str:
    return image.suffix if image.suffix.lower() in SUFFIXES else ".png"


def targets(path: Path, samples: int | None, *, kernel: bool = False) -> dict[str, Path]:
    """Every file that goes with a restoration at `path`, by what it holds; `kernel` where a blur was looked for."""
    stem = _cut(path.stem, LONGEST - _ADDED)
    paths = {
        "restored": path,
        "comparison": path.with_name(f"{stem}-comparison.png"),
        "record": path.with_name(f"{stem}.json"),
    }
    if kernel:
        paths["kernel"] = path.with_name(f"{stem}-kernel.png")
    if samples is not None and samples > 1:
        paths["deviation"] = path.with_name(f"{stem}-std.png")
        for i in range(samples):
            paths[f"sample {i + 1}"] = path.with_name(f"{stem}-sample{i + 1}{path.suffix}")
    return paths


def check_targets(path: Path, samples: int | None, *, overwrite: bool, kernel: bool = False) -> None:
    """Raise `InputError` if any file of a restoration at `path` could not be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} does not end like an image: {', '.join(SUFFIXES)}")
    if path.parent.is_dir() or not path.parent.parent.is_dir():
        for target in targets(path, samples, kernel=kernel).values():
            check_target(target, overwrite=overwrite)


def save(restoration: Restoration, path: Path, *, overwrite: bool) -> list[Path]:
    """Write a restoration; see `Restoration.save`."""
    count = None if restoration.samples is None else len(restoration.samples)
    kernel = restoration.kernel
    check_targets(path, count, overwrite=overwrite, kernel=kernel is not None)
    paths = targets(path, count, kernel=kernel is not None)
    image, record = restoration.image, dict(restoration.record)
    contents = {paths["restored"]: encode_image(image, path)}
    contents[paths["comparison"]] = encode_image(comparison(_panels(restoration)), paths["comparison"])
    if kernel is not None:  # `--kernel` reads it back: sixteen bits, the largest entry is white
        contents[paths["kernel"]] = encode_image(
            Image((kernel / kernel.max()).float()[None], None, 16), paths["kernel"]
        )
    if restoration.samples is not None and restoration.std is not None:
        level, record["std_white"] = deviation_map(restoration.std)
        contents[paths["deviation"]] = encode_image(level, paths["deviation"])
        for i, pixels in enumerate(restoration.samples):
            sample = replace(image, pixels=pixels)
            target = paths[f"sample {i + 1}"]
            contents[target] = encode_image(sample, target)
    record["outputs"] = {what: target.name for what, target in paths.items()}
    contents[paths["record"]] = (json.dumps(_plain(record), indent=2) + "\n").encode()
    made = not path.parent.exists()
    if made:
        path.parent.mkdir(exist_ok=True)
    extra = {paths[what]: contents.pop(paths[what]) for what in SECONDARY}
    write_files(contents, overwrite=overwrite)
    for target, content in extra.items():
        try:
            write_files({target: content}, overwrite=overwrite)
        except InputError as error:
            logger.warning("%s: the restoration is written, this file is not", error)
    return list(paths.values())


def _panels(restoration: Restoration) -> list[tuple[str, Any]]:
    scores = restoration.record.get("scores", {})
    words = {name: f" {value['psnr']:.2f} dB" for name, value in scores.items()}
    baseline = next((f" ({name}:{text})" for name, text in words.items() if name != "restored"), "")
    panels = [(f"degraded{baseline}", restoration.degraded)]
    panels.append((f"restored{words.get('restored', '')}", restoration.image.pixels))
    if restoration.truth is not None:
        panels.append(("original", restoration.truth))
    return panels


def _plain(value: Any) -> Any:
    """JSON knows neither infinity nor NaN, paths nor tuples."""
    if isinstance(value, dict):
        return {str(key): _plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(content) for content in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
