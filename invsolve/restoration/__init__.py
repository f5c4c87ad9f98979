"""Restore photographs from Python: the functions behind `invsolve restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invsolve.core.lazy import names_of

if TYPE_CHECKING:
    from invsolve.restoration.batch import restore_many
    from invsolve.restoration.items import Outcome
    from invsolve.restoration.restored import Restoration
    from invsolve.restoration.run import restore
    from invsolve.tasks import TASKS

__all__ = ["TASKS", "Outcome", "Restoration", "restore", "restore_many"]

_HOMES = {
    "Outcome": "invsolve.restoration.items",
    "Restoration": "invsolve.restoration.restored",
    "TASKS": "invsolve.tasks",
    "restore": "invsolve.restoration.run",
    "restore_many": "invsolve.restoration.batch",
}
__getattr__ = names_of(__name__, _HOMES)
