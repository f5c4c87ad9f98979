"""Weights from elsewhere: downloaded once, resumed, checked, and then read from a cache; nothing of them is executed.

The cache is INVSOLVE_CACHE, or a folder `invsolve` where the platform keeps caches. INVSOLVE_MIRROR names a place (the
start of a URL, or a folder) that has the files under their names; INVSOLVE_OFFLINE=1 forbids the network.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from invsolve.core.checks import InputError
from invsolve.core.files import written_whole
from invsolve.priors.loading.cards import Card

__all__ = ["cache_folder", "fetch", "fetch_repository", "is_offline", "sha256_of"]

log = logging.getLogger(__name__)

BLOCK = 1 << 20
ATTEMPTS = 4
TIMEOUT = 30.0
_WEIGHTS = "diffusion_pytorch_model"
_WANTED = (
    (["*.json", f"*{_WEIGHTS}*.safetensors"], ["*.fp16*", "*.bf16*", "*.non_ema*"]),
    (["*.json", f"*{_WEIGHTS}*.safetensors"], ["*.non_ema*"]),
    (["*.json", f"*{_WEIGHTS}*.safetensors", f"*{_WEIGHTS}*.bin"], ["*.fp16*", "*.bf16*", "*.non_ema*"]),
)
"""Of the files on the Hugging Face hub, what is wanted and what not: text encoders, which nothing here uses, are larger
than many networks. The second is for repositories that have nothing but half precision, the third for old ones."""

_PARTS = ("", "unet", "transformer", "vae", "vqvae", "movq")
"""Where a repository has networks and autoencoders."""

Progress = Callable[[int, int], None]
"""Told (bytes so far, bytes in all; 0 where unknown)."""


def cache_folder() -> Path:
    """Where fetched weights are kept; it is made if it does not exist."""
    from platformdirs import user_cache_path

    place = os.environ.get("INVSOLVE_CACHE")
    folder = Path(place) if place else user_cache_path("invsolve")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch(
    card: Card, *, mirror: str | None = None, offline: bool | None = None, progress: Progress | None = None
) -> Path:
    """The weight file of a card, from the cache or downloaded into it.

    A download that breaks off goes on where it was; one whose SHA-256 is another than the card's (or, where the card
    has none, than that of the first download) is removed. Several processes may ask at once: one downloads.

    Args:
        card: what to fetch.
        mirror: a folder, or the start of a URL, that has the card's file; INVSOLVE_MIRROR if None.
        offline: use the cache alone; INVSOLVE_OFFLINE if None.
        progress: told how far it is.

    Raises:
        InputError: not to be had, damaged, or no room for it; no half-written file is left under the file's name.
    """
    from filelock import FileLock

    if not card.file:
        raise InputError(f"{card.name} travels in the package: there is nothing to fetch")
    target = cache_folder() / card.file
    if target.is_file():
        return target
    mirror = mirror or os.environ.get("INVSOLVE_MIRROR") or None
    folder = Path(mirror).expanduser() if mirror and "://" not in mirror else None
    if folder is None and is_offline(offline):
        raise InputError(
            f"{card.name} is not in the cache and the network is not to be used: put the file at {target}, "
            "or name a folder that has it with --mirror"
        )
    with FileLock(f"{target}.lock"):
        if target.is_file():
            return target
        part = target.with_name(f"{target.name}.part")
        if folder is not None:
            _copy(folder / card.file, part, card)
        else:
            url = f"{mirror.rstrip('/')}/{card.file}" if mirror else card.url
            _download(url, part, card, progress or (lambda done, total: None))
        _verify(part, target, card)
        part.replace(target)
    return target


def fetch_repository(
    name: str, *, revision: str | None = None, mirror: str | None = None, offline: bool | None = None
) -> Path:
    """A repository of the Hugging Face hub in its own cache (HF_HOME): configurations, networks and autoencoders alone.

    Args:
        name: "organisation/name".
        revision: a branch, tag or commit; the main branch if None.
        mirror: another server of the same kind; HF_ENDPOINT if None.
        offline: use the cache alone; INVSOLVE_OFFLINE or HF_HUB_OFFLINE if None.

    Raises:
        InputError: no such repository, no network, or nothing in the cache.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise InputError("the Hugging Face hub needs: pip install 'invsolve[priors]'") from error
    settings: dict[str, Any] = {"revision": revision, "endpoint": mirror, "local_files_only": is_offline(offline)}
    try:
        folder = Path()
        for wanted, unwanted in _WANTED:
            folder = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=unwanted, **settings))
            if not any(_lacks_weights(folder / part) for part in _PARTS):
                break
        return folder
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"{name} cannot be had: it is not in the cache, and the hub was not asked or is out of reach"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{name} cannot be had from the hub: {reason}") from error


