"""The page in a real browser, where Gradio and Chromium are installed, and what it is made of everywhere."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from benchtoy import toy
from chromium import chromium

import invsolve as iv
from invsolve.app.words import command_line, python_lines, seconds_left, suggestion
from invsolve.bench.runner import run
from invsolve.bench.store import Store
from invsolve.commands.cli import main
from invsolve.core.checks import InputError
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


def test_what_a_look_found_is_said_in_plain_words():
    found = {"noise": 0.1, "jpeg_quality": None, "missing": 0.0, "found": ["a", "b"]}
    task, said = suggestion({**found, "task": "denoise"}, ["denoise"])
    assert task == "denoise"
    assert "Looks like “Noisy or grainy”: noise strong (10 % of the step from black to white)." in said
    found = {"noise": 0.001, "jpeg_quality": 90, "missing": 0.02, "found": ["a", "nothing is done"]}
    task, said = suggestion({**found, "task": "unchanged"}, ["denoise"])
    assert task == "auto"
    assert "JPEG of quality 90, 2 % of the pixels are transparent" in said
    assert suggestion({**found, "task": "demosaic"}, ["denoise"])[0] == "auto"


def test_a_run_ends_at_its_deadline_and_few_samples_are_drawn():
    pytest.importorskip("gradio")
    from invsolve.app.running import Engine, Run

    engine, run = Engine("natural", "cpu", 1000, seconds=0.0), Run(lambda own: None)
    with suppress(InputError), engine.computing(run):
        pass
    with pytest.raises(InputError, match="longer than the page allows"):
        run.check()
    with pytest.raises(InputError, match="at most 32 samples, got 33"):
        engine.options("denoise", samples=33)
    with pytest.raises(InputError, match="this page takes 1000"):
        engine.check_pixels(40, 40)


def test_settings_of_a_method_may_be_lists():
    pytest.importorskip("gradio")
    from invsolve.app.compare_tab import read_settings

    assert read_settings("n_steps=20, ratios=[1.0, 0.1],start=smooth") == {
        "n_steps": 20, "ratios": [1.0, 0.1], "start": "smooth",
    }  # fmt: skip
    with pytest.raises(InputError, match="n_steps=20"):
        read_settings("n_steps")


def test_time_left():
    assert seconds_left(10, 0.5) == "about 10 s left"
    assert seconds_left(100, 0.25) == "about 5 min left"


@pytest.mark.parametrize(
    "words", [["--port", "0"], ["--max-pixels", "0"], ["--queue", "0"], ["--device", "abacus"], ["--store", "nowhere"]]
)
def test_the_command_refuses_what_it_cannot_serve(words, capsys):
    assert main(["app", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["app"]) == 2
    assert "pip install 'invsolve[app]'" in capsys.readouterr().err


SERVING = """
import ast, sys
from invsolve.commands.app import without_stubs
parsed = []
parse = ast.parse
ast.parse = lambda *args, **told: (parsed.append(1), parse(*args, **told))[1]
with without_stubs():
    from invsolve.app import page
page._warm = lambda examples: None
with page.served(port=None):
    print("torch" in sys.modules, len(parsed) < 20)
