"""Find the images of a batch (files, folders, patterns, lists and URLs) and their output paths."""

from __future__ import annotations

import glob
import hashlib
import os
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from invsolve.core.boundary import read_json, read_text
from invsolve.core.checks import InputError
from invsolve.io import LONGEST, READABLE, SUFFIXES

__all__ = ["TEMPLATE", "Entry", "Found", "entries", "find", "output_path", "targets", "without_outputs"]

TEMPLATE = "{stem}-restored{ext}"
"""The name of a restored image: the input's name without its extension, and the extension of the output file."""

STDIN = "-"

_ADDED = len("-comparison.png")

_BESIDE = ("-comparison", "-kernel", "-interval")
"""Suffixes added to the name of a restored image for further images beside it."""

_SAMPLED = ("samples", "interval.png")
"""Outputs written beside a restored image if samples are drawn: a folder and a map."""


@dataclass(frozen=True)
class Entry:
    """One image of a batch.

    Attributes:
        source: a path, a URL such as s3://bucket/name.png, or "-" for standard input.
        folder: path from the given folder to the folder of the image; the output keeps it.
        stem, ending: stem and extension of its name.
        searched: whether it was found by searching a folder or pattern, and not given by name.
    """

    source: str
    folder: PurePosixPath
    stem: str
    ending: str
    searched: bool = False

    @property
    def remote(self) -> bool:
        """Whether it must be downloaded."""
        return "://" in self.source

    @property
    def name(self) -> str:
        """The file name with its folders."""
        return str(self.folder / f"{self.stem}{self.ending}")


@dataclass(frozen=True)
class Found:
    """The images that were found, in order.

    Attributes:
        entries: the images.
        others: files in the folders that are not images.
        folders: subfolders that were not searched.
        made: images left out because earlier runs have written them, see `without_outputs`.
    """

    entries: tuple[Entry, ...]
    others: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    made: tuple[str, ...] = ()


def find(words: Sequence[str | os.PathLike[str]], *, recursive: bool = False) -> Found:
    """Find the images that the words of a command line refer to.

    A word is a file, a folder (its images sorted by name; with `recursive` also those of its subfolders), a pattern
    with `*`, `?` or `[...]`, "@FILE" for a list with one word per line, a URL that fsspec opens (s3://, gs://,
    https://), or "-" for standard input. A file that is given twice is used once.

    Raises:
        InputError: a file or folder does not exist, or nothing matches a pattern.
    """
    found: dict[str, Entry] = {}
    others: list[str] = []
    folders: list[str] = []
    for word in words:
        for entry in _of_word(os.fspath(word), recursive, others, folders):
            key = entry.source if entry.remote or entry.source == STDIN else os.path.realpath(entry.source)
            found.setdefault(key, entry)
    if not found:
        told = ", ".join(os.fspath(word) for word in words) or "nothing"
        raise InputError(f"there are no images in {told}: give image files, or also search subfolders with --recursive")
    return Found(tuple(found.values()), tuple(others), tuple(folders))


def _of_word(word: str, recursive: bool, others: list[str], folders: list[str]) -> list[Entry]:
    if word == STDIN:
        return [Entry(STDIN, PurePosixPath(), "stdin", "")]
    if "://" in word:
        path = PurePosixPath(unquote(urlsplit(word).path))
        return [Entry(word, PurePosixPath(), path.stem or "image", path.suffix)]
    path = Path(word)
    if path.is_dir():
        return _of_folder(path, recursive, others, folders)
    if word.startswith("@") and not os.path.lexists(word):
        lines = read_text(Path(word[1:]), "list of images").splitlines()
        return [entry for line in lines if line.strip() for entry in _of_word(line.strip(), recursive, others, folders)]
    if glob.has_magic(word) and not os.path.lexists(word):
        matched = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 (a pattern may begin anywhere)
        if not matched:
            raise InputError(f"no file matches the pattern {word}")
        fitting = [entry for name in matched for entry in _of_word(name, recursive, others, folders)]
        return [replace(entry, searched=True) for entry in fitting]
    if not os.path.lexists(word):
        raise InputError(f"there is no file {word}")
    return [_of_file(path, PurePosixPath())]


def _of_file(path: Path, folder: PurePosixPath, searched: bool = False) -> Entry:
    return Entry(str(path), folder, path.stem, path.suffix, searched)


def _of_folder(folder: Path, recursive: bool, others: list[str], folders: list[str]) -> list[Entry]:
    found = []
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_dir() and not recursive:
            folders.append(str(path))
        if not path.is_file():
            continue
        if path.suffix.lower() in READABLE:
            found.append(_of_file(path, PurePosixPath(path.parent.relative_to(folder).as_posix()), searched=True))
        else:
            others.append(str(path))
    return found


def entries(found: Found, shard: tuple[int, int] | None = None) -> tuple[Entry, ...]:
    """Return the images of a batch, or of one shard of it.

    If several images of a folder share a stem, their extension is added to the stem.

    Args:
        found: the images that were found.
        shard: (i, n): the i-th (from 1) of n parts. A hash of the name assigns an image to its part, so jobs of an
            array need no coordination.
    """
    names = Counter((entry.folder, entry.stem) for entry in found.entries)
    told = [
        replace(entry, stem=f"{entry.stem}-{entry.ending.lstrip('.')}")
        if names[entry.folder, entry.stem] > 1
        else entry
        for entry in found.entries
    ]
    if shard is None:
        return tuple(told)
    i, n = shard
    return tuple(entry for entry in told if _digest(entry.name) % n == i - 1)


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])


