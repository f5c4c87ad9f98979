"""A restoration that takes no time: what is left is the work of the driver. Workers import this module alone."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["restore_nothing"]

RECORD = json.dumps({"source": "x" * 80, "status": "restored", "record": {"settings": ["0.12345678"] * 300}}).encode()
"""An outcome as large as those of restorations."""


def restore_nothing(job: Any) -> bytes:
    """What `invsolve.restoration.batch.restore_item` gives back, at once."""
    return RECORD
