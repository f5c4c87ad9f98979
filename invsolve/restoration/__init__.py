"""Restore photographs from Python: the functions behind `invsolve restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invsolve.core.lazy import names_of

if TYPE_CHECKING:
    from invsolve.restoration.batch import Outcome, restore_many
    from invsolve.restoration.restored import Restoration
    from invsolve.restoration.run import restore
    from invsolve.tasks import TASKS

__all__ = ["TASKS", "Outcome", "Restoration", "restore", "restore_many"]

_BATCH, _RUN = "invsolve.restoration.batch", "invsolve.restoration.run"
_HOMES = {
    "Outcome": _BATCH, "restore_many": _BATCH, "Restoration": "invsolve.restoration.restored", "restore": _RUN,
    "TASKS": "invsolve.tasks",
}  # fmt: skip
__getattr__ = names_of(__name__, _HOMES)
