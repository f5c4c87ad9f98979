"""The page: its tabs, its style and its server."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import gradio as gr
from gradio.themes import Base, Default

from invsolve.app.api import add_api
from invsolve.app.batch_tab import BatchTab
from invsolve.app.compare_tab import CompareTab
from invsolve.app.events import QUICK
from invsolve.app.examples import Examples
from invsolve.app.guide_tab import GuideTab
from invsolve.app.leaderboard_tab import PLACE, LeaderboardTab
from invsolve.app.limits import Limits
from invsolve.app.restore_tab import RestoreTab
from invsolve.app.running import Engine

__all__ = ["served"]

WARM_AFTER = 5.0
"""Seconds after which torch is imported if nobody has opened the page."""

KEPT = 3600
"""Longest time, in seconds, for which uploads and results are kept."""


@contextmanager
def served(
    *, prior: str = "natural", device: str = "auto", host: str = "127.0.0.1", port: int | None = 7860,
    limits: Limits | None = None, stores: Mapping[str, Path] | None = None,
) -> Iterator[str]:  # fmt: skip
    """Context manager that serves the page and yields its address; at exit the server stops and deletes its files.

    Args:
        prior, device: see `restore`.
        host: the address that the server binds to.
        port: port of the server; a free one if None.
        limits: limits of the page; the defaults if None.
        stores: results folders by name that can be opened in the leaderboard tab.

    Raises:
        InputError: if the prior cannot be used.
        OSError: if the port is in use.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="invsolve-app-") as name:
        folder = Path(name)
        for part in ("examples", "runs", PLACE):
            (folder / part).mkdir()
        with _environment(GRADIO_TEMP_DIR=str(folder / "cache"), GRADIO_ANALYTICS_ENABLED="False"):
            engine = Engine(prior, device, limits.max_pixels, limits.at_once, 60.0 * limits.max_minutes)
            examples = Examples(folder / "examples")
            page = _page(engine, examples, folder, stores or {})
            server, address, _ = page.queue(max_size=limits.queue).launch(
                server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, inbrowser=False,
                max_file_size=f"{limits.max_megabytes}mb", theme=_theme(), css=_css(), footer_links=[], ssr_mode=False,
                enable_monitoring=False, mcp_server=False, pwa=False, show_error=False,
            )  # fmt: skip
            _serve_folder(server, folder / PLACE)
            stopped = threading.Event()
            warming = threading.Thread(target=_warm, args=(examples, stopped))
            warming.start()
            try:
                yield address
            finally:
                stopped.set()
                page.close(verbose=False)
                warming.join()  # the thread writes into the folder


def _warm(examples: Examples, stopped: threading.Event) -> None:
    """Import torch and make the examples before the first restoration, but after a page opened at the start is shown.

    Importing torch takes a second of CPU time, during which nothing is served. A page that is opened requests the
    pictures of the examples, which imports torch earlier.
    """
    if stopped.wait(WARM_AFTER):
        return
    import invsolve.restoration.run  # noqa: F401

    _ = examples.paths, examples.clean


def _serve_folder(server: object, folder: Path) -> None:
    """Serve the leaderboard pages below the address of the app; the route comes before the catch-all of the app."""
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    server.router.routes.insert(0, Mount(f"/{PLACE}", StaticFiles(directory=folder)))  # pyright: ignore


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables inside the `with` block; Gradio reads these settings only from the environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _page(engine: Engine, examples: Examples, folder: Path, stores: Mapping[str, Path]) -> gr.Blocks:
    runs = folder / "runs"
    restore = RestoreTab(engine, examples, runs)
    tabs = {
        "Restore": restore,
        "Compare": CompareTab(engine, examples, runs),
        "Many": BatchTab(engine, runs),
        "Digits": GuideTab(engine),
        "Leaderboard": LeaderboardTab(stores, folder / PLACE),
    }
    with gr.Blocks(analytics_enabled=False, title="invsolve", delete_cache=(KEPT // 4, KEPT)) as page:
        add_api(engine, runs)  # before the tabs, whose handlers would otherwise take its name
        gr.HTML(
            '<header class="iv-head"><h1>invsolve</h1><p>Restore photographs, and see what was changed. Images stay on '
            "the machine that runs this page.</p></header>",
            padding=False,
        )
        with gr.Tabs():
            for name, tab in tabs.items():
                with gr.Tab(name):
                    tab.build()
        page.load(restore.pictures, None, list(restore.buttons.values()), **QUICK)
    return page


def _theme() -> Base:
    """Return a theme with plain colours and system fonts: nothing is loaded from other servers."""
    return Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_text_color="white",
    )


def _css() -> str:
    return files("invsolve.app").joinpath("page.css").read_text(encoding="utf-8")
