"""The public interface does not change by accident: what was listed still works, and what is new is listed."""

from __future__ import annotations

import pytest
from public_api import FILE, broken, lines

LISTED = {line.partition("(")[0]: line for line in FILE.read_text().splitlines()}
PRESENT = {line.partition("(")[0]: line for line in lines()}


def test_nothing_public_has_vanished_and_no_call_has_broken():
    assert not set(LISTED) - set(PRESENT)
    assert not [line for name, line in LISTED.items() if broken(line, PRESENT[name])]


def test_what_is_new_is_listed():
    assert not set(PRESENT) - set(LISTED), "run python tests/public_api.py if these are meant to be public"


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("a.f(x, y=)", "a.f(x, y=)", False),
        ("a.f(x, y=)", "a.f(x, y=, z=)", False),
        ("a.f(x, y=)", "a.f(x=, y=)", False),
        ("a.f(x, *, y=)", "a.f(x, *, z=, y=)", False),
        ("a.f(x, y=)", "a.f(x, y=, z)", True),
        ("a.f(x, y=)", "a.f(x, z=, y=)", True),
        ("a.f(x, y=)", "a.f(x)", True),
        ("a.f(x, y=)", "a.f(x, y)", True),
        ("a.f(x)", "a.g(x)", True),
    ],
)
def test_what_counts_as_broken(old, new, wrong):
    assert broken(old, new) == wrong
