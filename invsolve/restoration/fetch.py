"""Make the images of a batch available as local files, wherever they come from."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invsolve.core.boundary import MAX_IMAGE_BYTES
from invsolve.core.checks import InputError
from invsolve.restoration.sources import STDIN, Entry

__all__ = ["is_file", "local"]


def is_file(entry: Entry) -> bool:
    """Whether an image is a local file."""
    return not entry.remote and entry.source != STDIN


@contextmanager
def local(entry: Entry) -> Iterator[Path]:
    """Provide the image as a local file; a downloaded file is deleted when the block ends.

    Raises:
        InputError: the image cannot be fetched, or is larger than the size limit.
    """
    if is_file(entry):
        yield Path(entry.source)
        return
    content = _standard_input() if entry.source == STDIN else _fetched(entry.source)
    with tempfile.TemporaryDirectory(prefix="invsolve-") as folder:
        path = Path(folder) / f"image{entry.ending}"
        path.write_bytes(content)
        yield path


def _standard_input() -> bytes:
    content = sys.stdin.buffer.read(MAX_IMAGE_BYTES + 1)
    if not content:
        raise InputError("standard input is empty: pipe an image into the command, as in: cat a.png | invsolve ... -")
    return content


def _fetched(address: str) -> bytes:
    try:
        import fsspec

        with fsspec.open(address, "rb") as file:
            content = file.read(MAX_IMAGE_BYTES + 1)  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise InputError(f"{address} needs a package: {error}") from error
    except Exception as error:  # each storage backend has its own errors
        raise InputError(f"{address} cannot be read: {type(error).__name__}: {error}") from error
    if len(content) > MAX_IMAGE_BYTES:
        raise InputError(f"{address} has more than the {MAX_IMAGE_BYTES >> 30} GiB that are read")
    return content
