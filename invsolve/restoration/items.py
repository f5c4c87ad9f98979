"""The images of a batch: where each is read and written, and what came of it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from invsolve.core.checks import InputError
from invsolve.restoration.fetch import is_file
from invsolve.restoration.options import Options
from invsolve.restoration.outputs import check_targets
from invsolve.restoration.sources import Entry, targets

if TYPE_CHECKING:
    from invsolve.restoration.restored import Restoration

__all__ = ["Batch", "Item", "Outcome", "check_items"]


@dataclass(frozen=True)
class Outcome:
    """The result for one image of a batch.

    Attributes:
        source: the file or URL, or "image N" for an image given as an array.
        status: "restored", "skipped" (it had been restored before) or "failed".
        path: path of the restored image; None if nothing is written.
        error: a sentence, if it failed.
        seconds: time it took.
        record: the content of `Restoration.record`; empty if it was skipped or failed.
        restoration: the restoration itself, if nothing is written.
    """

    source: str
    status: Literal["restored", "skipped", "failed"]
    path: Path | None = None
    error: str = ""
    seconds: float = 0.0
    record: Mapping[str, Any] | None = None
    restoration: Restoration | None = None
    started: bool = True
    """Whether the image was read and was valid for the options, so that the computation began."""


@dataclass(frozen=True)
class Batch:
    """Settings for all images of a batch.

    Args:
        options: the restoration options.
        overwrite: replace existing files.
        skip_existing: skip images that an earlier run has restored.
        comparison, record: whether to write these files beside a restored image.
        output_quality: quality of JPEG, WebP and AVIF files.
        command: the command line, for the record.
        threads: number of threads of a worker process; PyTorch's default if None.
        failures: whether to write a record for a failed image.
    """

    options: Options
    overwrite: bool = False
    skip_existing: bool = False
    comparison: bool = True
    record: bool = True
    output_quality: int | None = None
    command: str | None = None
    threads: int | None = None
    failures: bool = True


@dataclass(frozen=True)
class Item:
    """One image and the path of its restored image, in the form that is sent to workers."""

    entry: Entry
    path: Path
    batch: Batch
    deep: bool = True
    """Whether to create missing folders above `path`."""


def check_items(items: Sequence[Item]) -> None:
    """Raise `InputError` if the files of an item cannot be written, or if two items have the same output file."""
    seen: dict[str, Item] = {}
    folded: dict[Path, bool] = {}
    sources = {os.path.realpath(item.entry.source): item.entry.source for item in items if is_file(item.entry)}
    read = {os.path.realpath(file): flag for item in items[:1] for flag, file in item.batch.options.files.items()}
    for item in items:
        batch = item.batch
        kinds = {"comparison": batch.comparison, "record": batch.record, "kernel": batch.options.kind.estimates_kernel}
        replaced = batch.overwrite or batch.skip_existing
        check_targets(item.path, batch.options.samples, overwrite=replaced, deep=item.deep, **kinds)
        for target in targets(item.path, batch.options.samples, **kinds).values():
            place = os.path.realpath(target)
            if target.parent not in folded:
                folded[target.parent] = _ignores_case(target.parent)
            key = unicodedata.normalize("NFC", place).casefold() if folded[target.parent] else place
            if seen.setdefault(key, item) is not item:
                raise InputError(
                    f"{seen[key].entry.source} and {item.entry.source} would both be written to {target}: "
                    "give a --template with {stem}, or a folder for each"
                )
            if place in read:
                raise InputError(
                    f"{target} is the file of --{read[place]} and would be overwritten: choose another output"
                )
            source = sources.get(place)
            asked = batch.overwrite and source == item.entry.source and target == item.path
            if source is not None and not asked:
                raise InputError(
                    f"{source} is an input, and the restored {item.entry.source} would overwrite it: give another "
                    "--template, or another folder or file with -o"
                )


def _ignores_case(folder: Path) -> bool:
    """Whether names that differ only in case are the same file there, as on macOS and Windows."""
    there = next((place for place in (folder, *folder.absolute().parents) if place.is_dir()), Path())
    other = there.absolute().with_name(there.absolute().name.swapcase())
    return other != there.absolute() and other.exists() and other.samefile(there)
