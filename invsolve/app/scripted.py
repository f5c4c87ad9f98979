"""Components of the page that are drawn by the package's own scripts."""

from __future__ import annotations

from importlib.resources import files

import gradio as gr

__all__ = ["scripted"]


def scripted(name: str, elem_id: str) -> gr.HTML:
    """Create the component drawn by NAME.js in the current layout."""
    folder = files("invsolve.app")
    script = "".join(folder.joinpath(f"{part}.js").read_text(encoding="utf-8") for part in ("nodes", name))
    return gr.HTML(
        None, html_template=f'<div class="iv-{name}"></div>', js_on_load=script, elem_id=elem_id, padding=False,
        apply_default_css=False,
    )  # fmt: skip
