"""The Python blocks of README and tutorial run as they are pasted, in order."""

from __future__ import annotations

import importlib
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

ROOT = Path(__file__).parent.parent


def readme_blocks() -> list[str]:
    """The indented blocks of README that are Python: those that import something."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    code = [textwrap.dedent(block) for block in blocks if re.search(r"^    (import|from) ", block, flags=re.MULTILINE)]
    assert len(code) >= 2
    return code


def tutorial_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("blocks", [readme_blocks(), tutorial_blocks()], ids=["README", "tutorial"])
def test_python_blocks_run_in_order(tmp_path, monkeypatch, blocks):
    rows, columns = np.meshgrid(np.linspace(0, 6, 96), np.linspace(0, 6, 80), indexing="ij")
    values = np.stack([0.5 + 0.4 * np.sin(rows * k + columns) for k in (1, 2, 3)], 2)
    pillow.fromarray((255 * values).astype(np.uint8)).save(tmp_path / "photo.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    name = f"pasted_{len(blocks)}"
    (tmp_path / f"{name}.py").write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module(name)
    sys.modules.pop(name)
