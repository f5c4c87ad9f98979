"""`invsolve doctor`: what is missing is told, and what is there is measured with the settings that would be used."""

from __future__ import annotations

import pytest

from invsolve.commands.cli import main
from invsolve.priors.loading.cards import card


def test_a_prior_that_is_there_is_measured(capsys):
    assert main(["doctor", "digits", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "in the package" in out
    assert "global, settings of imagenet256 (the nearest); classes" in out
    assert "one state of 16 x 16" in out
    assert "superres4   about" in out
    assert "(150 calls, 100 of them differentiated): ndtm with the settings published as imagenet256/superres4" in out
    assert "GiB at most so far" in out


def test_weights_that_are_missing_are_told_with_how_to_get_them(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("INVSOLVE_CACHE", str(tmp_path))
    assert main(["doctor", "ffhq256"]) == 1
    assert f"invsolve priors fetch ffhq256` downloads {card('ffhq256').url}" in capsys.readouterr().out


@pytest.mark.parametrize("known", [True, False])
def test_weights_of_another_hash_are_refused(capsys, monkeypatch, tmp_path, known):
    monkeypatch.setenv("INVSOLVE_CACHE", str(tmp_path))
    name = "imagenet256" if known else "ffhq256"
    (tmp_path / card(name).file).write_bytes(b"damaged")
    if not known:
        (tmp_path / f"{card(name).file}.sha256").write_text("abc  file")
    assert main(["doctor", name]) == 2
    assert ": remove it and fetch it again" in capsys.readouterr().err
