"""Texts about compared restorations: scores, network calls and seconds."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from invsolve.app.words import note, warned

if TYPE_CHECKING:
    from invsolve.restoration.restored import Restoration

__all__ = ["before_caption", "caption", "scores_table"]


def _scores(restoration: Restoration) -> dict[str, float]:
    return restoration.record.get("scores", {}).get("restored", {})


def _calls(restoration: Restoration) -> float:
    """Return the number of network calls, forward and backward."""
    return restoration.record["stats"]["network_forwards"] + restoration.record["stats"]["network_backwards"]


def caption(restoration: Restoration) -> str:
    """Return the seconds and network calls, and the scores if the ground truth is known."""
    scores, stats = _scores(restoration), restoration.record["stats"]
    measured = f"{scores['psnr']:.2f} dB, SSIM {scores['ssim']:.3f}; " if scores else ""
    return f"{measured}{stats['seconds']:.1f} s, {_calls(restoration):.0f} calls"


def before_caption(restoration: Restoration) -> str:
    """Return the PSNR of the baseline made from the damaged image; "" if the ground truth is not known."""
    scores = restoration.record.get("scores", {})
    name = next((name for name in scores if name != "restored"), None)
    return "" if name is None else f"baseline ({name}): {scores[name]['psnr']:.2f} dB"


def scores_table(names: Sequence[str], outcomes: Sequence[Restoration | str]) -> str:
    """Return an HTML table of scores, network calls and seconds; the best value of each column is bold."""
    columns = (
        ("PSNR in dB", "psnr", max),
        ("SSIM", "ssim", max),
        ("Network calls", "calls", min),
        ("Seconds", "s", min),
    )
    rows: list[dict[str, float]] = []
    for each in outcomes:
        if isinstance(each, str):
            rows.append({})
            continue
        own = {"calls": _calls(each), "s": each.record["stats"]["seconds"]}
        rows.append({**{k: v for k, v in _scores(each).items() if k in ("psnr", "ssim")}, **own})
    shown_columns = [column for column in columns if any(column[1] in row for row in rows)]
    best = {key: pick(row[key] for row in rows if key in row) for _, key, pick in shown_columns}
    digits = {"psnr": ".2f", "ssim": ".3f", "calls": ".0f", "s": ".1f"}
    lines = []
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        cells = ""
        for _, key, _ in shown_columns:
            text = format(row[key], digits[key]) if key in row else "–"
            cells += f"<td>{f'<b>{text}</b>' if row.get(key) == best[key] and len(rows) > 1 else text}</td>"
        lines.append(f"<tr><th scope=row>{i + 1}. {html.escape(name)}</th>{cells}</tr>")
    head = "".join(f"<th scope=col>{name}</th>" for name, _, _ in shown_columns)
    known = any("psnr" in row for row in rows)
    said = (
        "" if known else note("The undamaged image is unknown, so the page cannot say which result is closest to it.")
    )
    careful = warned([w for each in outcomes if not isinstance(each, str) for w in each.record["warnings"]])
    body = "".join(lines)
    return f'<div class="iv-scroll"><table class="iv-table"><tr><th></th>{head}</tr>{body}</table></div>{said}{careful}'
