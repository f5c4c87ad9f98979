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

__all__ = ["cache_folder", "complete_text_encoders", "fetch", "fetch_repository", "is_offline", "sha256_of"]

log = logging.getLogger(__name__)

BLOCK = 1 << 20
ATTEMPTS = 4
TIMEOUT = 30.0
SLOWEST, PATIENCE = 1024, 60
"""Bytes a second below which a connection is given up, after so many seconds."""
MAX_BYTES = 64 << 30
"""Of a file whose size neither its card nor its server tells."""
_WEIGHTS = "diffusion_pytorch_model"
_WANTED = (
    (["*.json", "invsolve.safetensors", f"*{_WEIGHTS}*.safetensors"], ["*.fp16*", "*.bf16*", "*.non_ema*"]),
    (["*.json", f"*{_WEIGHTS}*.safetensors"], ["*.non_ema*"]),
    (["*.json", f"*{_WEIGHTS}*.safetensors", f"*{_WEIGHTS}*.bin"], ["*.fp16*", "*.bf16*", "*.non_ema*"]),
)
"""Patterns of the files to download from the Hugging Face hub, and of those to leave out. The second pair is for
repositories with half precision only, the third for old ones. Text encoders are downloaded when a prompt is given."""

_TEXTS = ["text_encoder*/*", "tokenizer*/*"]

_PARTS = ("", "unet", "transformer", "vae", "vqvae", "movq")
"""Where a repository has networks and autoencoders."""

Progress = Callable[[int, int], None]
"""Told (bytes so far, bytes in all; 0 where unknown)."""


def cache_folder() -> Path:
    """Where fetched weights are kept; it is made if it does not exist.

    Raises:
        InputError: it cannot be made.
    """
    from platformdirs import user_cache_path

    place = os.environ.get("INVSOLVE_CACHE")
    folder = Path(place).expanduser() if place else user_cache_path("invsolve")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the cache {folder} cannot be made ({error.strerror}): set INVSOLVE_CACHE to another folder"
        ) from error
    return folder


