"""The benchmarks of the packaged priors, without training and without their networks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.natural import compare
from invsolve.train.settings import DenoiserTraining


def test_every_design_is_trained_and_gets_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_log(config: DenoiserTraining) -> None:
        head, row = "step,best,ema0.05_psnr15,ema0.05_psnr25,ema0.05_psnr50", "7,ema0.05,30,28,25"
        config.out.with_suffix(".csv").write_text(f"{head}\n{row}\n")

    monkeypatch.setattr(compare, "train_denoiser", write_log)
    monkeypatch.setattr(compare.torch, "set_num_threads", lambda n: None)
    out = tmp_path / "compare.md"
    monkeypatch.setattr(sys, "argv", ["compare", "--images", str(tmp_path), "--minutes", "1", "--out", str(out)])
    compare.main()
    rows = out.read_text().splitlines()
    assert sum(row.endswith("| 7 | 30.00 / 28.00 / 25.00 |") for row in rows) == 4