def _lacks_weights(folder: Path) -> bool:
    """Whether a folder has the configuration of a network, and no weights."""
    return (folder / "config.json").is_file() and not any(folder.glob(f"{_WEIGHTS}*"))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_offline(offline: bool | None) -> bool:
    """Whether the network is not to be used: as told, or by INVSOLVE_OFFLINE or HF_HUB_OFFLINE."""
    if offline is not None:
        return offline
    return any(os.environ.get(name, "") not in ("", "0") for name in ("INVSOLVE_OFFLINE", "HF_HUB_OFFLINE"))


def _copy(source: Path, part: Path, card: Card) -> None:
    if not source.is_file():
        raise InputError(f"the folder {source.parent} has no {card.file}")
    try:
        shutil.copyfile(source, part)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _trouble(error, part) from error


def _download(url: str, part: Path, card: Card, progress: Progress) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"only http and https are fetched from, got {url}")
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            if _continue(url, part, card, progress):
                return
            reason = "the connection broke off"
        except HTTPError as error:
            raise InputError(
                f"{url} answers {error.code} {error.reason}: use --mirror, or put the file there"
            ) from error
        except (URLError, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error))
        except OSError as error:
            part.unlink(missing_ok=True)
            raise _trouble(error, part) from error
    done = part.stat().st_size if part.exists() else 0
    raise InputError(f"{url} could not be fetched ({reason}); {done} bytes are kept: run the same again to go on")


def _continue(url: str, part: Path, card: Card, progress: Progress) -> bool:
    """One connection, from where the last one ended; whether the file is complete."""
    done = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"User-Agent": "invsolve", **({"Range": f"bytes={done}-"} if done else {})})
    try:
        response = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:
            raise
        # Nothing is left beyond what is there: complete, or of another file, which the checksum tells.
        return True
    with response:
        if response.status != 206:
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else card.bytes
        free = shutil.disk_usage(part.parent).free
        if total and total - done > free:
            part.unlink(missing_ok=True)
            raise InputError(
                f"{card.file} needs {total - done} bytes and {part.parent} has {free} free: make room, or set "
                "INVSOLVE_CACHE to another folder"
            )
        with part.open("ab" if done else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                done += len(block)
                progress(done, total)
    return not total or done >= total


def _verify(part: Path, target: Path, card: Card) -> None:
    """Compare with the card, or with the first download; a file that differs is removed."""
    found, record = sha256_of(part), target.with_name(f"{target.name}.sha256")
    expected = card.sha256 or (record.read_text().split()[0] if record.is_file() else "")
    if expected and found != expected:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{card.file} has SHA-256 {found}, {expected} was expected: it is damaged or another file and was "
            "removed: fetch it again or from elsewhere"
        )
    if not expected:
        log.warning("%s: its publisher states no checksum; SHA-256 %s is recorded", card.file, found)
    with written_whole(record) as new:
        new.write_text(f"{found}  {card.file}\n")


def _trouble(error: OSError, part: Path) -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"the disk of {part.parent} is full: make room, or set INVSOLVE_CACHE to another folder")
    return InputError(f"{part} cannot be written: {error.strerror or error}")
