"""What the page says: names of tasks and options, what a restoration found, and how to make it again."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from invsolve.restoration.run import Restoration

__all__ = ["bar", "command_line", "found", "note", "python_lines", "seconds_left", "title"]

TITLES = {
    "denoise": "Noisy or grainy",
    "superres": "Too small",
    "inpaint": "Parts are missing",
    "deblur": "Blurred, and I know the blur",
    "blind-deblur": "Shaken or blurred",
    "jpeg": "JPEG blocks",
    "nonlinear-deblur": "Blurred in a real camera (non-linear)",
    "factor": "Times larger",
    "downsampling": "How it was made smaller",
    "mask": "Or a mask as a file",
    "kernel": "Blur kernel as a file",
    "blur_sigma": "Or the width of a Gaussian blur",
    "kernel_size": "Largest blur",
    "compression": "JPEG quality",
    "noise": "Noise level",
    "samples": "Number of samples",
    "seed": "Seed",
    "time_limit": "Time limit in seconds",
}


def title(name: str) -> str:
    """A task or an option in words; its name where the page has none."""
    return TITLES.get(name, name.replace("_", " ").replace("-", " ").capitalize())


def seconds_left(spent: float, share: float) -> str:
    """How long a run still takes, from the time it took for a share of its steps."""
    left = spent * (1 - share) / max(share, 1e-6)
    return f"about {left / 60:.0f} min left" if left >= 90 else f"about {max(left, 1):.0f} s left"


def bar(share: float, text: str) -> str:
    """A progress bar as HTML."""
    percent = round(100 * min(max(share, 0.0), 1.0))
    return (
        f'<div class="iv-progress" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><div class="iv-bar" style="width:{percent}%"></div></div>'
        f'<p class="iv-status" role="status">{html.escape(text)}</p>'
    )


def note(text: str) -> str:
    """A line without a bar."""
    return f'<p class="iv-status" role="status">{html.escape(text)}</p>'


def found(restoration: Restoration, warnings: Sequence[str]) -> str:
    """What was found, what was chosen and why, and what to be careful about, as HTML."""
    record = restoration.record
    noise, stats, solver = record["noise"], record["stats"], record["solver"]
    height, width = restoration.image.pixels.shape[1:]
    where = {"given": "as you said", "task": "known from the kind of damage", "estimated": str(noise["found"])}
    rows = [
        ("Size", f"{width} x {height} pixels"),
        ("Noise", f"{100 * noise['sigma']:.2f} % of the step from black to white; {where[noise['source']]}"),
        ("Method", f"{solver['name']}: {solver['chosen']['reason']}"),
        ("Result", f"{record['estimate']}, {round(stats['network_forwards'])} network calls a sample"),
    ]
    if restoration.uncertainty is not None:
        rows.append(("Certainty", restoration.uncertainty.promise))
    careful = [*warnings, *sorted({text for text in record["status"] if text != "ok"})]
    lines = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in rows)
    told = "".join(f'<p class="iv-warning">{html.escape(text)}</p>' for text in dict.fromkeys(careful))
    return f'{told}<dl class="iv-found">{lines}</dl>'


def command_line(name: str, task: str, told: Mapping[str, Any], output: str) -> str:
    """The command that makes a restoration again, in a folder that holds its files."""
    words = ["invsolve", "restore", f"./{name}" if name.startswith("-") else name, "--task", task]
    for key, value in told.items():
        flag = f"--{key.replace('_', '-')}"
        words += [flag] if value is True else [f"{flag}={value}" if str(value).startswith("-") else flag]
        if value is not True and not str(value).startswith("-"):
            words.append(str(value))
    return shlex.join([*words, "-o", output])


def python_lines(name: str, task: str, told: Mapping[str, Any], output: str) -> str:
    """The Python lines that make a restoration again."""
    keywords = "".join(f", {key}={value!r}" for key, value in told.items())
    return (
        f"import invsolve as iv\n\nrestoration = iv.restore({name!r}, {task!r}{keywords})\nrestoration.save({output!r})"
    )
