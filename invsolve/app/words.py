"""Texts of the page: names of tasks and options, results of a restoration, and how to repeat it."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from invsolve.core.options import Option

if TYPE_CHECKING:
    from invsolve.restoration.restored import Restoration

__all__ = [
    "bar", "command_line", "details", "explained", "found", "noise_level", "note", "python_lines", "rows",
    "seconds_left", "suggestion", "title", "warned",
]  # fmt: skip

TITLES = {
    "auto": "I don't know: have a look",
    "denoise": "Noisy or grainy",
    "superres": "Too small",
    "inpaint": "Parts are missing",
    "deblur": "Blurred, and I know how",
    "blind-deblur": "Shaken or out of focus",
    "jpeg": "Blocks from JPEG",
    "nonlinear-deblur": "Blurred in a real camera (non-linear)",
    "factor": "Times larger",
    "downsampling": "How it was made smaller",
    "mask": "Or a mask as a file (white is filled in)",
    "kernel": "How one point is blurred, as a file",
    "blur_sigma": "Or how wide the blur is, in pixels",
    "kernel_size": "Largest blur, in pixels",
    "compression": "JPEG quality",
    "noise": "How strong the noise is",
    "samples": "Number of samples",
    "seed": "Random seed",
    "time_limit": "Time limit in seconds",
}

EXPLAINED = {
    "factor": "4 makes 100 x 100 pixels 400 x 400",
    "blur_sigma": "For a soft, round blur: 1 is a little soft, 2 is clearly blurred, 5 is very blurred",
    "kernel_size": "Empty: 33",
    "compression": "1 to 100; empty: read from the file",
    "downsampling": "Leave it if you are unsure",
    "noise": "From 0 to 1, where 1 is the step from black to white; empty: measured in the image",
    "samples": "Images that all fit the given image; empty: none, or 6 if you ask how certain each pixel is",
    "seed": "Another number draws other samples",
    "time_limit": "The best quality that finishes in this time",
}

LEVELS = ((0.006, "hardly any"), (0.02, "faint"), (0.06, "visible"), (0.15, "strong"), (1.0, "very strong"))
"""Upper limits of noise levels, and the words for them."""


SOURCES = {
    "given": "as you said",
    "estimated": "measured in your image",
    "file": "read from the file",
    "pixels": "found in its pixels",
}
"""Where a noise level, or the quality of a JPEG file, comes from, in the record and in words."""


def title(name: str) -> str:
    """Return the title of a task or an option, made from its name if the page has no title for it."""
    return TITLES.get(name, name.replace("_", " ").replace("-", " ").capitalize())


def explained(option: Option) -> str:
    """Return a line of help about an option."""
    return EXPLAINED.get(option.name, option.help[:1].upper() + option.help[1:])


def noise_level(sigma: float, of: str = "") -> str:
    """Describe a noise level by a word, followed by `of`, and a number."""
    word = next((word for level, word in LEVELS if sigma <= level), LEVELS[-1][1])
    return f"{word}{of} ({100 * sigma:.2g} % of the step from black to white)"


def seconds_left(spent: float, share: float) -> str:
    """Describe the remaining time of a run, from the time spent on a share of its steps."""
    left = spent * (1 - share) / max(share, 1e-6)
    return f"about {left / 60:.0f} min left" if left >= 90 else f"about {max(left, 1):.0f} s left"


def bar(share: float, text: str) -> str:
    """Return a progress bar as HTML."""
    percent = round(100 * min(max(share, 0.0), 1.0))
    return (
        f'<div class="iv-progress" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><div class="iv-bar" style="width:{percent}%"></div></div>'
        f'<p class="iv-status" role="status">{html.escape(text)}</p>'
    )


def note(text: str) -> str:
    """Return a status line without a bar, as HTML."""
    return f'<p class="iv-status" role="status">{html.escape(text)}</p>'


def looked(auto: Mapping[str, Any]) -> str:
    """Describe the findings about an image, the record of `invsolve.tasks.auto.Findings`, in words."""
    told = [noise_level(auto["noise"], " noise")]
    if auto["jpeg_quality"] is not None:
        told.append(f"JPEG of quality {auto['jpeg_quality']}")
    if auto["missing"] > 0:
        told.append(f"{100 * auto['missing']:.2g} % of the pixels are transparent")
    return ", ".join(told)


def suggestion(auto: Mapping[str, Any], offered: Sequence[str]) -> tuple[str, str]:
    """Return the task to select for an analysed image, among the offered tasks, and the reason as HTML."""
    task, said = auto["task"], looked(auto)
    if task == "unchanged":
        return "auto", note(f"No clear damage was found: {said}. Is it blurred, too small or scratched? Say so below.")
    if task not in offered:
        return "auto", note(f"Restored as needed: {auto['found'][-1]}.")
    return task, note(f"Looks like “{title(task)}”: {said}. Choose another if that is wrong.")


def rows(pairs: Sequence[tuple[str, str]]) -> str:
    """Format pairs of a name and a text as HTML."""
    lines = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in pairs)
    return f'<dl class="iv-found">{lines}</dl>'


def details(heading: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Format pairs as in `rows`, collapsed under a heading."""
    return f'<details class="iv-details"><summary>{html.escape(heading)}</summary>{rows(pairs)}</details>'


