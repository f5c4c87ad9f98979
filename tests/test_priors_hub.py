"""Fetching weights: resumed, checked, shared by processes, offline, from mirrors; nothing half-written is left."""

from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

import invsolve as iv
from invsolve.commands.cli import main
from invsolve.core.traits import Traits
from invsolve.priors.loading import hub
from invsolve.priors.loading.cards import Card, cards

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server(ThreadingHTTPServer):
    """Serves CONTENT as every file; remembers the requests, and may break off."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[str | None] = []
        self.break_at, self.ranges, self.delay = 0, True, 0.0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        header = self.headers.get("Range")
        self.server.requests.append(header)
        if self.path.endswith("missing.pt"):
            self.send_error(404)
            return
        start = int(header.removeprefix("bytes=").removesuffix("-")) if header and self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        body = CONTENT[start:]
        if self.server.break_at:
            body, self.server.break_at = body[: self.server.break_at], 0
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made
        made.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    for name in ("INVSOLVE_MIRROR", "INVSOLVE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INVSOLVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def card(server: Server, sha256: str | None = None, file: str = "net.pt") -> Card:
    sha256 = hashlib.sha256(CONTENT).hexdigest() if sha256 is None else sha256
    blank = dict.fromkeys(("summary", "source", "licence", "citation", "architecture"), "")
    blank |= dict.fromkeys(("value_range", "schedule", "parametrisation", "sizes"), "")
    traits, url = Traits("global", "ffhq256"), f"{server.url}/{file}"
    return Card("test", **blank, traits=traits, file=file, url=url, sha256=sha256)


def left(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} - {"net.pt.lock"}


def test_a_file_is_fetched_once_and_then_served_from_the_cache(server, cache):
    progress: list[tuple[int, int]] = []
    path = hub.fetch(card(server), progress=lambda done, total: progress.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert hub.fetch(card(server), offline=True) == path
    assert len(server.requests) == 1
    assert left(cache) == {"net.pt", "net.pt.sha256"}


def test_a_broken_connection_goes_on_where_it_was(server, cache):
    server.break_at = 300_000
    assert hub.fetch(card(server)).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-"]


def test_a_part_of_an_earlier_run_is_used_and_a_server_without_ranges_starts_anew(server, cache):
    cache.mkdir()
    (cache / "net.pt.part").write_bytes(CONTENT[:1000])
    hub.fetch(card(server))
    assert server.requests == ["bytes=1000-"]
    (cache / "net.pt").unlink()
    (cache / "net.pt.part").write_bytes(b"x" * 1000)
    server.ranges = False
    assert hub.fetch(card(server)).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_is_left(server, cache):
    with pytest.raises(iv.InputError, match=r"SHA-256 .*, expected "):
        hub.fetch(card(server, "0" * 64))
    assert left(cache) == set()


def test_without_a_published_checksum_the_first_download_is_recorded(server, cache, caplog):
    path = hub.fetch(card(server, ""))
    assert "states no checksum" in caplog.text
    path.unlink()
    record = cache / "net.pt.sha256"
    assert record.read_text().split()[0] == hashlib.sha256(CONTENT).hexdigest()
    record.write_text("1" * 64 + "  net.pt\n")
    with pytest.raises(iv.InputError, match=", expected "):
        hub.fetch(card(server, ""))


def test_a_full_disk_is_told_and_nothing_is_left(server, cache, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(hub.shutil, "disk_usage", lambda path: os.statvfs_result and type("Usage", (), {"free": 10}))
        with pytest.raises(iv.InputError, match="10 free"):
            hub.fetch(card(server))
    assert left(cache) == set()
    real = Path.open

    class Full:
        def __init__(self, file) -> None:
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.file.close()

        def write(self, block):
            self.file.write(block[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path, mode="r", **how):
        file = real(path, mode, **how)
        return Full(file) if path.name.endswith(".pt.part") and mode != "rb" else file

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(iv.InputError, match="is full"):
        hub.fetch(card(server))
    assert left(cache) == set()


def test_missing_files_dead_servers_and_other_protocols_are_told(server, cache):
    with pytest.raises(iv.InputError, match="returned 404"):
        hub.fetch(card(server, file="missing.pt"))
    server.server_close()
    with pytest.raises(iv.InputError, match="could not be downloaded"):
        hub.fetch(card(server))
    with pytest.raises(iv.InputError, match="http and https"):
        hub.fetch(card(server), mirror="ftp://somewhere")


def test_offline_mirrors_and_folders(server, cache, tmp_path, monkeypatch):
    with pytest.raises(iv.InputError, match="not in the cache"):
        hub.fetch(card(server), offline=True)
    monkeypatch.setenv("INVSOLVE_OFFLINE", "1")
    with pytest.raises(iv.InputError, match="not in the cache"):
        hub.fetch(card(server))
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "net.pt").write_bytes(CONTENT)
    monkeypatch.setenv("INVSOLVE_MIRROR", str(tmp_path / "disk"))
    assert hub.fetch(card(server)).read_bytes() == CONTENT
    assert server.requests == []
    (cache / "net.pt").unlink()
    monkeypatch.delenv("INVSOLVE_OFFLINE")
    monkeypatch.delenv("INVSOLVE_MIRROR")
    hub.fetch(card(server), mirror=server.url + "/other")
    assert len(server.requests) == 1


def _fetch(entry: Card, folder: str) -> bytes:
    os.environ["INVSOLVE_CACHE"] = folder
    return hub.fetch(entry).read_bytes()


def test_two_processes_share_one_download(server, cache):
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        contents = pool.map(partial(_fetch, folder=str(cache)), [card(server)] * 2)
    assert contents == [CONTENT, CONTENT]
    assert len(server.requests) == 1


def test_the_command_lists_shows_and_fetches(server, cache, capsys, monkeypatch, tmp_path):
    assert main(["priors", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in cards())
    assert main(["priors", "show", "ffhq256"]) == 0
    assert "CC BY-NC-SA" in capsys.readouterr().out
    (tmp_path / "ffhq_10m.pt").write_bytes(CONTENT)
    assert main(["priors", "fetch", "ffhq256", "--mirror", str(tmp_path)]) == 0
    assert Path(capsys.readouterr().out.strip()) == cache / "ffhq_10m.pt"
    assert main(["priors", "show", str(tmp_path / "no.pt")]) == 2
    assert main(["priors", "fetch", "nothing"]) == 2
    assert "no card" in capsys.readouterr().err


def test_a_file_in_the_cache_is_checked_once_and_again_when_it_has_changed(server, cache, monkeypatch):
    path = hub.fetch(card(server))
    real, asked = hub.sha256_of, []
    monkeypatch.setattr(hub, "sha256_of", lambda path: asked.append(path) or real(path))
    for _ in range(3):
        assert hub.fetch(card(server)) == path
    assert asked == []
    path.write_bytes(CONTENT)  # another time, the same bytes
    hub.fetch(card(server))
    hub.fetch(card(server))
    assert asked == [path]
    (cache / "net.pt.sha256").unlink()  # put there by hand, as a message may have asked for
    hub.fetch(card(server), offline=True)
    assert asked == [path] * 2
    path.write_bytes(CONTENT[:-1] + b"x")
    for _ in range(2):
        with pytest.raises(iv.InputError, match="remove it to fetch it again"):
            hub.fetch(card(server), offline=True)
    path.write_bytes(CONTENT)
    record = (cache / "net.pt.sha256").read_text()
    (cache / "net.pt.sha256").write_text(record.replace(record[:64], "1" * 64))  # a stamp of another checksum is none
    hub.fetch(card(server), offline=True)


def test_a_pipe_in_the_cache_is_refused(server, cache):
    cache.mkdir()
    os.mkfifo(cache / "net.pt")
    with pytest.raises(iv.InputError, match="pipe"):
        hub.fetch(card(server))


def test_more_bytes_than_the_card_has_are_not_taken(server, cache, monkeypatch):
    with pytest.raises(iv.InputError, match="larger than the expected 1000 bytes"):
        hub.fetch(replace(card(server), bytes=1000))
    assert left(cache) == set()


def test_redirections_stay_on_https():
    handler = hub._SafeRedirects()
    request = hub.Request("https://a.example/net.pt")
    with pytest.raises(iv.InputError, match="not https"):
        handler.redirect_request(request, io.BytesIO(), 302, "", {}, "http://b.example/net.pt")
    found = handler.redirect_request(request, io.BytesIO(), 302, "", {}, "https://b.example/net.pt")
    assert found is not None
    assert found.full_url == "https://b.example/net.pt"


ANSWERS = {
    "no length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc",
    "negative": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
    "no status": b"rubbish\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    "long line": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
    "odd chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "nothing": b"",
    "another part": b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes 7-9/10\r\n\r\nabc",
    "loop": b"HTTP/1.1 302 Found\r\nLocation: /net.pt\r\nContent-Length: 0\r\n\r\n",
    "a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_malformed_answers_are_told_in_a_sentence(name, cache, monkeypatch):
    class Raw(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(ANSWERS[name])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Raw) as raw:
        threading.Thread(target=raw.serve_forever, daemon=True).start()
        place = SimpleNamespace(url=f"http://127.0.0.1:{raw.server_address[1]}")
        with pytest.raises(iv.InputError) as caught:
            hub.fetch(card(place))  # pyright: ignore[reportArgumentType]
        raw.shutdown()
    assert "\n" not in str(caught.value)
    assert not (cache / "net.pt").exists()


def test_a_cache_that_cannot_be_is_told(server, cache, monkeypatch):
    monkeypatch.setenv("INVSOLVE_CACHE", "/dev/null/cache")
    with pytest.raises(iv.InputError, match="INVSOLVE_CACHE"):
        hub.fetch(card(server))


def test_every_name_has_a_card_and_every_card_a_name():
    from invsolve.priors import PRIORS

    assert set(cards()) <= set(PRIORS)
    for entry in cards().values():
        assert all((entry.summary, entry.source, entry.licence, entry.citation, entry.schedule, entry.sizes))
        assert not entry.file or entry.url.startswith("https://")
