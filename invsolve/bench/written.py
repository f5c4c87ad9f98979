"""Made files in a folder that may hold other files: only files that were made earlier, and are unchanged, are replaced.

The file `written.json` of the folder lists the digests of all files that were ever written there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from invsolve.bench.outcomes import digest_of
from invsolve.core.boundary import read_json
from invsolve.core.checks import InputError
from invsolve.core.files import write_whole

__all__ = ["check_unwritten", "write_files"]

RECORD = "written.json"


def check_unwritten(folder: Path, names: Iterable[str], *, overwrite: bool) -> None:
    """Raise `InputError` if a file to write exists that `write_files` did not write, unless `overwrite` is set.

    Args:
        folder: the folder to write to.
        names: the names of the files to write.
        overwrite: whether any file may be replaced.
    """
    known = set() if overwrite else _known(folder)
    for name in names:
        path = folder / name
        if path.is_symlink() or not os.path.lexists(path):  # a link is replaced, and its target is kept
            continue
        if path.is_dir():
            raise InputError(f"{path} is a folder, where a file is to be written: choose another output")
        if not overwrite and not (path.is_file() and digest_of(path.read_bytes()) in known):
            raise InputError(
                f"{path} was not written by this command, or was edited since: choose another output or overwrite it "
                "with --overwrite (overwrite=True)"
            )


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files of these names and contents, and record their digests; first call `check_unwritten`."""
    known = _known(folder) | {digest_of(content) for content in contents.values()}
    write_whole(folder / RECORD, json.dumps({"sha256": sorted(known)}, indent=1).encode())
    for name, content in contents.items():
        write_whole(folder / name, content)


def _known(folder: Path) -> set[str]:
    path = folder / RECORD
    if path.is_symlink() or not path.is_file():
        return set()
    known = read_json(path, "record of written files").get("sha256")
    if not isinstance(known, list):
        raise InputError(f"{path} is not a record of written files: move it, or choose another output")
    return {str(digest) for digest in known}
