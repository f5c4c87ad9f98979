"""The blocks of README and tutorial run as they are pasted, in order."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from invsolve.commands.cli import main, parser_with

ROOT = Path(__file__).parent.parent
READ_ONLY = ("make ", "invsolve priors fetch", "invsolve doctor ffhq256", "invsolve bench ", "--prior ffhq256")
"""Lines of README that are parsed and not run: they install, download, or take minutes."""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    return [
        shlex.join(shlex.split(line, comments=True))
        for block in blocks("README.md", "bash")
        for line in block.splitlines()
    ]


@pytest.fixture
def photographs(tmp_path, monkeypatch) -> Path:
    """The files that README speaks of, in the working folder."""
    rows, columns = np.meshgrid(np.linspace(0, 4, 64), np.linspace(0, 3, 48), indexing="ij")
    values = np.stack([0.5 + 0.4 * np.sin(rows * k + columns) for k in (1, 2, 3)], 2)
    image = pillow.fromarray((255 * values).astype(np.uint8))
    holes = image.copy()
    holes.putalpha(pillow.fromarray(np.where(np.random.default_rng(0).random((64, 48)) < 0.3, 0, 255).astype(np.uint8)))
    holes.save(tmp_path / "holes.png")
    (tmp_path / "folder").mkdir()
    for name in ("photo.jpg", "scan.png", "soft.tif", "shaken.jpg", "face.png", "folder/one.png"):
        image.save(tmp_path / name)
    image.resize((80, 96)).save(tmp_path / "photo.jpg")
    image.save(tmp_path / "blocky.jpg", quality=20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_python_blocks_run_in_order(photographs, monkeypatch, page):
    code = blocks(page, "python")
    assert code
    name = f"pasted_{Path(page).stem}"
    (photographs / f"{name}.py").write_text("\n".join(code))
    monkeypatch.syspath_prepend(str(photographs))
    importlib.import_module(name)
    sys.modules.pop(name)


def test_shell_blocks_run_in_order(photographs):
    lines = commands()
    assert len(lines) > 12
    for line in lines:
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        elif any(part in line for part in READ_ONLY):
            assert parser_with(line.split()[1]).parse_args(line.split()[1:])
        else:
            assert main([*shlex.split(line)[1:], "--quality", "fast", "--overwrite"]) == 0, line
    assert (photographs / "clean" / "one-restored.png").is_file()
    assert (photographs / "photo-restored.jpg").is_file()


def test_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), target
