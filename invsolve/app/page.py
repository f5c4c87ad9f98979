"""The page: its tabs, its look and its server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import gradio as gr
from gradio.themes import Base, Default

from invsolve.app.examples import make_examples
from invsolve.app.restore_tab import RestoreTab
from invsolve.app.running import Engine

__all__ = ["served"]

QUEUE = 8
"""Visitors that may wait."""

KEPT = 3600
"""Seconds that uploads and results are kept at most."""


@contextmanager
def served(
    *, prior: str = "natural", device: str = "auto", host: str = "127.0.0.1", port: int | None = 7860,
    max_pixels: int = 4_000_000, max_megabytes: int = 50,
) -> Iterator[str]:  # fmt: skip
    """Serve the page; the context's value is its address, and at its end the server stops and its files are deleted.

    Args:
        prior, device: see `restore`.
        host: the address that the page is bound to.
        port: of the server; one that is free if None.
        max_pixels: of a restored image.
        max_megabytes: of a file.

    Raises:
        InputError: the prior cannot be used.
        OSError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="invsolve-app-") as name:
        folder = Path(name)
        with _environment(GRADIO_TEMP_DIR=str(folder / "cache"), GRADIO_ANALYTICS_ENABLED="False"):
            page = _page(Engine(prior, device, max_pixels), folder)
            _, address, _ = page.queue(max_size=QUEUE).launch(
                server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, inbrowser=False,
                max_file_size=f"{max_megabytes}mb", theme=_theme(), css=_css(), footer_links=[], ssr_mode=False,
                enable_monitoring=False, mcp_server=False, pwa=False, show_error=False,
            )  # fmt: skip
            try:
                yield address
            finally:
                page.close(verbose=False)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Gradio reads these from the environment alone."""
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


def _page(engine: Engine, folder: Path) -> gr.Blocks:
    (folder / "examples").mkdir()
    (folder / "runs").mkdir()
    with gr.Blocks(analytics_enabled=False, title="invsolve", delete_cache=(KEPT // 4, KEPT)) as page:
        gr.HTML(
            '<header class="iv-head"><h1>invsolve</h1><p>Restore photographs, and see what was changed. Images stay on '
            "the machine that runs this page.</p></header>",
            padding=False,
        )
        RestoreTab(engine, make_examples(folder / "examples"), folder / "runs").build()
    return page


def _theme() -> Base:
    """Quiet colours and the fonts of the visitor's machine: nothing is fetched from elsewhere."""
    return Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_text_color="white",
    )


def _css() -> str:
    return files("invsolve.app").joinpath("page.css").read_text(encoding="utf-8")
