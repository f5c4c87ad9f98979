"""Read foreign files and texts under limits; whatever is wrong with them becomes one `InputError`.

Every reader of the library opens files and parses texts through this module. Only regular files are opened, because a
pipe or a device could block a reader forever.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tomllib
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from invsolve.core.checks import InputError, InvsolveError
from invsolve.core.lazy import torch

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_PIXELS",
    "MAX_PIXELS_A_BYTE",
    "MAX_PROFILE_BYTES",
    "MAX_TEXT_BYTES",
    "check_archive",
    "foreign",
    "is_there",
    "load_torch",
    "number",
    "open_file",
    "parse_json",
    "parse_toml",
    "read_bytes",
    "read_json",
    "read_text",
    "read_toml",
    "whole_number",
]

MAX_PIXELS = 178_956_970
"""Larger images are refused; this is the limit above which Pillow treats a file as an attack."""

MAX_PIXELS_A_BYTE = 10_000
"""Limit of pixels for each byte of a file. No camera or editor exceeds it: one-bit PNG files reach 8 256."""

MAX_IMAGE_BYTES = 3 << 30
"""Limit of an image file: `MAX_PIXELS` of four channels, 32 bits each."""

MAX_PROFILE_BYTES = 16 << 20
"""Limit of a colour profile inside an image."""

MAX_TEXT_BYTES = 16 << 20
"""Limit of a JSON or TOML text, including the header of a safetensors file."""

MAX_PICKLE_BYTES = 4 << 20
"""Limit of the pickle in a torch file, which names the tensors but does not contain them."""

MAX_DEPTH, MAX_ENTRIES = 64, 300_000
"""Limits of the nesting depth of containers in a torch file, and of their entries in total."""


@contextmanager
def foreign(what: object) -> Iterator[None]:
    """Decode something foreign: any exception of a decoder on damaged bytes becomes an `InputError` about `what`.

    Use it around the decoder alone, so that bugs of this library are not reported as damaged files. Warnings of
    decoders are suppressed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InvsolveError:
        raise
    except MemoryError as error:
        raise InputError(f"{what} is damaged, or needs more memory than there is") from error
    except RecursionError as error:
        raise InputError(f"{what} is damaged: it is nested too deeply") from error
    except Exception as error:  # a decoder may fail in any way on bytes of another kind
        raise InputError(f"{what} is truncated or damaged: {_reason(error)}") from error


def is_there(path: str | Path) -> bool:
    """Whether the path exists; False for names that no file can have."""
    try:
        os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return False
    return True


def open_file(path: str | Path, what: str = "file", limit: int | None = None) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: path of the file; links are followed.
        what: what is expected there, for the message.
        limit: the largest allowed size in bytes.

    Raises:
        InputError: the file does not exist, is a folder, a pipe or a device, is not readable, or is larger than
            `limit`.
    """
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would block before its type could be checked.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise InputError(_not_opened(path, what, error)) from error
    status = os.fstat(descriptor)
    message = ""
    if stat.S_ISDIR(status.st_mode):
        message = f"{path} is a folder: name a file in it"
    elif not stat.S_ISREG(status.st_mode):
        message = f"{path} is a pipe or a device: copy its content into a file, and give that file"
    elif limit is not None and status.st_size > limit:
        message = f"{path} has {_size(status.st_size)}, more than the limit of {_size(limit)} (kind: {what})"
    if message:
        os.close(descriptor)
        raise InputError(message)
    return os.fdopen(descriptor, "rb")


def read_bytes(path: str | Path, what: str, limit: int) -> bytes:
    """The content of a regular file.

    Raises:
        InputError: the file cannot be opened, see `open_file`, or cannot be read.
    """
    with open_file(path, what, limit) as file:
        try:
            return file.read(limit)
        except (OSError, MemoryError) as error:
            raise InputError(f"{path} cannot be read: {_reason(error)}") from error


def read_text(path: str | Path, what: str, limit: int = MAX_TEXT_BYTES) -> str:
    """The content of a regular UTF-8 text file.

    Raises:
        InputError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        return read_bytes(path, what, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a valid {what}: it is not UTF-8 (byte {error.start})") from error


def parse_json(text: str | bytes, what: object) -> dict[str, Any]:
    """Parse the JSON object in a text.

    Raises:
        InputError: the text is too long, is not JSON, is nested too deeply, or has no object at its top.
    """
    return _table(text, what, "JSON", json.loads)


def parse_toml(text: str, what: object) -> dict[str, Any]:
    """Parse the table in a TOML text.

    Raises:
        InputError: the text is too long, is not TOML, or is nested too deeply.
    """
    return _table(text, what, "TOML", tomllib.loads)


def read_json(path: str | Path, what: str) -> dict[str, Any]:
    """Read the JSON object in a file; see `read_text` and `parse_json`."""
    return parse_json(read_text(path, what), path)


def read_toml(path: str | Path, what: str) -> dict[str, Any]:
    """Read the table in a TOML file; see `read_text` and `parse_toml`."""
    return parse_toml(read_text(path, what), path)


def load_torch(path: str | Path, what: str, *, mapped: bool = False) -> Any:
    """Load a file of `torch.save` on the CPU; only tensors and plain containers are accepted.

    Args:
        path: path of the file.
        what: what is expected there, for the message.
        mapped: leave tensors on the disk until they are used, if the format allows it.

    Raises:
        InputError: the file cannot be opened, is damaged, would run code, or is a small archive of something large. The
            cause of the error is what torch raised.
    """
    with open_file(path, what) as file:
        archive = file.read(2) == b"PK"
    if archive:
        check_archive(path)
    with foreign(f"{what} {path}"):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and archive)
    _check_nesting(content, f"{what} {path}")
    return content


