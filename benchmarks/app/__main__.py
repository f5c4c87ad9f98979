"""The page in the browser: the time until it is ready and until the first image is restored, and its memory.

    python -m benchmarks.app [--restorations 50] [--port 7870]

The script starts `invsolve app` as a user does and requests the page until it answers. It restores the packaged noisy
photograph (a crop of 96 x 96 pixels) repeatedly through the page's interface for programs; the first time includes
loading the prior. Memory is the resident memory of the server's process. Then it starts the app again, opens the page
in Chromium, and measures when the page and the pictures of its examples are visible, and how long the first example
takes after the click. Load and processor seconds are recorded, because other work on the machine slows everything.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image as pillow

RESULTS = Path(__file__).parent / "results" / "page.json"


def memory(process: int) -> float:
    """Resident memory of a process in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def computed(process: int) -> float:
    """Processor seconds of a process; other work on the machine has little influence on them."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def noisy(folder: Path) -> Path:
    """A crop of the page's noisy example."""
    from invsolve.app.examples import Examples

    path = Examples(folder).paths["Noisy"]
    with pillow.open(path) as image:
        image.crop((0, 0, 96, 96)).save(folder / "part.png")
    return folder / "part.png"


@contextmanager
def started(port: int) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """Start `invsolve app` as a user does: its process, its address, and the folder of its temporary files."""
    words = [sys.executable, "-m", "invsolve", "app", "--port", str(port)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(words, stdout=subprocess.DEVNULL, env=os.environ | {"TMPDIR": folder}) as process,
    ):
        try:
            yield process, f"http://127.0.0.1:{port}/", Path(folder)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def wait_for(address: str) -> None:
    """Request the page until it answers."""
    while True:
        try:
            urllib.request.urlopen(address, timeout=60).read()
            return
        except urllib.error.URLError:
            time.sleep(0.05)


def opened(port: int) -> dict[str, float]:
    """Seconds from the command until a visitor sees the page in an open browser; {} if there is no browser."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None or importlib.util.find_spec("playwright") is None:
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        began = time.monotonic()
        with started(port) as (_, address, _):
            wait_for(address)
            page.goto(address)
            page.locator("button.iv-example").first.wait_for()
            seen = {"page_seen_s": time.monotonic() - began}
            page.locator("button.iv-example img").first.wait_for()
            seen["examples_seen_s"] = time.monotonic() - began
            clicked = time.monotonic()
            page.locator("button.iv-example", has_text="Noisy").click()
            page.locator("#iv-image img").wait_for()
            page.locator("#iv-go").click()
            page.get_by_text("Done in").wait_for(timeout=120_000)
            seen["first_example_restored_s"] = time.monotonic() - clicked
        browser.close()
    return seen


def measured(restorations: int, port: int) -> dict[str, float]:
    """Seconds until the page answers and until the first image is restored, and the memory after some restorations."""
    from gradio_client import Client, handle_file

    began = time.monotonic()
    with started(port) as (process, address, folder):
        wait_for(address)
        found = {"page_ready_s": time.monotonic() - began, "page_ready_processor_s": computed(process.pid)}
        image = noisy(folder)
        client = Client(address, verbose=False)
        for i in range(1, restorations + 1):
            asked, before = time.monotonic(), computed(process.pid)
            client.predict(handle_file(str(image)), "denoise", {}, None, None, api_name="/restore")
            if i == 1:
                found |= {
                    "first_restored_s": time.monotonic() - asked,
                    "first_restored_processor_s": computed(process.pid) - before,
                    "memory_after_1_mib": memory(process.pid),
                }
            if i == restorations:
                found["last_restored_s"] = time.monotonic() - asked
            if i in (5, 10, restorations):
                found[f"memory_after_{i}_mib"] = memory(process.pid)
        runs = next(folder.glob("invsolve-app-*/runs"))
        found["files_left_by_runs"] = len(list(runs.iterdir()))
        client.close()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restorations", type=int, default=50)
    parser.add_argument("--port", type=int, default=7870)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    result = {
        "load_before": load,
        **measured(args.restorations, args.port),
        **opened(args.port + 1),
        "load_after": os.getloadavg()[0],
    }
    result = {name: round(value, 2) for name, value in result.items()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
