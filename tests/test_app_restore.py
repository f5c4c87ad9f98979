"""The app's first tab in a real browser, from an image to its restoration, and what holds for the whole page."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest
import torch
from app_page import PATIENCE, choose, run_fast, saved, tab, until

from invsolve.app.words import title
from invsolve.commands.cli import main
from invsolve.io import Image, read_image, write_image
from invsolve.tasks.resizing import resized


def test_from_an_example_to_the_files(page, picture, tmp_path):
    page.locator("button.iv-example", has_text="Noisy").click()
    page.locator("#iv-image img").wait_for()
    run_fast(page)
    page.locator("#iv-slider img").first.wait_for()
    assert "Noise\nstrong" in page.locator("#iv-found").inner_text()
    restored = saved(page, page.locator("#iv-download"), tmp_path / "restored.png")
    assert read_image(restored).pixels.shape == (3, 160, 160)
    page.evaluate("window.scrollTo(0, 0)")
    picture(page, "restore")
    page.get_by_text("All files").locator("visible=true").click()
    link = page.locator("#iv-files a[download$='restored.json']").first
    record = json.loads(saved(page, link, tmp_path / "restored.json").read_text())
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


@pytest.mark.parametrize(
    ("name", "gain"),
    [
        ("JPEG", 0.5),
        pytest.param("Small", 1.0, marks=pytest.mark.slow),
        pytest.param("Masked", 8.0, marks=pytest.mark.slow),
        pytest.param("Blurred", 2.0, marks=pytest.mark.slow),
        pytest.param("Shaken", 2.0, marks=pytest.mark.slow),
    ],
)
def test_every_other_example_is_restored_and_its_lines_make_it_again(page, name, gain, tmp_path, monkeypatch):
    """The restored image is nearer to the photograph, by so many dB."""
    from invsolve.app.examples import EXAMPLES, Examples, _clean

    example = next(each for each in EXAMPLES if each.name == name)
    page.locator("button.iv-example", has_text=name).click()
    page.locator("#iv-image img").wait_for()
    assert page.get_by_label(title(example.task)).first.is_checked()
    run_fast(page)
    pixels = read_image(saved(page, page.locator("#iv-download"), tmp_path / "restored.png")).pixels
    damaged = read_image(Examples(tmp_path).paths[name]).pixels[:3]
    clean = _clean(example).pixels
    if name in ("Blurred", "Shaken"):  # of which the border is not known
        edge = (clean.shape[1] - damaged.shape[1]) // 2
        clean = clean[:, edge : clean.shape[1] - edge, edge : clean.shape[2] - edge]
    assert pixels.shape == clean.shape
    size = (clean.shape[1], clean.shape[2])
    assert _psnr(pixels, clean) > _psnr(resized(damaged, size), clean) + gain
    page.get_by_text("Make it again").locator("visible=true").click()
    words = shlex.split(page.locator("#iv-shell .cm-content").inner_text())
    if name == "Shaken":  # which takes long
        return
    monkeypatch.chdir(tmp_path)
    assert main([*words[1:], "--quiet"]) == 0
    assert float((read_image(words[-1]).pixels - pixels).abs().max()) < 1.5 / 255
    (tmp_path / "again").mkdir()
    shutil.copy(words[2], tmp_path / "again")
    monkeypatch.chdir(tmp_path / "again")
    exec(page.locator("#iv-python .cm-content").inner_text())
    assert float((read_image(words[-1]).pixels - pixels).abs().max()) < 1.5 / 255


def _psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    return -10 * float((image - truth).square().mean().log10())


def test_an_image_is_looked_at(page, small):
    choose(page, small)
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
    factors = json.loads(saved(page, link, tmp_path / "record.json").read_text())["uncertainty"]["q"]["average"]
    factor = sum(factors.values()) / len(factors)
    red = re.search(r"(\d+), between (\d+) and (\d+); samples ([\d, ]+)", readout.inner_text())
    restored, low, high = (int(red.group(i)) for i in (1, 2, 3))
    drawn = torch.tensor([float(value) for value in red.group(4).split(",")])
    pixel = read_image(saved(page, page.locator("#iv-download"), tmp_path / "restored.png")).pixels[0, 120, 110]
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


def test_brush_box_and_keys_mark_what_is_filled_in(address, browser, small, tmp_path):
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.locator("button.iv-example").first.wait_for()
    choose(page, small)
    stage, tools = page.locator("#iv-mask .iv-paint"), page.locator("#iv-mask").get_by_role("button")

    def say() -> None:
        page.get_by_label("Noisy or grainy").first.check()
        page.get_by_label("Parts are missing").first.check()

    until(say, stage)
    stage.evaluate("node => node.scrollIntoView({ block: 'center' })")
    page.wait_for_timeout(300)
    place = stage.bounding_box()

    def at(x: float, y: float) -> dict[str, float]:
        """Of a place in the image, on the screen."""
        return {"x": place["x"] + x / 64 * place["width"], "y": place["y"] + y / 48 * place["height"]}

    page.mouse.move(**at(5, 44))  # the brush, with a mouse
    page.mouse.down()
    page.mouse.move(**at(25, 44), steps=5)
    page.mouse.up()
    tools.filter(has_text="Box").click()  # a box, with a finger
    touch = context.new_cdp_session(page)
    for kind, points in (
        ("touchStart", [at(40, 4)]),
        ("touchMove", [at(50, 9)]),
        ("touchMove", [at(56, 12)]),
        ("touchEnd", []),
    ):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.get_by_text("Box of 16 x 8 pixels.").wait_for()
    stage.focus()  # and one with keys, from the middle
    for key in ("Space", *["ArrowLeft"] * 6, *["Shift+ArrowUp"] * 4, "Space"):
        page.keyboard.press(key)
    page.get_by_text("Box of 6 x 4 pixels.").wait_for()
    page.keyboard.press("Space")  # given up
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    page.mouse.move(**at(2, 2))  # taken back
    page.mouse.down()
    page.mouse.move(**at(9, 9))
    page.mouse.up()
    tools.filter(has_text="Undo").click()
    run_fast(page)
    page.get_by_text("All files").locator("visible=true").click()
    mask = read_image(saved(page, page.locator("#iv-files a[download$='-mask.png']").first, tmp_path / "mask.png"))
    expected = torch.zeros(48, 64, dtype=torch.bool)
    expected[4:12, 40:56] = True
    expected[20:24, 26:32] = True
    found = mask.pixels[0] > 0.5
    assert torch.equal(found[:36], expected[:36])
    columns = found[36:].any(0).nonzero().flatten().tolist()
    assert columns == list(range(columns[0], columns[-1] + 1))
    assert abs(columns[0] - 3) <= 1  # the brush is 3.2 pixels wide
    assert abs(columns[-1] - 26) <= 1
    pixels = read_image(saved(page, page.locator("#iv-download"), tmp_path / "restored.png")).pixels
    before = read_image(small).pixels
    assert float((pixels - before)[:, ~found].abs().mean()) < 0.06
    page.locator("#iv-slider .iv-stage").scroll_into_view_if_needed()
    place = page.locator("#iv-slider .iv-stage").bounding_box()
    for kind, points in (("touchStart", [at(32, 24)]), ("touchMove", [at(16, 24)]), ("touchEnd", [])):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    shown = page.locator("#iv-slider .iv-upper").evaluate("node => node.style.clipPath")
    assert abs(float(re.search(r"([\d.]+)%", shown).group(1)) - 25) < 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_a_photograph_is_painted_on(page, picture):
    """The picture of the documentation; what was painted stays where the task is left and chosen again."""
    page.locator("button.iv-example", has_text="Noisy").click()
    page.locator("#iv-image img").wait_for()
    page.get_by_label("Parts are missing").first.check()
    stage, tools = page.locator("#iv-mask .iv-paint"), page.locator("#iv-mask").get_by_role("button")
    stage.wait_for()
    stage.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    place = stage.bounding_box()

    def drag(*points: tuple[float, float]) -> None:
        for i, (x, y) in enumerate(points):
            page.mouse.move(place["x"] + x * place["width"], place["y"] + y * place["height"], steps=4)
            if i == 0:
                page.mouse.down()
        page.mouse.up()

    tools.filter(has_text="Box").click()
    drag((0.62, 0.1), (0.92, 0.32))
    tools.filter(has_text="Brush").click()
    drag((0.08, 0.5), (0.3, 0.62), (0.25, 0.8))
    marked = """node => node.querySelector("canvas").getContext("2d").getImageData(0, 0, 160, 160).data
        .filter((value, i) => i % 4 === 3 && value).length"""
    count = stage.evaluate(marked)
    assert 0.3 * 0.22 * 160 * 160 < count < 0.2 * 160 * 160
    picture(page.locator("#iv-mask"), "paint")
    page.get_by_label("Noisy or grainy").first.check()
    page.get_by_label("Parts are missing").first.check()
    page.wait_for_timeout(800)
    assert stage.evaluate(marked) == count
    tools.filter(has_text="Clear").click()
    assert stage.evaluate(marked) == 0


def test_errors_are_one_sentence_in_a_toast(page, tmp_path):
    page.locator("#iv-go").click()
    page.get_by_text("Choose an image first").wait_for()
    big = write_image(tmp_path / "big.png", Image(torch.full((3, 600, 600), 0.5), None, 8))
    choose(page, big)
    page.locator("#iv-go").click()
    page.get_by_text("this page takes 300000").first.wait_for()
    page.get_by_text("More settings").click()

    def ask() -> None:
        page.get_by_label("How strong the noise is").fill("loud")
        page.locator("#iv-go").click()

    until(ask, page.get_by_text("How strong the noise is: a number is expected, got 'loud'").first)
    assert page.locator("#iv-go").is_visible()


def test_what_is_no_image_and_what_browsers_do_not_show(page, tmp_path):
    """Text that calls itself an image, a picture with a script in it, and a TIFF file."""
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    hostile = tmp_path / "<img src=x onerror=alert(1)>.png"
    hostile.write_text("<html><script>alert(2)</script></html>")
    drawing = tmp_path / "drawing.svg"
    drawing.write_text('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(3)"><script>alert(4)</script></svg>')
    for path in (hostile, drawing):
        page.locator("#iv-image input[type=file]").set_input_files(str(path))
        page.get_by_text(
            "png is not an image in a supported" if path is hostile else "svg is not an image in a supported"
        ).wait_for()
        page.locator("#iv-image button.icon-button").click()
    tiff = write_image(tmp_path / "photo.tif", Image(torch.full((3, 40, 60), 0.5), None, 16))
    page.locator("#iv-image input[type=file]").set_input_files(str(tiff))
    page.locator(".iv-seen img").wait_for()
    assert page.locator(".iv-seen img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [60, 40]
    assert dialogs == []


def test_a_file_that_is_too_large_is_refused(page, small, tmp_path, console):
    """The browser writes the server's answer to the console, too."""
    large = tmp_path / "large.png"
    large.write_bytes(small.read_bytes() + bytes(3_000_000))
    page.locator("#iv-image input[type=file]").set_input_files(str(large))
    page.get_by_text("exceed the maximum allowed size of 2.0 Mb").wait_for()
    console.clear()


