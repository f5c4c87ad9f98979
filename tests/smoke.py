"""What an installed package must do: python smoke.py, in a folder without the sources."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

import invsolve as iv
from invsolve import operators, priors, solvers


def main() -> None:
    """Restore an image by the command and from Python, and load everything that is registered."""
    assert iv.__version__ == version("invsolve")
    assert all(solvers.SOLVERS[name] for name in solvers.SOLVERS)
    assert all(operators.OPERATORS[name] for name in operators.OPERATORS)
    assert priors.load("digits").shape == (1, 16, 16)
    with TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        Image.new("RGB", (40, 32), (120, 140, 90)).save(photo)
        command = [sys.executable, "-m", "invsolve", "restore", str(photo), "--task", "superres", "--factor", "2"]
        subprocess.run(command, check=True)
        assert Image.open(Path(folder) / "photo-restored.png").size == (80, 64)
        done = iv.restore(torch.rand(3, 16, 16), "denoise", noise=0.1)
        assert done.image.pixels.shape == (3, 16, 16)
        suites = subprocess.run(
            [sys.executable, "-m", "invsolve", "bench", "list"], capture_output=True, text=True, check=True
        )
        assert "quick" in suites.stdout
    print(f"invsolve {iv.__version__} works on Python {sys.version.split()[0]}, torch {torch.__version__}")  # noqa: T201


if __name__ == "__main__":
    main()
