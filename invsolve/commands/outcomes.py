"""What `invsolve restore` prints about its outcomes."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.commands.terminal import one_line
from invsolve.restoration.sources import Found
from invsolve.tasks.auto import Unchanged

if TYPE_CHECKING:
    from invsolve.restoration.items import Outcome

__all__ = ["counted", "summary", "tell", "warn"]

logger = logging.getLogger(__name__)


def tell(outcome: Outcome, args: argparse.Namespace) -> None:
    """Print the outcome of an image: a line of JSON, or the path of the result and how it was computed."""
    record = outcome.record or {}
    if args.json:
        line = {
            "source": outcome.source, "status": outcome.status, "output": str(outcome.path or ""),
            "seconds": round(outcome.seconds, 3), "error": outcome.error,
            **{name: record[name] for name in ("noise", "scores", "warnings") if name in record},
        }  # fmt: skip
        sys.stdout.write(json.dumps(line, default=str) + "\n")
        sys.stdout.flush()
        return
    if outcome.status == "failed":
        told = outcome.error if outcome.source in outcome.error else f"{outcome.source}: {outcome.error}"
        sys.stderr.write(f"invsolve: {one_line(told)}\n")
    if outcome.status == "restored" and not args.quiet:
        sys.stdout.write("\n".join([*_report(outcome.path, record), ""]))
        sys.stdout.flush()
    if outcome.status == "restored":
        warn(str(outcome.path), record)


def warn(name: str, record: Any) -> None:
    """Print one line for each warning about a restoration."""
    ended = {s for s in record["status"] if s != "ok" and s not in record["warnings"]}
    for sentence in (*sorted(ended), *record["warnings"]):
        logger.warning("%s: %s", name, sentence)
    for number, page in enumerate(record.get("further_pages", ()), 2):
        warn(f"{name}, page {number}", page)


def _report(path: Path | None, record: Any) -> list[str]:
    noise, stats = record["noise"], record["stats"]
    if record["task"]["name"] == Unchanged.name:
        how = ": the file was copied byte for byte" if record.get("copied") else ""
        what = "the image" if _untouched(record) else "the first page"
        lines = [one_line(path), f"  {what} is unchanged{how}", f"  {'; '.join(record['auto']['found'])}"]
        return [*lines, *_further(record)]
    by = f" by {record['solver']['name']}" if stats["network_forwards"] else ""
    lines = [
        one_line(path),
        f"  {record['estimate']}{by}, noise {noise['sigma']:.4f} ({noise['source']}), "
        f"{round(stats['network_forwards'])} network calls per sample, {stats['seconds']:.1f} s",
        f"  {record['solver']['chosen']['reason']}",
    ]
    if "auto" in record:
        lines.append(f"  {'; '.join(record['auto']['found'])}")
    elif noise["source"] == "estimated":
        lines.append(f"  found {noise['found']}")
    if sensor := record["task"].get("sensor_noise"):
        told = f"variance {sensor['a']:.2g} + {sensor['b']:.2g} x brightness"
        lines.append(
            f"  noise of the sensor: {told} ({'read from the file' if sensor['source'] == 'file' else 'estimated'})"
        )
    lines += _further(record)
    if "found" in record["task"]:
        lines.append(f"  {record['task']['found']}")
    if "uncertainty" in record:
        lines.append(f"  90 % intervals: {record['uncertainty']['promise']}")
    for name, score in record.get("scores", {}).items():
        ssim = "" if score["ssim"] is None else f", SSIM {score['ssim']:.4f}"
        lines.append(f"  {name}: PSNR {score['psnr']:.2f} dB{ssim}")
    return lines


def _further(record: Any) -> list[str]:
    """Return a line about the pages after the first: how many there are, and how they were restored."""
    pages = record.get("further_pages", ())
    if not pages:
        return []
    count = Counter("unchanged" if _untouched(page) else f"by {page['solver']['name']}" for page in pages)
    return [f"  and {len(pages)} more pages: {', '.join(f'{n} {how}' for how, n in count.items())}"]


def _untouched(record: Mapping[str, Any]) -> bool:
    """Whether the image and all other pages of its file were left unchanged."""
    return all(
        page.get("task", {}).get("name") == Unchanged.name for page in (record, *record.get("further_pages", ()))
    )


def counted(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a record that the summary needs."""
    score = record.get("scores", {}).get("restored", {}).get("psnr")
    return {"psnr": score, "unchanged": _untouched(record)}


def summary(ended: Sequence[Outcome], seconds: float, found: Found, args: argparse.Namespace) -> None:
    """Print a summary of the batch on standard error."""
    if args.quiet:
        return
    counts = Counter(outcome.status for outcome in ended)
    parts = [f"{counts[status]} {status}" for status in ("restored", "skipped", "failed") if counts[status]]
    records = [outcome.record or {} for outcome in ended]
    unchanged = sum(record.get("unchanged", False) for record in records)
    if unchanged:
        parts[0] += f" ({unchanged} of them unchanged: no clear degradation was found)"
    lines = [f"invsolve: {', '.join(parts) or 'no images'} in {seconds:.0f} s"]
    scores = [record["psnr"] for record in records if record.get("psnr") is not None]
    if scores:
        from statistics import median

        lines[0] += f", median PSNR {median(scores):.2f} dB"
    failed = [outcome.source for outcome in ended if outcome.status == "failed"]
    for what, names in (
        ("failed", failed),
        ("skipped, not images", found.others),
        ("folders left out (--recursive searches them)", found.folders),
        ("left out, written by earlier runs", found.made),
    ):
        if names:
            shown = ", ".join(one_line(Path(name).name) for name in names[:5])
            lines.append(f"invsolve: {what}: {shown}{f' and {len(names) - 5} more' if len(names) > 5 else ''}")
    sys.stderr.write("\n".join([*lines, ""]))
