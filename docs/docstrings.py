"""From the docstrings of the package, plain text with Google's sections, to reStructuredText."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["to_rst"]

SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:", "Example:", "Examples:", "Note:")


def to_rst(lines: Sequence[str]) -> list[str]:
    """Lines with formulas and tables as literal blocks, names in backticks as code, and everything else as it is."""
    out: list[str] = []
    paragraphs = "\n".join(lines).split("\n\n")
    for paragraph in paragraphs:
        part = [line for line in paragraph.split("\n") if line.strip()]
        if not part:
            continue
        if part[0].strip() in SECTIONS and indent(part[0]) == 0:
            out += [part[0], *section(part[1:]), ""]
        elif indent(part[0]) > 0:
            joined = len(out) > 1 and out[-1] == "" and out[-2].startswith("    ") and not in_section(out)
            out += part if joined else ["::", "", *part]
            out.append("")
        else:
            out += [*prose(part), ""]
    return out


def indent(line: str) -> int:
    """The spaces before a line."""
    return len(line) - len(line.lstrip())


def in_section(out: Sequence[str]) -> bool:
    """Whether the last line of the left margin begins a section."""
    margin = [line for line in out if line and indent(line) == 0]
    return bool(margin) and margin[-1] in SECTIONS


def prose(lines: Sequence[str]) -> list[str]:
    """A paragraph, in which indented lines are a block of their own."""
    out: list[str] = []
    for line in lines:
        if indent(line) == 0:
            out += [""] if out and out[-1].startswith("    ") else []
            out.append(escaped(line))
        else:
            out += [] if out and out[-1].startswith("    ") else ["", "::", ""]
            out.append(line)
    return out


def section(lines: Sequence[str]) -> list[str]:
    """The items of a section; what is indented within an item keeps its lines."""
    items: list[list[str]] = []
    for line in lines:
        if indent(line) <= 4 or not items:
            items.append([line])
        else:
            items[-1].append(line)
    out: list[str] = []
    for head, *body in items:
        if all(indent(line) == 8 for line in body):
            out += map(escaped, [head, *body])
            continue
        least = min(map(indent, body))
        lines_kept = [f"        | {' ' * (indent(line) - least)}{escaped(line.strip())}" for line in body]
        out += [escaped(head), "", *lines_kept, ""]
    return out


def escaped(line: str) -> str:
    """A line of prose in which nothing but backticks means anything."""
    parts = re.split(r"(``[^`]+``|`[^`]+`)", line)
    return "".join(f"``{part.strip('`')}``" if part.startswith("`") else _plain(part) for part in parts)


def _plain(text: str) -> str:
    rest = re.sub(r"([*|\\])", r"\\\1", text)
    return re.sub(r"(\w)_(?=\W|$)", r"\1\\_", rest)
