"""The tabs of the app in a real browser: compared methods, many images, digits and the leaderboard."""

from __future__ import annotations

import json
import re
import zipfile

from app_page import saved, tab

import invsolve as iv
from invsolve.io import read_image


def test_methods_are_compared_with_the_truth_and_zoom_together(page, picture, tmp_path):
    tab(page, "Compare")
    page.locator("#iv-compare-example").click()
    page.locator("#iv-compare-image img").wait_for()
    page.locator("#iv-compare-go").click()
    page.locator("#iv-grid .iv-stage").first.wait_for()
    labels = page.locator("#iv-grid figcaption strong").all_inner_texts()
    assert labels == ["Before", "1. best", "2. best, fast", "Undamaged"]
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
    record = json.loads(saved(page, link, tmp_path / "record.json").read_text())
    assert record["command"] == "invsolve restore undamaged.png --task denoise --simulate -o 1-restored.png"
    assert round(record["scores"]["restored"]["psnr"], 2) == psnr[1]

    page.get_by_label("Settings").nth(1).fill("n_steps=3")
    page.locator("#iv-compare-go").click()
    page.get_by_text("Settings need a method: choose one for method 2").wait_for()
    page.get_by_label("Method 2", exact=True).click()
    page.get_by_role("option", name="ftm", exact=True).click()
    page.locator("#iv-compare-go").click()
    page.locator("#iv-grid .iv-failed").wait_for()  # one that cannot be run does not stop the others
    assert page.locator("#iv-grid .iv-stage").count() == 3


def test_a_batch_goes_on_after_a_broken_file_and_ends_with_a_zip(page, small, picture, tmp_path):
    from invsolve.app.examples import Examples

    broken = tmp_path / "broken.png"
    broken.write_bytes(small.read_bytes()[:60])
    noisy = Examples(tmp_path).paths["Noisy"]
    tab(page, "Many")
    page.locator("#iv-batch-images input[type=file]").set_input_files([str(broken), str(small), str(noisy)])
    page.get_by_label("Noisy or grainy").locator("visible=true").check()
    page.locator("#iv-batch-images").get_by_text("broken").wait_for()
    page.locator("#iv-batch-go").click()
    page.get_by_text("2 of 3 restored, 1 could not be").wait_for()
    rows = page.locator("#iv-batch-table tr").all_inner_texts()
    assert "broken.png" in rows[1]
    assert "failed" in rows[1]
    assert "restored" in rows[2]
    assert page.locator("#iv-batch-table img").count() == 4
    page.evaluate("window.scrollTo(0, 0)")
    picture(page, "many")
    with zipfile.ZipFile(saved(page, page.locator("#iv-zip"), tmp_path / "all.zip")) as packed:
        names = packed.namelist()
        assert [name.rsplit("-", 1)[-1] for name in names] == [*["restored.json", "restored.png"] * 2, "failed.txt"]
        assert packed.read("failed.txt").decode() == "broken.png: broken.png is truncated: the PNG file ends early\n"
        assert "/" not in json.loads(packed.read(names[0]))["input"]["path"]
        (tmp_path / "one.png").write_bytes(packed.read(names[1]))
    own = iv.restore(small, "denoise").image.pixels
    assert float((read_image(tmp_path / "one.png").pixels - own).abs().max()) <= 0.5 / 255 + 1e-6


def test_digits_of_a_class_are_drawn(page, picture):
    tab(page, "Digits")
    page.locator("#iv-guide-go").click()
    page.locator("#iv-guide-words").get_by_text("As asked").wait_for()
    assert int(re.search(r"As asked\n(\d+) of 36", page.locator("#iv-guide-words").inner_text()).group(1)) >= 30
    assert page.locator("#iv-sheet img").evaluate("image => image.naturalWidth") >= 96
    page.evaluate("window.scrollTo(0, 0)")
    picture(page, "digits")


def test_a_store_opens_as_its_page(page):
    tab(page, "Leaderboard")
    page.locator("#iv-store-go").click()
    frame = page.frame_locator("#iv-leaderboard iframe")
    frame.get_by_role("heading", name="toy").first.wait_for()
    assert "ddnm" in frame.locator("table").first.inner_text()
