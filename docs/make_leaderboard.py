"""Take a screenshot of the page of the suite `quick` for docs/leaderboard.md: python docs/make_leaderboard.py STORE

STORE contains the results of two photographs of the suite; it is computed if missing (about two minutes). The script
needs Chromium and Playwright, like the tests of pages.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from invsolve.commands.cli import main as invsolve

PICTURE = Path(__file__).parent / "images" / "leaderboard.png"


def main() -> None:
    """Run the suite, write the page, and keep its upper part."""
    store = Path(sys.argv[1])
    invsolve(["bench", "run", "quick", "--items", "2", "--store", str(store), "--workers", "1"])
    invsolve(["bench", "report", "quick", "--store", str(store)])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto((store / "report" / "index.html").resolve().as_uri())
        page.screenshot(path=PICTURE)
        browser.close()
    picture = Image.open(PICTURE).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    picture.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