def warned(texts: Sequence[str]) -> str:
    """Format warnings as HTML, each one only once."""
    told = (text[:1].upper() + text[1:] for text in dict.fromkeys(texts))
    return "".join(f'<p class="iv-warning">{html.escape(text)}</p>' for text in told)


def found(restoration: Restoration, warnings: Sequence[str]) -> str:
    """Describe a restoration as HTML: warnings, what was found and done, and how it was computed."""
    record = restoration.record
    noise, stats, solver, task = record["noise"], record["stats"], record["solver"], record["task"]
    height, width = restoration.image.size
    plain = [("Size", f"{width} x {height} pixels")]
    if "auto" in record:
        done = record["auto"]["found"][-1]
        plain.append(("Done", done[:1].upper() + done[1:]))
    if noise["source"] != "task":
        plain.append(("Noise", f"{noise_level(noise['sigma'])}, {SOURCES[noise['source']]}"))
    elif "sensor_noise" in task:
        source = SOURCES[task["sensor_noise"]["source"]]
        plain.append(("Noise of the sensor", f"{noise_level(noise['sigma'])}, {source}"))
    else:
        plain.append(("Lost to compression", f"about {100 * noise['sigma']:.2g} % of the step from black to white"))
    if "tables" in task:
        plain.append(("JPEG", f"quality {task['quality']}, {SOURCES[task['tables']]}"))
    if restoration.kernel is not None:
        plain.append(("Blur", "found in the image; how it smears a point is among the files"))
    careful = [*record["warnings"], *warnings, *(text for text in record["status"] if text != "ok")]
    exact = [
        ("Method", f"{solver['name']}: {solver['chosen']['reason']}"),
        ("Result", f"{record['estimate']}, {round(stats['network_forwards'])} network calls per sample"),
        ("Found", "; ".join(record["auto"]["found"]) if "auto" in record else noise["found"]),
        ("Prior", str(record["prior"]["name"])),
    ]
    return warned(careful) + rows(plain) + details("How it was computed", exact)


def command_line(
    name: str, task: str, told: Mapping[str, Any], output: str, settings: Mapping[str, Any] | None = None
) -> str:
    """Return the command that repeats a restoration in the folder of its files; `settings` are those of the solver."""
    words = ["invsolve", "restore", f"./{name}" if name.startswith("-") else name, "--task", task]
    for key, value in told.items():
        flag = f"--{key.replace('_', '-')}"
        words += [flag] if value is True else [f"{flag}={value}" if str(value).startswith("-") else flag]
        if value is not True and not str(value).startswith("-"):
            words.append(str(value))
    for key, value in (settings or {}).items():
        words += ["--set", f"{key}={str(value).lower() if isinstance(value, bool) else value}"]
    return shlex.join([*words, "-o", output])


def python_lines(name: str, task: str, told: Mapping[str, Any], output: str) -> str:
    """Return the Python lines that repeat a restoration."""
    keywords = "".join(f", {key}={value!r}" for key, value in told.items())
    return (
        f"import invsolve as iv\n\nrestoration = iv.restore({name!r}, {task!r}{keywords})\nrestoration.save({output!r})"
    )
