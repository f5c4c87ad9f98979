"""Search a folder for images."""

from __future__ import annotations

from pathlib import Path

from invsolve.io.header import READABLE

__all__ = ["images_in"]


def images_in(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted by path; hidden files and those in hidden folders are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in READABLE
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