def output_path(entry: Entry, out: Path | None, template: str = TEMPLATE, ending: str | None = None) -> Path:
    """Return the output path for an image: in the folder `out`, or beside the image.

    Args:
        entry: the image.
        out: the folder; None puts the output beside the image.
        template: template of the name, with {stem}, {ext} (with its dot) and {name} (both).
        ending: extension of the output file; by default that of the image if the format can be written, else .png.

    Raises:
        InputError: a template with other fields, or one that contains a folder.
    """
    own = entry.ending if entry.ending.lower() in SUFFIXES else ".png"
    ext = own if ending is None else ending
    known = {"stem": "", "ext": ext, "name": f"{entry.stem}{ext}"}
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        if fields - known.keys():
            raise ValueError
        rest = template.format(**known)
        stem = cut(entry.stem, LONGEST - len(os.fsencode(rest)) - _ADDED)
        name = template.format(**{**known, "stem": stem})
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"a template holds {{stem}}, {{ext}} and {{name}}, got {template!r}") from error
    if os.sep in name or "/" in name or not name:
        raise InputError(f"a template must give a file name without folders, got {template!r}")
    if out is not None:
        return out / entry.folder / name
    if entry.remote or entry.source == STDIN:
        return Path(name)
    return Path(entry.source).parent / name


def targets(
    path: Path, samples: int | None, *, kernel: bool = False, comparison: bool = True, record: bool = True
) -> dict[str, Path]:
    """Return all files of a restoration at `path`, by their content; `kernel` is for tasks that estimate a blur."""
    stem = cut(path.stem, LONGEST - _ADDED)
    paths = {"restored": path}
    if comparison:
        paths["comparison"] = path.with_name(f"{stem}-comparison.png")
    if record:
        paths["record"] = path.with_name(f"{stem}.json")
    if kernel:
        paths["kernel"] = path.with_name(f"{stem}-kernel.png")
    if samples is not None and samples > 1:
        paths["interval"] = path.with_name(f"{stem}-interval.png")
        for i in range(samples):
            paths[f"sample {i + 1}"] = path.with_name(f"{stem}-samples") / f"sample{i + 1}{path.suffix}"
    return paths


def without_outputs(found: Found, *paths: Sequence[Path]) -> Found:
    """Remove images found in folders and by patterns that earlier runs have written for other images.

    These are the files that would be written now. Files with other names and formats are recognised by their record.

    Args:
        found: the images that were found.
        paths: the output path of each image; several lists if earlier outputs may be in other folders.
    """
    written: dict[Path, int] = {}
    for i, places in enumerate(zip(*paths, strict=True)):
        for path in places:
            files = targets(path, None, kernel=True)
            beside = [path.with_name(f"{files['record'].stem}-{what}") for what in _SAMPLED]
            written |= {file.absolute(): i for file in (*files.values(), *beside)}

    sources = {os.path.realpath(entry.source): i for i, entry in enumerate(found.entries)}

    def made(i: int, entry: Entry) -> bool:
        here = Path(entry.source).absolute()
        return any(written.get(place, i) != i for place in (here, here.parent)) or _recorded(here, i, sources)

    left = [entry for i, entry in enumerate(found.entries) if entry.searched and made(i, entry)]
    kept = tuple(entry for entry in found.entries if entry not in left)
    others = tuple(name for name in found.others if Path(name).absolute() not in written)
    return replace(found, entries=kept, others=others, made=tuple(entry.source for entry in left))


def _recorded(path: Path, index: int, sources: Mapping[str, int]) -> bool:
    """Whether a record says that a file was made from one of the `sources` other than the one with this index.

    The record is beside the restored image and has the same stem, without the suffixes of the other output files.
    """
    within = path.parent.name.removesuffix("-samples")
    stems = [path.stem.removesuffix(added) for added in ("", *_BESIDE)]
    homes = [path.with_name(f"{cut(stem, LONGEST - _ADDED)}.json") for stem in stems]
    if within != path.parent.name:
        homes.append(path.parent.with_name(f"{within}.json"))
    for note in dict.fromkeys(homes):
        try:
            record = read_json(note, "record") if note.is_file() else {}
        except InputError:
            continue
        outputs, told = record.get("outputs"), record.get("input")
        if not isinstance(outputs, dict) or not isinstance(told, dict) or path.name not in outputs.values():
            continue
        source = str(told.get("path"))
        places = (os.path.realpath(source), os.path.realpath(note.with_name(Path(source).name)))
        if any(sources.get(place, index) != index for place in places):
            return True
    return False


def cut(stem: str, size: int) -> str:
    """Shorten a stem to at most `size` bytes; a shortened stem ends with "~" and a hash of the full stem."""
    content = os.fsencode(stem)
    if len(content) <= size:
        return stem
    return content[: size - 9].decode(errors="ignore") + "~" + hashlib.sha256(content).hexdigest()[:8]
