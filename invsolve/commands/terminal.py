"""What a command writes to a terminal: names of files may hold anything, control characters of them never get there."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["Formatter", "Printable", "one_line", "printable"]


def printable(text: str) -> str:
    """The text with every character that a terminal could take for a command, or cannot show, as its escape.

    Lines and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: object) -> str:
    """The text in one line, printable."""
    return printable(" ".join(str(text).split()))


class Printable:
    """A text stream that escapes what is no text before it hands it to another."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Formatter(logging.Formatter):
    """A log record in one line."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))
