"""Downloads of weights: resumable, checked, and then read from a cache; nothing in them is executed.

The cache is INVSOLVE_CACHE, or a folder `invsolve` in the platform's cache folder. INVSOLVE_MIRROR is a place (the
start of a URL, or a folder) with the files under their names; INVSOLVE_OFFLINE=1 forbids the network.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from invsolve.core.boundary import open_file, read_text
from invsolve.core.checks import InputError
from invsolve.core.files import written_whole
from invsolve.priors.loading.cards import Card

__all__ = ["cache_folder", "fetch", "is_offline", "sha256_of"]

log = logging.getLogger(__name__)

BLOCK = 1 << 20
ATTEMPTS = 4
TIMEOUT = 30.0
SLOWEST, PATIENCE = 1024, 60
"""Slowest accepted rate in bytes per second, and the seconds after which a slower connection is closed."""
MAX_BYTES = 64 << 30
"""Largest size of a file if neither its card nor the server gives a size."""
Progress = Callable[[int, int], None]
"""A function called with (bytes so far, total bytes; 0 if unknown)."""


def cache_folder() -> Path:
    """The cache folder of downloaded weights; it is created if it does not exist.

    Raises:
        InputError: the folder cannot be created.
    """
    from platformdirs import user_cache_path

    place = os.environ.get("INVSOLVE_CACHE")
    folder = Path(place).expanduser() if place else user_cache_path("invsolve")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the cache {folder} cannot be created ({error.strerror}): set INVSOLVE_CACHE to another folder"
        ) from error
    return folder


def fetch(
    card: Card, *, mirror: str | None = None, offline: bool | None = None, progress: Progress | None = None
) -> Path:
    """Return the weight file of a card, from the cache or downloaded into it.

    An interrupted download is resumed. A download whose SHA-256 differs from that of the card (or, if the card has
    none, from that of the first download) is removed. A file in the cache is checked in the same way before its first
    use, and again when its size or modification time has changed. If several processes ask at once, only one downloads.

    Args:
        card: the card of the prior.
        mirror: a folder, or the start of a URL, with the card's file; INVSOLVE_MIRROR if None.
        offline: do not use the network; INVSOLVE_OFFLINE or HF_HUB_OFFLINE if None.
        progress: function that is called with the progress.

    Raises:
        InputError: the file is not available or damaged, or the disk is full. No partial file is left under the file's
            name.
    """
    if not card.file:
        raise InputError(f"{card.name} is part of the package: there is nothing to fetch")
    target = cache_folder() / card.file
    if target.exists():
        _check_cached(target, card)
        return target
    mirror = mirror or os.environ.get("INVSOLVE_MIRROR") or None
    folder = Path(mirror).expanduser() if mirror and "://" not in mirror else None
    if folder is None and is_offline(offline):
        raise InputError(
            f"{card.name} is not in the cache and network access is disabled: put the file at {target}, or give a "
            "folder that has it with --mirror"
        )
    with _locked(target):
        if target.exists():
            _check_cached(target, card)
            return target
        part = target.with_name(f"{target.name}.part")
        if folder is not None:
            _copy(folder / card.file, part, card)
        else:
            url = f"{mirror.rstrip('/')}/{card.file}" if mirror else card.url
            _download(url, part, card, progress or (lambda done, total: None))
        _verify(part, target, card)
    return target


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_offline(offline: bool | None) -> bool:
    """Whether the network must not be used: `offline` if given, else by INVSOLVE_OFFLINE or HF_HUB_OFFLINE."""
    if offline is not None:
        return offline
    return any(os.environ.get(name, "") not in ("", "0") for name in ("INVSOLVE_OFFLINE", "HF_HUB_OFFLINE"))


def _copy(source: Path, part: Path, card: Card) -> None:
    if not source.exists():
        raise InputError(f"the folder {source.parent} has no {card.file}")
    open_file(source, "weight file").close()
    try:
        shutil.copyfile(source, part)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _trouble(error, part) from error


def _download(url: str, part: Path, card: Card, progress: Progress) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"only http and https addresses can be downloaded, got {url}")
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            if _continue(url, part, card, progress):
                return
            reason = "the connection was lost"
        except HTTPError as error:
            error.close()
            answer = " ".join(f"{error.code} {error.reason}".split())[:200]
            raise InputError(f"{url} returned {answer}: use --mirror, or put the file there") from error
        except (URLError, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error))
        except (HTTPException, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = " ".join(f"invalid response: {type(error).__name__} {error}".split())[:200]
        except OSError as error:
            part.unlink(missing_ok=True)
            raise _trouble(error, part) from error
    done = part.stat().st_size if part.exists() else 0
    raise InputError(
        f"{url} could not be downloaded ({reason}); {done} bytes are kept: run the same command again to continue"
    )


class _SafeRedirects(HTTPRedirectHandler):
    """Follow redirects, but not from https to another scheme."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if urlsplit(newurl).scheme != "https" and urlsplit(req.full_url).scheme == "https":
            fp.close()
            raise InputError(f"{req.full_url} leads to {newurl:.200}, which is not https: use --mirror")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _continue(url: str, part: Path, card: Card, progress: Progress) -> bool:
    """Continue the download in one connection; return whether the file is complete."""
    done = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"User-Agent": "invsolve", **({"Range": f"bytes={done}-"} if done else {})})
    try:
        response = build_opener(_SafeRedirects).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        # No bytes are left: the file is complete, or it is another file, which the checksum detects.
        return True
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            if response.status == 206:
                part.unlink(missing_ok=True)
                raise ValueError("the server sent a part of the file that was not requested")
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else card.bytes
        limit = card.bytes or total or MAX_BYTES
        if max(total, done) > limit or total < 0:
            raise _too_large(part, card, limit)
        free = shutil.disk_usage(part.parent).free
        if total and total - done > free:
            part.unlink(missing_ok=True)
            raise InputError(
                f"{card.file} needs {total - done} bytes and {part.parent} has {free} free: make room, or set "
                "INVSOLVE_CACHE to another folder"
            )
        began, first = time.monotonic(), done
        with part.open("ab" if done else "wb") as file:
            while block := response.read1(BLOCK):
                file.write(block)
                done += len(block)
                if done > limit:
                    raise _too_large(part, card, limit)
                if time.monotonic() - began > PATIENCE + (done - first) / SLOWEST:
                    raise TimeoutError(f"the download is slower than {SLOWEST} bytes per second")
                progress(done, total)
    return not total or done >= total