def fetch(
    card: Card, *, mirror: str | None = None, offline: bool | None = None, progress: Progress | None = None
) -> Path:
    """The weight file of a card, from the cache or downloaded into it.

    A download that breaks off goes on where it was; one whose SHA-256 is another than the card's (or, where the card
    has none, than that of the first download) is removed. A file in the cache is checked in the same way before it is
    used: once, and again when its size or its time has changed. Several processes may ask at once: one downloads.

    Args:
        card: what to fetch.
        mirror: a folder, or the start of a URL, that has the card's file; INVSOLVE_MIRROR if None.
        offline: use the cache alone; INVSOLVE_OFFLINE if None.
        progress: told how far it is.

    Raises:
        InputError: not to be had, damaged, or no room for it; no half-written file is left under the file's name.
    """
    if not card.file:
        raise InputError(f"{card.name} travels in the package: there is nothing to fetch")
    target = cache_folder() / card.file
    if target.exists():
        _check_cached(target, card)
        return target
    mirror = mirror or os.environ.get("INVSOLVE_MIRROR") or None
    folder = Path(mirror).expanduser() if mirror and "://" not in mirror else None
    if folder is None and is_offline(offline):
        raise InputError(
            f"{card.name} is not in the cache and the network is not to be used: put the file at {target}, "
            "or name a folder that has it with --mirror"
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
    settings: dict[str, Any] = {"revision": revision, "endpoint": mirror, "local_files_only": is_offline(offline)}
    folder = Path()
    for wanted, unwanted in _WANTED:
        folder = _snapshot(name, allow_patterns=wanted, ignore_patterns=unwanted, **settings)
        if not any(_lacks_weights(folder / part) for part in _PARTS):
            break
    return folder


def complete_text_encoders(folder: Path) -> None:
    """Download the text encoders of a pipeline that `fetch_repository` downloaded without them.

    Args:
        folder: the pipeline's folder, models--ORGANISATION--NAME/snapshots/COMMIT in the hub's cache.

    Raises:
        InputError: the weights are missing, and the folder is not in the hub's cache or the hub cannot be reached.
    """
    encoder = folder / "text_encoder"
    if any(encoder.glob("*.safetensors")) or any(encoder.glob("*.bin")):
        return
    repository = folder.parent.parent.name
    if not repository.startswith("models--"):
        raise InputError(f"{encoder} has no weights: add model.safetensors of the pipeline's text encoder")
    name, commit = repository.removeprefix("models--").replace("--", "/", 1), folder.name
    unwanted = ["*.fp16*", "*.bf16*", "*.msgpack", "*.h5", "*.onnx*"]
    for rest in (["*.bin"], ["*.safetensors"]):
        _snapshot(
            name,
            revision=commit,
            allow_patterns=_TEXTS,
            ignore_patterns=unwanted + rest,
            local_files_only=is_offline(None),
        )
        if any(encoder.glob("*.safetensors")):
            return


def _snapshot(name: str, **options: Any) -> Path:
    """The folder of a repository in the hub's cache, after downloading what is missing."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise InputError("the Hugging Face hub needs: pip install 'invsolve[priors]'") from error
    try:
        return Path(snapshot_download(name, **options))
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
        raise InputError(f"only http and https are fetched from, got {url}")
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            if _continue(url, part, card, progress):
                return
            reason = "the connection broke off"
        except HTTPError as error:
            error.close()
            answer = " ".join(f"{error.code} {error.reason}".split())[:200]
            raise InputError(f"{url} answers {answer}: use --mirror, or put the file there") from error
        except (URLError, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error))
        except (HTTPException, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = " ".join(f"the answer is no proper one: {type(error).__name__} {error}".split())[:200]
        except OSError as error:
            part.unlink(missing_ok=True)
            raise _trouble(error, part) from error
    done = part.stat().st_size if part.exists() else 0
    raise InputError(f"{url} could not be fetched ({reason}); {done} bytes are kept: run the same again to go on")


class _SafeRedirects(HTTPRedirectHandler):
    """Follows redirections, but not away from https."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if urlsplit(newurl).scheme != "https" and urlsplit(req.full_url).scheme == "https":
            fp.close()
            raise InputError(f"{req.full_url} leads to {newurl:.200}, which is not https: use --mirror")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _continue(url: str, part: Path, card: Card, progress: Progress) -> bool:
    """One connection, from where the last one ended; whether the file is complete."""
    done = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"User-Agent": "invsolve", **({"Range": f"bytes={done}-"} if done else {})})
    try:
        response = build_opener(_SafeRedirects).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        # Nothing is left beyond what is there: complete, or of another file, which the checksum tells.
        return True
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            if response.status == 206:
                part.unlink(missing_ok=True)
                raise ValueError("another part of the file than was asked for")
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
                    raise TimeoutError(f"less than {SLOWEST} bytes a second come")
                progress(done, total)
    return not total or done >= total


def _too_large(part: Path, card: Card, limit: int) -> InputError:
    part.unlink(missing_ok=True)
    return InputError(f"{card.file} is offered with more than the {limit} bytes that it has: fetch it from elsewhere")


def _check_cached(target: Path, card: Card) -> None:
    """Raise `InputError` unless a file in the cache is the card's, or for want of that the one recorded first."""
    with open_file(target, "weight file"):
        status = target.stat()
    expected, stamp = _recorded(target)
    expected = card.sha256 or expected
    if stamp == _stamp(expected, status):
        return
    found = sha256_of(target)
    if expected and found != expected:
        raise InputError(
            f"{target} has SHA-256 {found}, {expected} was expected: it is damaged, or another file; remove it, so "
            "that it is fetched again"
        )
    _record(target, card, found, status)


def _verify(part: Path, target: Path, card: Card) -> None:
    """Put what was fetched at its place, or remove it where it is not the card's, or the one recorded first."""
    found = sha256_of(part)
    expected = card.sha256 or _recorded(target)[0]
    if expected and found != expected:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{card.file} has SHA-256 {found}, {expected} was expected: it is damaged or another file and was "
            "removed: fetch it again or from elsewhere"
        )
    part.replace(target)
    _record(target, card, found, target.stat())


def _record(target: Path, card: Card, found: str, status: os.stat_result) -> None:
    """Remember a checksum as `sha256sum` writes it, and of which size and time of the file it is."""
    if not card.sha256 and not _recorded(target)[0]:
        log.warning("%s: its publisher states no checksum; SHA-256 %s is recorded", card.file, found)
    try:
        with written_whole(_record_path(target)) as new:
            new.write_text(f"{found}  {card.file}\n# checked: {_stamp(found, status)}\n", encoding="utf-8")
    except OSError as error:
        log.warning("%s cannot be written (%s): the file is checked again next time", _record_path(target), error)


def _recorded(target: Path) -> tuple[str, str]:
    """The recorded checksum and its stamp; empty where there are none."""
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
