"""The files of a restoration: their names, and writing all of them or none."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.core.boundary import read_json
from invsolve.core.checks import InputError
from invsolve.io import SUFFIXES, Image, check_target, encode_image, write_files
from invsolve.io.encode import warn_of_colours
from invsolve.restoration.figure import comparison, interval_map, interval_width
from invsolve.restoration.sources import targets

if TYPE_CHECKING:
    from invsolve.restoration.restored import Restoration

__all__ = ["check_targets", "encoded", "is_finished", "save", "write_record"]

logger = logging.getLogger(__name__)


def check_targets(path: Path, samples: int | None, *, overwrite: bool, deep: bool = False, **kinds: bool) -> None:
    """Raise `InputError` if any file of a restoration at `path` could not be written.

    Args:
        path: path of the restored image.
        samples: number of samples.
        overwrite: whether existing files may be replaced.
        deep: whether all missing parent folders will be created.
        kinds: the kinds of files to write, see `targets`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} does not have the extension of an image: {', '.join(SUFFIXES)}")
    if path.parent.is_dir() or not (deep or path.parent.parent.is_dir()):
        for target in targets(path, samples, **kinds).values():
            if target.parent == path.parent or target.parent.is_dir():
                check_target(target, overwrite=overwrite)
            elif target.parent.exists():
                raise InputError(
                    f"{target.parent} is not a folder, but the samples are written there: move that file away"
                )
    elif path.parent.exists() and not path.parent.is_dir():  # another thread may have just created it
        raise InputError(f"{path.parent} is not a folder: name another output")


def is_finished(path: Path, *, record: bool) -> bool:
    """Whether an image has been restored to `path`: the file and its record exist. The record is written last."""
    note = targets(path, None)["record"]
    if not path.is_file():
        return False
    if not record:
        return True
    try:
        return note.is_file() and "failed" not in read_json(note, "record").get("status", [])
    except InputError:
        return False


def save(
    restoration: Restoration,
    path: Path,
    *,
    overwrite: bool,
    comparison_too: bool = True,
    record_too: bool = True,
    quality: int | None = None,
    deep: bool = False,
) -> list[Path]:
    """Write a restoration; see `Restoration.save` and `check_targets`. An unchanged image has no comparison figure."""
    comparison_too = comparison_too and not restoration.untouched
    count = None if restoration.samples is None else len(restoration.samples)
    kernel = restoration.kernel
    kinds = {"comparison": comparison_too, "record": record_too, "kernel": kernel is not None}
    check_targets(path, count, overwrite=overwrite, deep=deep, **kinds)
    paths = targets(path, count, **kinds)
    image = restoration.image
    contents = {paths["restored"]: encoded(restoration, path, quality)}
    if restoration.content is not None:
        restoration.record["copied"] = contents[path] is restoration.content
    record = dict(restoration.record)
    if kernel is not None:  # 16 bits, the largest entry is white; `--kernel` can read it
        contents[paths["kernel"]] = encode_image(
            Image((kernel / kernel.max()).float()[None], None, 16), paths["kernel"]
        )
    if restoration.samples is not None and restoration.uncertainty is not None:
        level, record["interval_white"] = interval_map(*restoration.interval())
        contents[paths["interval"]] = encode_image(level, paths["interval"])
        for i, pixels in enumerate(restoration.samples):
            target = paths[f"sample {i + 1}"]
            contents[target] = encode_image(replace(image, pixels=pixels), target, quality=quality)
    record["outputs"] = {what: target.name for what, target in paths.items()}
    kept = {target.resolve() for target in paths.values()} | _inputs(record)
    superseded = [target for target in _earlier(path) if target.resolve() not in kept] if overwrite else []
    for folder in {target.parent for target in contents}:
        folder.mkdir(parents=True, exist_ok=True)
    write_files(contents, overwrite=overwrite)
    if comparison_too:
        _write_secondary(paths["comparison"], encode_image(comparison(_panels(restoration)), paths["comparison"]))
    for left in superseded:
        left.unlink(missing_ok=True)
    if record_too:
        write_record(paths["record"], record)
    return list(paths.values())


def _earlier(path: Path) -> list[Path]:
    """The files of an earlier restoration at `path`, as listed in its record; empty if there is no record."""
    note = targets(path, None)["record"]
    try:
        outputs = read_json(note, "record").get("outputs", {}) if note.is_file() else {}
    except InputError:
        return []
    if not isinstance(outputs, dict):
        return []
    samples = sum(what.startswith("sample ") for what in outputs)
    files = targets(path, samples, **{kind: kind in outputs for kind in ("kernel", "comparison", "record")})
    return [target for what, target in files.items() if outputs.get(what) == target.name]


def _inputs(record: Mapping[str, Any]) -> set[Path]:
    """The input files of a restoration: image, kernel, mask, ..."""
    told = [value.get("path") for value in record.values() if isinstance(value, dict)]
    return {Path(path).resolve() for path in told if path}


def encoded(restoration: Restoration, path: str | Path, quality: int | None) -> bytes:
    """The content of the restored image's file; the input file itself if the image and its format are unchanged."""
    kept = quality is None and SUFFIXES.get(Path(path).suffix.lower()) == restoration.image.format
    if kept and restoration.content is not None and restoration.untouched:
        return restoration.content
    further = [page.image for page in restoration.further]
    content = encode_image(restoration.image, path, quality=quality, further=further)
    warn_of_colours(restoration.image, path)
    return content


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record and replace an existing one; log a warning if it cannot be written."""
    _write_secondary(path, (json.dumps(_plain(dict(record)), indent=2) + "\n").encode())


def _write_secondary(path: Path, content: bytes) -> None:
    """Write an optional file; log a warning if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_files({path: content}, overwrite=True)
    except (InputError, OSError) as error:
        logger.warning("%s: this file is not written, the restoration is not affected", error)


def _panels(restoration: Restoration) -> list[tuple[str, Any]]:
    scores = restoration.record.get("scores", {})
    words = {name: f" {value['psnr']:.2f} dB" for name, value in scores.items()}
    baseline = next((f" ({name}:{text})" for name, text in words.items() if name != "restored"), "")
    panels = [(f"degraded{baseline}", restoration.degraded)]
    panels.append((f"restored{words.get('restored', '')}", restoration.image.pixels))
    if restoration.uncertainty is not None:
        width, white = interval_width(*restoration.interval())
        panels.append((f"width of the 90 % interval, white {white:.2f}", width))
    if restoration.truth is not None:
        panels.append(("original", restoration.truth))
    return panels


def _plain(value: Any) -> Any:
    """Convert to JSON types: JSON has no infinity, NaN, paths or tuples."""
    if isinstance(value, dict):
        return {str(key): _plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(content) for content in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
