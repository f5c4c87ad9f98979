"""Citations of methods: one line of text each, and their BibTeX entries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from invsolve.core.checks import InputError

__all__ = ["Citation", "cite", "papers"]

_FORM = re.compile(r'^(?P<authors>[^"]+?) (?P<year>(?:19|20)\d\d), "(?P<title>[^"]+)", (?P<place>.+)$')
_ARXIV = re.compile(r"^arXiv (\d{4}\.\d{4,5})$")


@dataclass(frozen=True)
class Citation:
    """A paper.

    Attributes:
        authors: family names, in order.
        year: year of the identifier's first version.
        title: the published title.
        identifier: "arXiv 2502.03686", or, if the paper has none, the venue with its number or address.
    """

    authors: tuple[str, ...]
    year: int
    title: str
    identifier: str

    @classmethod
    def parse(cls, text: str) -> Citation:
        """Parse a line such as 'Song, Meng, Ermon 2020, "Denoising ...", arXiv 2010.02502'.

        Raises:
            InputError: the line does not have this form.
        """
        found = _FORM.match(text)
        if found is None:
            raise InputError(f'a citation reads: Family, Family 2025, "Title", arXiv 2502.03686; got {text!r}')
        authors = tuple(found["authors"].split(", "))
        return cls(authors, int(found["year"]), found["title"], found["place"])

    def __str__(self) -> str:
        return f'{", ".join(self.authors)} {self.year}, "{self.title}", {self.identifier}'

    @property
    def key(self) -> str:
        """The key of the BibTeX entry: first author, year and first word of the title, lower case."""
        word = re.findall(r"[A-Za-z]+", self.title)[0]
        return re.sub(r"[^a-z0-9]", "", f"{self.authors[0]}{self.year}{word}".lower())

    def bibtex(self) -> str:
        """The BibTeX entry."""
        fields = {"author": " and ".join(f"{{{name}}}" for name in self.authors), "title": f"{{{self.title}}}"}
        fields["year"] = str(self.year)
        arxiv = _ARXIV.match(self.identifier)
        if arxiv:
            fields |= {"eprint": arxiv[1], "archiveprefix": "arXiv", "url": f"https://arxiv.org/abs/{arxiv[1]}"}
        else:
            fields["howpublished"] = self.identifier
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@misc{{{self.key},\n{body}\n}}"


def papers(solver: Any) -> tuple[Citation, ...]:
    """The papers of a solver or of its class; `cite` separates several papers by semicolons.

    Raises:
        InputError: the solver has no citation in the form of `Citation.parse`.
    """
    text = getattr(solver, "cite", None)
    if not isinstance(text, str):
        raise InputError(f"{solver!r} cites no source: give a solver or its class")
    return tuple(Citation.parse(part) for part in text.split("; "))


def cite(*solvers: Any) -> str:
    """The BibTeX entries of the papers of some solvers (or their classes), each once, in order.

    Raises:
        InputError: a solver has no citation.
    """
    entries = {paper.key: paper.bibtex() for solver in solvers for paper in papers(solver)}
    return "\n\n".join(entries.values()) + "\n"