def _too_large(part: Path, card: Card, limit: int) -> InputError:
    part.unlink(missing_ok=True)
    return InputError(f"the download of {card.file} is larger than the expected {limit} bytes: fetch it from elsewhere")


def _check_cached(target: Path, card: Card) -> None:
    """Raise `InputError` unless a cached file matches the checksum of the card, or the recorded one if it has none."""
    with open_file(target, "weight file"):
        status = target.stat()
    expected, stamp = _recorded(target)
    expected = card.sha256 or expected
    if stamp == _stamp(expected, status):
        return
    found = sha256_of(target)
    if expected and found != expected:
        raise InputError(
            f"{target} has SHA-256 {found}, expected {expected}: it is damaged or another file; remove it "
            "to fetch it again"
        )
    _record(target, card, found, status)


def _verify(part: Path, target: Path, card: Card) -> None:
    """Move a download to its place, or remove it if it does not match the checksum of the card or the recorded one."""
    found = sha256_of(part)
    expected = card.sha256 or _recorded(target)[0]
    if expected and found != expected:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{card.file} has SHA-256 {found}, expected {expected}: it is damaged or another file and was "
            "removed: fetch it again or from elsewhere"
        )
    part.replace(target)
    _record(target, card, found, target.stat())


def _record(target: Path, card: Card, found: str, status: os.stat_result) -> None:
    """Record a checksum in the format of `sha256sum`, with the size and modification time of the file."""
    if not card.sha256 and not _recorded(target)[0]:
        log.warning("%s: its publisher states no checksum; SHA-256 %s is recorded", card.file, found)
    try:
        with written_whole(_record_path(target)) as new:
            new.write_text(f"{found}  {card.file}\n# checked: {_stamp(found, status)}\n", encoding="utf-8")
    except OSError as error:
        log.warning("%s cannot be written (%s): the file is checked again next time", _record_path(target), error)


def _recorded(target: Path) -> tuple[str, str]:
    """The recorded checksum and its stamp; empty if there is no record."""
    path = _record_path(target)
    if not path.exists():
        return "", ""
    lines = [*read_text(path, "record of a checksum", 4096).splitlines(), "", ""]
    return lines[0].split(" ", 1)[0], lines[1].removeprefix("# checked: ")


def _record_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _stamp(sha256: str, status: os.stat_result) -> str:
    return f"{sha256} {status.st_size} {status.st_mtime_ns}"


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    from filelock import FileLock

    lock = FileLock(f"{target}.lock")
    try:
        lock.acquire()
    except OSError as error:
        raise _trouble(error, target) from error
    try:
        yield
    finally:
        lock.release()


def _trouble(error: OSError, part: Path) -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"the disk of {part.parent} is full: make room, or set INVSOLVE_CACHE to another folder")
    return InputError(f"{part} cannot be written: {error.strerror or error}")
