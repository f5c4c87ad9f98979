"""The script that measures a GPU, rehearsed on the CPU: every part runs, and what does not fit is left out by name."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.gpu import run
from invsolve import solvers

CPU = torch.device("cpu")


def test_without_time_everything_is_left_out_by_name(tmp_path):
    found = run.measure(CPU, 0.0, tmp_path, rehearse=True)
    for part in run.SHARES:
        assert found[part]
        assert all(row["left out"] for row in found[part])
    assert json.loads((tmp_path / "gpu.json").read_text()) == found
    assert "no time" in (tmp_path / "gpu.md").read_text()


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run", "--out", str(tmp_path)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run.main() == 2
    assert "--rehearse" in capsys.readouterr().err


@pytest.mark.slow
def test_the_rehearsal_measures_every_part(tmp_path):
    found = run.measure(CPU, 9.0, tmp_path, rehearse=True)
    assert [row["solver"] for row in found["agreement"]] == list(solvers.SOLVERS)
    assert all(row["largest difference"] == 0 and row["status"] == ["ok"] for row in found["agreement"])
    for part, what in (("calls", "gradient"), ("steps", "step"), ("budgets", "seconds an image")):
        measured = [row for row in found[part] if "compiled" not in row.get("option", "")]
        assert measured
        assert all(row[what] > 0 for row in measured)
    table = (tmp_path / "gpu.md").read_text()
    assert "rehearsed: no figures" in table
    assert "ImageNet, 553 million" in table
