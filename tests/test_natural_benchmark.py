"""The benchmarks of the packaged priors, without training and without their networks."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import psnr
from benchmarks.natural import compare, denoise
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


@pytest.mark.parametrize("name", ["card", "compare", "denoise", "samples"])
def test_help_is_shown(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"benchmarks.natural.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.natural.{name}", run_name="__main__")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_the_classical_methods_denoise() -> None:
    truth = np.tile(np.linspace(0.2, 0.8, 32)[:, None, None], (1, 32, 3))
    noisy = truth + 0.1 * np.random.default_rng(0).standard_normal(truth.shape)
    for name, method in denoise.peer_methods().items():
        if name not in ("noisy", "BM3D"):
            assert psnr(method(noisy, 0.1), truth) > psnr(noisy, truth) + 3, name
