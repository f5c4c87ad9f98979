"""The page in a real browser, where Gradio and Chromium are installed, and what it is made of everywhere."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from invsolve.app.words import command_line, python_lines, seconds_left
from invsolve.commands.cli import main
from invsolve.io import Image, read_image, write_image

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 90_000


def test_the_command_of_a_hostile_name_is_one_word_of_the_shell():
    name = "-rf $(touch x); 'a' \"b\".png"
    line = command_line(name, "denoise", {"noise": 0.1, "blur_sigma": -1}, "out.png")
    words = ["invsolve", "restore", f"./{name}", "--task", "denoise", "--noise", "0.1", "--blur-sigma=-1"]
    assert shlex.split(line) == [*words, "-o", "out.png"]
    compile(python_lines(name, "denoise", {"noise": 0.1}, "out.png"), "lines", "exec")


def test_time_left():
    assert seconds_left(10, 0.5) == "about 10 s left"
    assert seconds_left(100, 0.25) == "about 5 min left"


@pytest.mark.parametrize("words", [["--port", "0"], ["--max-pixels", "0"], ["--device", "abacus"]])
def test_the_command_refuses_what_it_cannot_serve(words, capsys):
    assert main(["app", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["app"]) == 2
    assert "pip install 'invsolve[app]'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of the command in a process of its own; at its end nothing is left of the visitors' files."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("Gradio is not installed: pip install 'invsolve[app]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = tmp_path_factory.mktemp("app")
    words = [sys.executable, "-m", "invsolve", "app", "--port", port, "--max-pixels", "300000"]
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
    sync_api = pytest.importorskip("playwright.sync_api")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    chromium = next((path for path in found if path), None)
    if chromium is None:
        pytest.skip("no Chromium is installed: make browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def page(address, browser):
    """A visitor's page; at the end nothing was asked of another host and nothing was written to the console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.extend(_elsewhere(request.url, address)))
    page.goto(address)
    page.locator("button.iv-example").first.wait_for()
    yield page
    context.close()
    assert wrong == []


def _elsewhere(url: str, address: str) -> list[str]:
    parts = urlsplit(url)
    return [] if parts.scheme in ("data", "blob") or parts.netloc == urlsplit(address).netloc else [url]


def _choose(page, path: Path) -> None:
    page.locator("#iv-image input[type=file]").set_input_files(str(path))
    page.locator("#iv-image img").wait_for()


def _restore(page) -> None:
    page.get_by_label("Fast", exact=True).check()
    page.locator("#iv-go").click()
    page.get_by_text("Done in").wait_for()


@pytest.fixture
def small(tmp_path) -> Path:
    pixels = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    return write_image(tmp_path / "<b>small & 'old'.png", Image(pixels, None, 8))


def test_from_an_example_to_the_files(page, tmp_path):
    page.locator("button.iv-example", has_text="Noisy").click()
    page.locator("#iv-image img").wait_for()
    _restore(page)
    page.locator("#iv-slider img").first.wait_for()
    assert "pixels" in page.locator("#iv-found").inner_text()
    files = {}
    for ending in ("restored.png", "restored.json"):
        with page.expect_download() as download:
            page.locator(f"#iv-files a[download$='{ending}']").first.click()
        files[ending] = tmp_path / ending
        download.value.save_as(files[ending])
    assert read_image(files["restored.png"]).pixels.shape == (3, 160, 160)
    record = json.loads(files["restored.json"].read_text())
    assert record["command"] == ("invsolve restore noisy.png --task denoise --quality fast -o noisy-restored.png")
    assert record["noise"]["source"] == "estimated"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.screenshot(path=tmp_path / "app.png", full_page=True)


def test_what_is_painted_is_filled_in_and_the_rest_stays(page, small, tmp_path):
    _choose(page, small)
    page.get_by_label("Parts are missing").check()
    canvas = page.locator("#iv-mask canvas").first
    canvas.wait_for()
    page.wait_for_timeout(2000)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 12, y + 6, steps=6)
    page.mouse.up()
    page.wait_for_timeout(1500)
    _restore(page)
    with page.expect_download() as download:
        page.locator("#iv-files a[download$='-mask.png']").first.click()
    download.value.save_as(tmp_path / "mask.png")
    mask = read_image(tmp_path / "mask.png").pixels[0]
    assert mask.shape == (48, 64)
    assert 0.005 < float((mask > 0.5).float().mean()) < 0.6
    assert mask[0, 0] == 0


def test_stop_ends_the_run(page, tmp_path):
    pixels = torch.rand(3, 192, 192, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    _choose(page, write_image(tmp_path / "large.png", Image(pixels, None, 8)))
    page.get_by_text("More settings").click()
    page.get_by_label("Number of samples").fill("12")
    page.locator("#iv-go").click()
    page.get_by_text("Restoring, ").wait_for()
    page.locator("#iv-stop").click()
    page.get_by_text("Stopped. Nothing was restored.").wait_for()
    assert page.locator("#iv-go").is_visible()
    page.get_by_label("Number of samples").fill("")
    _restore(page)  # the place is free again


def test_errors_are_one_sentence_in_a_toast(page, tmp_path):
    page.locator("#iv-go").click()
    toast = page.get_by_text("Choose an image first")
    toast.wait_for()
    big = write_image(tmp_path / "big.png", Image(torch.full((3, 600, 600), 0.5), None, 8))
    _choose(page, big)
    page.locator("#iv-go").click()
    page.get_by_text("this page takes 300000").wait_for()
    page.get_by_text("More settings").click()
    page.get_by_label("Noise level").fill("loud")
    page.locator("#iv-go").click()
    page.get_by_text("Noise level is a number, got 'loud'").wait_for()
    assert page.locator("#iv-go").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone(page, address, theme):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{address}?__theme={theme}")
    page.locator("button.iv-example").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert ("dark" in page.evaluate("document.body.className")) == (theme == "dark")
