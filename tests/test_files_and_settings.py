"""Files are there whole or not at all; settings of a command line have the types that TOML gives them."""

from __future__ import annotations

import pytest

from invsolve import InputError
from invsolve.core.files import written_whole
from invsolve.core.settings import read_setting


def fail_while_writing(path):
    with written_whole(path) as part:
        part.write_text("half")
        raise RuntimeError("the disk is full")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "content.txt"
    with pytest.raises(RuntimeError, match="full"):
        fail_while_writing(path)
    assert not list(tmp_path.iterdir())
    path.write_text("old")
    with pytest.raises(RuntimeError, match="full"):
        fail_while_writing(path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("content.txt", "old")]
    with written_whole(path) as part:
        part.write_text("new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("content.txt", "new")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=3", 3),
        ("a=0.5", 0.5),
        ("a=true", True),
        ("a=[1, 2]", [1, 2]),
        ("a='3'", "3"),
        ("a=ddim", "ddim"),
        ("a=", ""),
    ],
)
def test_values_have_the_type_that_toml_gives_them(text, value):
    name, found = read_setting(text, "a=3")
    assert (name, found, type(found)) == ("a", value, type(value))


@pytest.mark.parametrize("text", ["a", "=3", ""])
def test_a_setting_without_a_name_or_value_is_one_sentence(text):
    with pytest.raises(InputError, match=r"takes PART\.NAME=VALUE, for example solver\.n_steps=20"):
        read_setting(text, "solver.n_steps=20", "PART.NAME=VALUE")