"""


def test_the_page_waits_neither_for_torch_nor_for_stub_files():
    """Both take as long as all the rest of the start."""
    pytest.importorskip("gradio")
    found = subprocess.run([sys.executable, "-c", SERVING], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of the command in a process of its own; at its end nothing is left of the visitors' files."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("Gradio is not installed: pip install 'invsolve[app]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = tmp_path_factory.mktemp("app")
    with Store.writing(folder / "toy") as store:
        run(toy(folder), store)
    words = [sys.executable, "-m", "invsolve", "app", "--port", port, "--max-pixels", "300000"]
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


def _saved(page, link, path: Path) -> Path:
    with page.expect_download() as download:
        link.click()
    download.value.save_as(path)
    return path


def test_from_an_example_to_the_files(page, picture, tmp_path):
    page.locator("button.iv-example", has_text="Noisy").click()
    page.locator("#iv-image img").wait_for()
    _restore(page)
    page.locator("#iv-slider img").first.wait_for()
    assert "Noise\nstrong" in page.locator("#iv-found").inner_text()
    restored = _saved(page, page.locator("#iv-download"), tmp_path / "restored.png")
    assert read_image(restored).pixels.shape == (3, 160, 160)
    page.evaluate("window.scrollTo(0, 0)")
    picture(page, "restore")
    page.get_by_text("All files").locator("visible=true").click()
    link = page.locator("#iv-files a[download$='restored.json']").first
    record = json.loads(_saved(page, link, tmp_path / "restored.json").read_text())
    assert record["command"] == "invsolve restore noisy.png --task denoise --quality fast -o noisy-restored.png"
    assert record["noise"]["source"] == "estimated"
    page.locator("#iv-slider .iv-range").fill("80")
    assert page.locator("#iv-slider .iv-upper").evaluate("node => node.style.clipPath") == "inset(0px 0px 0px 80%)"
    page.get_by_role("button", name="Larger").first.click()
    page.get_by_role("button", name="Larger").first.click()
    layers = page.locator("#iv-slider .iv-layer").evaluate_all("nodes => nodes.map(node => node.style.transform)")
    assert len(set(layers)) == 1
    assert "scale(2.25)" in layers[0]
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_an_image_is_looked_at(page, small):
    _choose(page, small)
    page.get_by_text("Looks like “Noisy or grainy”").wait_for()
    assert page.get_by_label("Noisy or grainy").first.is_checked()


@pytest.mark.slow
def test_a_click_tells_what_is_known_about_a_pixel(page, picture, tmp_path):
    page.locator("button.iv-example", has_text="Small").click()
    page.locator("#iv-image img").wait_for()
    page.locator("#iv-certain input").check()
    page.locator("#iv-go").click()
    stage = page.locator("#iv-samples .iv-stage")
    stage.wait_for()
    assert page.locator("#iv-samples .iv-strip button").count() == 8
    box = stage.bounding_box()
    stage.click(position={"x": (110 + 0.5) / 160 * box["width"], "y": (120 + 0.5) / 160 * box["height"]})
    readout = page.locator("#iv-samples .iv-readout")
    readout.get_by_text("Pixel 111 from the left, 121 from the top").wait_for()
    picture(page.locator("#iv-certainty"), "certainty")
    page.get_by_text("All files").locator("visible=true").click()
    link = page.locator("#iv-files a[download$='.json']").first
    factors = json.loads(_saved(page, link, tmp_path / "record.json").read_text())["uncertainty"]["q"]["average"]
    factor = sum(factors.values()) / len(factors)
    red = re.search(r"(\d+), between (\d+) and (\d+); samples ([\d, ]+)", readout.inner_text())
    restored, low, high = (int(red.group(i)) for i in (1, 2, 3))
    drawn = torch.tensor([float(value) for value in red.group(4).split(",")])
    pixel = read_image(_saved(page, page.locator("#iv-download"), tmp_path / "restored.png")).pixels[0, 120, 110]
    assert abs(255 * float(pixel) - restored) <= 0.5
    assert len(drawn) == 6
    # the scale is two means over neighbours: twice the deviation of the pixel alone is near it
    assert 0.2 < (high - low) / 2 / (factor * (2 * float(drawn.std()) + 255 * 0.003)) < 5
    stage.focus()
    page.keyboard.press("ArrowRight")
    readout.get_by_text("Pixel 112 from the left").wait_for()
    page.locator("#iv-samples .iv-play").click()
    page.locator("#iv-samples .iv-strip button[aria-pressed=true]", has_text="Sample 2").wait_for()
    page.get_by_label("Show how uncertain each pixel is").uncheck()
    assert page.locator("#iv-samples .iv-map.iv-hidden").count() == 1
    assert "Half of the pixels" in page.locator("#iv-open").inner_text()


@pytest.mark.slow
def test_what_is_painted_is_filled_in_and_the_rest_stays(page, small, tmp_path):
    _choose(page, small)
    page.get_by_label("Parts are missing").check()
    canvas = page.locator("#iv-mask canvas").first
    canvas.wait_for()
    page.locator("#iv-mask").scroll_into_view_if_needed()
    page.wait_for_timeout(3000)
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 12, y + 6, steps=6)
    page.mouse.up()
    page.wait_for_timeout(1500)
    _restore(page)
    page.get_by_text("All files").locator("visible=true").click()
    link = page.locator("#iv-files a[download$='-mask.png']").first
    mask = read_image(_saved(page, link, tmp_path / "mask.png")).pixels[0]
    assert mask.shape == (48, 64)
    assert 0.005 < float((mask > 0.5).float().mean()) < 0.6
    assert mask[0, 0] == 0


def test_errors_are_one_sentence_in_a_toast(page, tmp_path):
    page.locator("#iv-go").click()
    toast = page.get_by_text("Choose an image first")
    toast.wait_for()
    big = write_image(tmp_path / "big.png", Image(torch.full((3, 600, 600), 0.5), None, 8))
    _choose(page, big)
    page.locator("#iv-go").click()
    page.get_by_text("this page takes 300000").wait_for()
    page.get_by_text("More settings").click()
    page.get_by_label("How strong the noise is").fill("loud")
    page.locator("#iv-go").click()
    page.get_by_text("How strong the noise is: a number is expected, got 'loud'").wait_for()
    assert page.locator("#iv-go").is_visible()


def _tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_methods_are_compared_with_the_truth_and_zoom_together(page, picture, tmp_path):
    _tab(page, "Compare")
    page.locator("#iv-compare-example").click()
    page.locator("#iv-compare-image img").wait_for()
    page.locator("#iv-compare-go").click()
    page.locator("#iv-grid .iv-stage").first.wait_for()
    labels = page.locator("#iv-grid figcaption strong").all_inner_texts()
    assert labels == ["Before", "1. best", "2. best fast", "Undamaged"]
    psnr = [float(text) for text in re.findall(r"([\d.]+) dB", page.locator("#iv-grid").inner_text())]
    assert min(psnr[1:]) > psnr[0] + 5
    assert f"{psnr[1]:.2f}" in page.locator("#iv-table tr").nth(1).inner_text()
    page.wait_for_timeout(400)
    page.evaluate("window.scrollTo(0, 0)")
    picture(page, "compare")
    page.locator("#iv-grid .iv-stage").first.dblclick(position={"x": 20, "y": 20})
    layers = page.locator("#iv-grid .iv-layer").evaluate_all("nodes => nodes.map(node => node.style.transform)")
    assert len(layers) == 4
    assert len(set(layers)) == 1
    assert "scale(3)" in layers[0]
    page.get_by_text("All files").locator("visible=true").click()
    link = page.locator("#iv-compare-files a[download='1-restored.json']").first
    record = json.loads(_saved(page, link, tmp_path / "record.json").read_text())
    assert record["command"] == "invsolve restore undamaged.png --task denoise --simulate -o 1-restored.png"
    assert round(record["scores"]["restored"]["psnr"], 2) == psnr[1]

    page.get_by_label("Settings").nth(1).fill("n_steps=3")
    page.locator("#iv-compare-go").click()
    page.get_by_text("Settings belong to a method: choose one for method 2").wait_for()
    page.get_by_label("Method 2", exact=True).click()
    page.get_by_role("option", name="ftm", exact=True).click()
    page.locator("#iv-compare-go").click()
    page.locator("#iv-grid .iv-failed").wait_for()  # one that cannot be run does not stop the others
    assert page.locator("#iv-grid .iv-stage").count() == 3


def test_a_batch_goes_on_after_a_broken_file_and_ends_with_a_zip(page, small, picture, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(small.read_bytes()[:60])
    _tab(page, "Many")
    page.locator("#iv-batch-images input[type=file]").set_input_files([str(broken), str(small)])
    page.get_by_label("Noisy or grainy").locator("visible=true").check()
    page.locator("#iv-batch-images").get_by_text("broken").wait_for()
    page.locator("#iv-batch-go").click()
    page.get_by_text("1 of 2 restored, 1 could not be").wait_for()
    rows = page.locator("#iv-batch-table tr").all_inner_texts()
    assert "broken.png" in rows[1]
    assert "failed" in rows[1]
    assert "restored" in rows[2]
    assert page.locator("#iv-batch-table img").count() == 2
    page.evaluate("window.scrollTo(0, 0)")
    picture(page, "many")
    with zipfile.ZipFile(_saved(page, page.locator("#iv-zip"), tmp_path / "all.zip")) as packed:
        names = packed.namelist()
        assert [name.rsplit("-", 1)[-1] for name in names] == ["restored.json", "restored.png", "failed.txt"]
        assert packed.read("failed.txt").decode() == "broken.png: broken.png is truncated: the PNG file ends early\n"
        assert "/" not in json.loads(packed.read(names[0]))["input"]["path"]
        (tmp_path / "one.png").write_bytes(packed.read(names[1]))
    own = iv.restore(small, "denoise").image.pixels
    assert float((read_image(tmp_path / "one.png").pixels - own).abs().max()) <= 0.5 / 255 + 1e-6


def test_digits_of_a_class_are_drawn(page, picture):
    _tab(page, "Digits")
    page.locator("#iv-guide-go").click()
    page.locator("#iv-guide-words").get_by_text("As asked").wait_for()
    assert int(re.search(r"As asked\n(\d+) of 36", page.locator("#iv-guide-words").inner_text()).group(1)) >= 30
    assert page.locator("#iv-sheet img").evaluate("image => image.naturalWidth") >= 96
    page.evaluate("window.scrollTo(0, 0)")
    picture(page, "digits")


def test_a_store_opens_as_its_page(page):
    _tab(page, "Leaderboard")
    page.locator("#iv-store-go").click()
    frame = page.frame_locator("#iv-leaderboard iframe")
    frame.get_by_role("heading", name="toy").first.wait_for()
    assert "ddnm" in frame.locator("table").first.inner_text()


def test_two_visitors_stop_their_own_run_and_get_their_own_image(page, browser, address, tmp_path):
    other = browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(address)
    other.locator("button.iv-example").first.wait_for()
    sizes = {page: (96, 112), other: (72, 48)}
    for visitor, (height, width) in sizes.items():
        pixels = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height)) * 0.2 + 0.4
        visitor.get_by_label("Noisy or grainy").first.check()
        visitor.get_by_label("Fast", exact=True).first.check()
        _choose(visitor, write_image(tmp_path / f"{height}.png", Image(pixels, None, 8)))
    page.get_by_text("More settings").locator("visible=true").click()
    page.get_by_label("Number of samples").fill("16")
    page.locator("#iv-go").click()
    page.get_by_text("Restoring").wait_for()
    other.locator("#iv-go").click()  # waits: one run at a time
    page.locator("#iv-stop").click()
    page.get_by_text("Stopped. Nothing was restored.").wait_for()
    other.get_by_text("Done in").wait_for()
    page.get_by_label("Number of samples").fill("")
    page.locator("#iv-go").click()
    for visitor, (height, width) in sizes.items():
        visitor.get_by_text("Done in").wait_for()
        restored = _saved(visitor, visitor.locator("#iv-download"), tmp_path / f"{height}-restored.png")
        assert read_image(restored).pixels.shape == (3, height, width)
        assert f"{width} x {height} pixels" in visitor.locator("#iv-found").inner_text()
    other.close()


def test_programs_use_it_as_documented(address, small):
    client = pytest.importorskip("gradio_client")
    page = client.Client(address, verbose=False)
    files = page.predict(
        client.handle_file(str(small)), "denoise", {"noise": 0.05, "quality": "fast"}, None, None, api_name="/restore"
    )
    own = iv.restore(small, "denoise", noise=0.05, quality="fast").image.pixels
    assert float((read_image(files[0]).pixels - own).abs().max()) <= 0.5 / 255 + 1e-6
    record = json.loads(Path(files[1]).read_text())
    assert record["noise"]["sigma"] == 0.05
    assert record["input"]["path"] == "bsmall & 'old'.png"
    with pytest.raises(client.exceptions.AppError, match="no option 'solver_file' for denoise"):
        page.predict(
            client.handle_file(str(small)), "denoise", {"solver_file": "/etc/passwd"}, None, None, api_name="/restore"
        )
    assert list(page.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ["/restore"]
    http = pytest.importorskip("httpx").Client(base_url=f"{address}gradio_api/", timeout=60)
    with small.open("rb") as file:
        (path,) = http.post("upload", files={"files": file}).json()
    sent = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for image, ended in ((sent, "complete"), (None, "error")):
        told = {"data": [image, "denoise", {"quality": "fast"}, None, None]}
        event = http.post("call/restore", json=told).json()["event_id"]
        answer = http.get(f"call/restore/{event}").text
        assert f"event: {ended}" in answer
        assert ("-restored.png" in answer) == (ended == "complete")
    http.close()


def test_the_block_of_the_documentation_runs(address, small, tmp_path, monkeypatch, capsys):
    pytest.importorskip("gradio_client")
    page = (Path(__file__).parent.parent / "docs" / "app.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photo.jpg", read_image(small))
    exec(block.replace("http://127.0.0.1:7860", address))
    restored, record = capsys.readouterr().out.split()[-2:]
    assert read_image(restored).pixels.shape[1] == 2 * read_image(small).pixels.shape[1]
    assert json.loads(Path(record).read_text())["task"]["name"] == "superres"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone(page, address, theme):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{address}?__theme={theme}")
    page.locator("button.iv-example").first.wait_for()
    assert ("dark" in page.evaluate("document.body.className")) == (theme == "dark")
    for name in ("Restore", "Compare", "Many", "Digits"):
        _tab(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_hosted_space_starts_the_page(monkeypatch):
    """Its options are those of the command, and its card names the Gradio that is required."""
    asked = {}

    @contextmanager
    def served(**told):
        asked.update(told)
        yield "http://..."

    pytest.importorskip("gradio")
    monkeypatch.setattr("invsolve.app.page.served", served)
    monkeypatch.setattr("invsolve.commands.app._until_stopped", lambda: None)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7999")
    folder = Path(__file__).parent.parent / "space"
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(folder / "app.py"))
    assert ended.value.code == 0
    assert (asked["host"], asked["port"]) == ("0.0.0.0", 7999)
    assert asked["limits"].at_once == 1
    assert re.search(r"^sdk_version: 6\.", (folder / "README.md").read_text(), re.MULTILINE)
    assert "invsolve[app]" in (folder / "requirements.txt").read_text()
