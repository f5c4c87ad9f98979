"""Restoring photographs: what `invsolve restore` does, as functions."""

from invsolve.restoration.batch import Outcome, restore_many
from invsolve.restoration.run import Restoration, restore
from invsolve.tasks import TASKS

__all__ = ["TASKS", "Outcome", "Restoration", "restore", "restore_many"]
