"""Every method names its paper, in a form from which BibTeX follows."""

from __future__ import annotations

import re

import pytest

import invsolve as iv
from invsolve import solvers
from invsolve.bench.report import references
from invsolve.core.citation import Citation, papers


@pytest.mark.parametrize("name", sorted(solvers.SOLVERS))
def test_every_solver_names_authors_year_title_and_identifier(name):
    found = papers(solvers.SOLVERS[name])
    assert "; ".join(map(str, found)) == solvers.SOLVERS[name].cite
    for paper in found:
        assert all(author[0].isupper() for author in paper.authors)
        if paper.identifier.startswith("arXiv"):  # an identifier begins with the year and month
            assert re.fullmatch(r"arXiv (\d\d)(0[1-9]|1[0-2])\.\d{4,5}", paper.identifier)
            assert paper.year == 2000 + int(paper.identifier[6:8])


def test_trajectory_matching_is_the_paper_of_its_authors():
    for kind in (solvers.NDTM, solvers.CTDTM, solvers.FTM):
        (paper,) = papers(kind)
        assert paper.authors == ("Pandey", "Sofian", "Draxler", "Karaletsos", "Mandt")
        assert (paper.year, paper.identifier) == (2025, "arXiv 2502.03686")


def test_bibtex_holds_each_paper_once():
    text = iv.cite(solvers.NDTM(), solvers.FTM, solvers.FreeDoM())
    assert re.findall(r"@misc\{(\w+)", text) == ["pandey2025variational", "yu2023freedom", "bansal2023universal"]
    assert "author = {{Pandey} and {Sofian} and {Draxler} and {Karaletsos} and {Mandt}}" in text
    assert "eprint = {2502.03686}" in text
    keys = [paper.key for name in solvers.SOLVERS for paper in papers(solvers.SOLVERS[name])]
    assert len(set(keys)) == len(keys) - 2  # three solvers share one paper


@pytest.mark.parametrize("text", ["nobody", "Song 2020, arXiv 2010.02502", 'Song, "Title", arXiv 2010.02502', ""])
def test_other_forms_are_refused(text):
    with pytest.raises(iv.InputError, match="a citation reads"):
        Citation.parse(text)


def test_what_has_no_source_is_refused():
    with pytest.raises(iv.InputError, match="cites no source"):
        iv.cite(3)


def test_references_of_a_suite_are_those_of_its_own_solvers():
    rows = [
        {"solver": "ndtm", "method": "solver"},
        {"solver": "ndtm", "method": "solver"},
        {"solver": "dps", "method": "peer"},
    ]
    assert references({"solvers": rows}) == iv.cite(solvers.NDTM)
