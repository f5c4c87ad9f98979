"""The app in a process of its own, and a visitor's page in a browser: fixtures and what tests of it share."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from chromium import chromium

from invsolve.io import Image, write_image

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 240_000


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """Of the command in a process of its own; at its end nothing is left of the visitors' files."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("Gradio is not installed: pip install 'invsolve[app]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = tmp_path_factory.mktemp("app")
    from benchtoy import toy

    from invsolve.bench.runner import run
    from invsolve.bench.store import Store

    with Store.writing(folder / "toy") as store:
        run(toy(folder), store)
    words = [sys.executable, "-m", "invsolve", "app", "--port", port, "--max-pixels", "300000", "--max-megabytes", "2"]
    words += ["--store", str(folder / "toy")]
    said = folder / "said.txt"
    (folder / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(folder / "tmp")}
    with (
        said.open("w") as out,
        subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env=environment) as process,
    ):
        try:
            end = time.monotonic() + PATIENCE / 1000
            while "http" not in said.read_text() and process.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
            assert said.read_text().startswith(f"http://127.0.0.1:{port}/"), said.read_text()
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                process.kill()  # nothing where it has ended
    assert "Traceback" not in said.read_text()
    assert list((folder / "tmp").glob("invsolve-app-*")) == []


@pytest.fixture(scope="module")
def browser():
    with chromium(*FLAGS.split()) as browser:
        yield browser


@pytest.fixture
def console() -> list[str]:
    """What was written to the console of the visitor's page that should not be, and what was asked of another host."""
    return []


@pytest.fixture
def page(address, browser, console):
    """A visitor's page; at the end nothing was asked of another host and nothing was written to the console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: console.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: console.append(str(error)))
    page.on("request", lambda request: console.extend(elsewhere(request.url, address)))
    page.goto(address)
    page.locator("button.iv-example").first.wait_for()
    yield page
    for width in (1280, 390):  # whatever the test has left on the page
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
    assert console == []


def elsewhere(url: str, address: str) -> list[str]:
    parts = urlsplit(url)
    return [] if parts.scheme in ("data", "blob") or parts.netloc == urlsplit(address).netloc else [url]


@pytest.fixture(scope="session")
def picture(tmp_path_factory):
    """Keep a screenshot, small: INVSOLVE_SCREENSHOTS=docs/images makes those of docs/app.md."""
    from PIL import Image as pillow

    folder = Path(os.environ.get("INVSOLVE_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))

    def keep(seen, name: str, **told) -> None:
        path = folder / f"app-{name}.png"
        seen.screenshot(path=path, **told)
        with pillow.open(path) as image:
            small = image.convert("RGB").quantize(160, method=pillow.Quantize.MEDIANCUT)
        small.save(path, optimize=True)
        assert path.stat().st_size < 250_000

    return keep


@pytest.fixture
def small(tmp_path) -> Path:
    pixels = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    return write_image(tmp_path / "<b>small & 'old'.png", Image(pixels, None, 8))


def choose(page, path: Path) -> None:
    """Upload the image that is to be restored."""
    page.locator("#iv-image input[type=file]").set_input_files(str(path))
    page.locator("#iv-image img").wait_for()


def until(act, seen) -> None:
    """Do it until its effect is seen: what has just been opened on a busy machine may not listen yet."""
    from playwright.sync_api import TimeoutError as Late

    for _ in range(10):
        act()
        try:
            return seen.wait_for(timeout=20_000)
        except Late:
            continue
    seen.wait_for(timeout=20_000)


def run_fast(page) -> None:
    """Restore at the lowest quality, and wait for it."""
    page.get_by_label("Fast", exact=True).check()
    page.locator("#iv-go").click()
    page.get_by_text("Done in").wait_for()


def saved(page, link, path: Path) -> Path:
    """Click a link that downloads a file, and keep the file."""
    with page.expect_download() as download:
        link.click()
    download.value.save_as(path)
    return path


def tab(page, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab", name=name, exact=True).click()