def _check_nesting(content: Any, what: str) -> None:
    """Raise `InputError` for containers that are nested too deeply, including one that contains itself."""
    waiting, seen = [(content, 0)], 0
    while waiting:
        here, depth = waiting.pop()
        inside = list(here.values()) if isinstance(here, dict) else here if isinstance(here, list | tuple | set) else ()
        seen += len(inside)
        if depth > MAX_DEPTH or seen > MAX_ENTRIES:
            raise InputError(f"{what} is damaged: it is nested too deeply, or has more than {MAX_ENTRIES} entries")
        waiting += [(one, depth + 1) for one in inside if isinstance(one, dict | list | tuple | set)]


def check_archive(path: str | Path) -> None:
    """Raise `InputError` unless the parts of a torch file are uncompressed and its pickle has a usual size."""
    with foreign(path), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(f"{path} is not a torch file: its parts are compressed; unpack it, or save its content again")
    described = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if described > MAX_PICKLE_BYTES:
        raise InputError(
            f"{path} needs {_size(described)} to describe its tensors, more than the limit of {_size(MAX_PICKLE_BYTES)}"
        )


def number(table: Mapping[str, Any], name: str, default: float, *, low: float, high: float, what: object) -> float:
    """Read a number within [low, high] from a foreign table.

    Raises:
        InputError: the value is something else.
    """
    value = table.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{what}: {name} must be a number from {low:g} to {high:g}, got {value!r:.80}")
    return float(value)


def whole_number(table: Mapping[str, Any], name: str, default: int, *, low: int, high: int, what: object) -> int:
    """Read a whole number within [low, high] from a foreign table.

    Raises:
        InputError: the value is something else.
    """
    value = table.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{what}: {name} must be a whole number from {low} to {high}, got {value!r:.80}")
    return int(value)


def _table(text: str | bytes, what: object, form: str, parse: Any) -> dict[str, Any]:
    if len(text) > MAX_TEXT_BYTES:
        raise InputError(f"{what} holds a text of {_size(len(text))}, more than the limit of {_size(MAX_TEXT_BYTES)}")
    try:
        content = parse(text)
    except RecursionError as error:
        raise InputError(f"{what} holds {form} that is nested too deeply") from error
    except ValueError as error:  # bad grammar, invalid characters, and numbers of thousands of digits
        raise InputError(f"{what} is not valid {form}: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{what} holds a {type(content).__name__}, where {form} with names and values is expected")
    return content


def _not_opened(path: str | Path, what: str, error: Exception) -> str:
    match getattr(error, "errno", None):
        case errno.ENOENT | errno.ENOTDIR:
            return f"there is no {what} {path}"
        case errno.ENXIO:
            return f"{path} is a pipe, a socket or a device: copy its content into a file, and give that file"
        case errno.EISDIR:
            return f"{path} is a folder: name a file in it"
    return f"{path} cannot be read: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """The first line of an error, or the name of its type if its message is empty."""
    text = getattr(error, "strerror", None) or str(error)
    lines = str(text).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _size(n: int) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= scale:
            return f"{n / scale:.4g} {unit}"
    return f"{n} bytes"
