"""Helpers of the experiments: statistics over seeds, and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

__all__ = ["RESULTS", "save", "spread"]

RESULTS = Path(__file__).parent / "results"


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds."""
    tensor = torch.tensor(list(values), dtype=torch.float64)
    if len(tensor) < 2:
        return f"{tensor.mean():.{digits}f}"
    return f"{tensor.mean():.{digits}f} ± {tensor.std():.{digits}f}"


def save(name: str, text: str, data: Any) -> None:
    """Write NAME.md and NAME.json to the folder of results."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    print(text)
