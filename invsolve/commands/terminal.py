"""Safe output to a terminal: characters that it cannot show, for example in file names, are escaped."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["Formatter", "Printable", "one_line", "printable"]


def printable(text: str) -> str:
    """Return the text with control characters and other non-printable characters escaped.

    Newlines and tabs are kept.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: object) -> str:
    """Return the text as one printable line."""
    return printable(" ".join(str(text).split()))


class Printable:
    """A text stream that writes to another one; what is not printable, or not in its encoding, is escaped."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"  # a StringIO has none
        return self._stream.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Formatter(logging.Formatter):
    """Format a log record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))