def test_warnings_are_seen(page, small):
    choose(page, small)
    page.get_by_label("Noisy or grainy").first.check()
    page.get_by_text("More settings").locator("visible=true").click()
    page.get_by_label("How strong the noise is").fill("0.4")
    run_fast(page)
    warning = page.locator("#iv-found .iv-warning").first
    warning.wait_for()
    assert "noise" in warning.inner_text()
    assert "<b>" not in page.locator("#iv-found").inner_html()


def test_two_visitors_stop_their_own_run_and_get_their_own_image(page, browser, address, tmp_path):
    other = browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(address)
    other.locator("button.iv-example").first.wait_for()
    sizes = {page: (480, 512), other: (72, 48)}
    for visitor, (height, width) in sizes.items():
        pixels = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height)) * 0.2 + 0.4
        visitor.get_by_label("Noisy or grainy").first.check()
        visitor.get_by_label("Fast", exact=True).first.check()
        choose(visitor, write_image(tmp_path / f"{height}.png", Image(pixels, None, 8)))
    page.get_by_text("More settings").locator("visible=true").click()
    page.get_by_label("Number of samples").fill("16")  # of a large image: far from done when it is stopped
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
        restored = saved(visitor, visitor.locator("#iv-download"), tmp_path / f"{height}-restored.png")
        assert read_image(restored).pixels.shape == (3, height, width)
        assert f"{width} x {height} pixels" in visitor.locator("#iv-found").inner_text()
    other.close()


