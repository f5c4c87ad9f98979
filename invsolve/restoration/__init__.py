"""Restoring photographs: what `invsolve restore` does, as functions."""

from invsolve.restoration.run import Restoration, restore
from invsolve.tasks import TASKS

__all__ = ["TASKS", "Restoration", "restore"]
