"""The tab that shows the leaderboard page of a results store."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from invsolve.app.following import sentences
from invsolve.core.checks import InputError

__all__ = ["PLACE", "LeaderboardTab", "named_stores"]

PLACE = "leaderboard"
"""Path at which the pages are served, below the address of the app."""

NOTHING = (
    "There are no results yet. Compute some with <code>invsolve bench run quick</code>, and start the page in the same "
    "folder, or with <code>invsolve app --store FOLDER</code>."
)


def named_stores(folders: Sequence[Path], home: Path) -> dict[str, Path]:
    """Return the results stores by name: the given folders, or else those that `invsolve bench` wrote into `home`.

    Raises:
        InputError: if a given folder has no results.
    """
    for folder in folders:
        if not (folder / "results.db").is_file():
            raise InputError(
                f"there are no results in {folder}: run `invsolve bench run` first, or name another --store"
            )
    found = folders or sorted(path.parent for path in home.glob("*/results.db"))
    named: dict[str, Path] = {}
    for path in found:
        named[path.name if path.name not in named else str(path)] = path
    return named


class LeaderboardTab:
    """Layout and event handlers of the tab.

    Args:
        stores: folders by name; a visitor can open only these.
        folder: the folder that is served at `PLACE`; pages are written into it.
    """

    def __init__(self, stores: Mapping[str, Path], folder: Path) -> None:
        self._stores, self._folder = stores, folder

    def build(self) -> None:
        """Create the components in the current layout."""
        if not self._stores:
            gr.HTML(f'<div class="iv-empty"><p>{NOTHING}</p></div>', padding=False)
            return
        with gr.Row(elem_classes="iv-action"):
            self.store = gr.Dropdown(list(self._stores), label="Results", scale=3, elem_id="iv-store")
            self.go = gr.Button("Open", variant="primary", scale=1, elem_id="iv-store-go")
        self.page = gr.HTML(padding=False, elem_id="iv-leaderboard")
        self.go.click(
            self.show, self.store, self.page, concurrency_limit=1, concurrency_id="leaderboard",
            show_progress="minimal", api_visibility="private",
        )  # fmt: skip

    def show(self, name: str) -> Any:
        """Return the page of a store; it is made again if there are new results.

        Raises:
            gradio.Error: if the store cannot be read.
        """
        from invsolve.bench.report import write_report

        store = self._stores[name]
        changed = max(path.stat().st_mtime_ns for path in store.glob("results.db*"))
        key = hashlib.sha256(f"{store.resolve()} {changed}".encode()).hexdigest()[:16]
        if not (self._folder / key / "index.html").is_file():
            (self._folder / key).mkdir(exist_ok=True)
            with sentences():
                write_report(store, self._folder / key)
        address = f"{PLACE}/{key}/index.html"
        link = f'<a href="{address}" target="_blank" rel="noopener">Open {html.escape(name)} in a page of its own</a>'
        frame = f'<iframe class="iv-frame" src="{address}" title="Leaderboard" sandbox="allow-scripts allow-popups">'
        return f"{link}{frame}</iframe>"