NAMELESS = """() => [...document.querySelectorAll("input, button, select, textarea, [tabindex='0'], a[href]")]
  .filter((node) => node.checkVisibility() && node.getClientRects().length)
  .filter((node) => ![...(node.labels || [])].map((label) => label.textContent.trim()).join("")
    && !(node.getAttribute("aria-labelledby") || "").split(" ").some((id) => document.getElementById(id)?.textContent)
    && !node.getAttribute("aria-label") && !node.title && !node.textContent.trim())
  .map((node) => node.outerHTML.slice(0, 200))"""
"""Controls without a name for those who do not see them."""

FAINT = """() => {
  const read = (text) => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
  const over = (front, back) => back.map((value, i) => value * (1 - front[3]) + front[i] * front[3]);
  const light = (colour) => colour.map((value) => value / 255)
    .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, i) => sum + [0.2126, 0.7152, 0.0722][i] * value, 0);
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
    const seen = node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!text || !seen || !node.getClientRects().length || ["STYLE", "SCRIPT"].includes(node.tagName)) continue;
    const layers = [];
    for (let each = node; each; each = each.parentElement) layers.push(read(getComputedStyle(each).backgroundColor));
    const back = layers.reverse().reduce((colour, layer) => over(layer, colour), [255, 255, 255]);
    const [dark, bright] = [light(over(read(getComputedStyle(node).color), back)), light(back)].sort((a, b) => a - b);
    if ((bright + 0.05) / (dark + 0.05) < 4.5) found.push(text);
  }
  return found;
}"""
"""Texts whose contrast is below that of WCAG 2.2, level AA: 4.5."""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_is_legible_and_every_control_has_a_name(page, address, theme):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{address}?__theme={theme}")
    page.locator("button.iv-example").first.wait_for()
    assert ("dark" in page.evaluate("document.body.className")) == (theme == "dark")
    for name in ("Restore", "Compare", "Many", "Digits", "Leaderboard"):
        tab(page, name)
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate(FAINT) == []


def test_it_can_be_used_with_keys_alone(page):
    """From the top of the page to a restoration; where one is can be seen."""
    example = page.locator("button.iv-example", has_text="Noisy")
    for _ in range(30):
        page.keyboard.press("Tab")
        if example.evaluate("node => node === document.activeElement"):
            break
    assert example.evaluate("node => getComputedStyle(node).outlineWidth") == "3px"
    page.keyboard.press("Enter")
    page.locator("#iv-image img").wait_for()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "iv-go":
            break
    page.keyboard.press("Enter")
    page.get_by_text("Done in").wait_for()
