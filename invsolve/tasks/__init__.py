"""The restoration tasks: each has its own file and one line here."""

from invsolve.core.registry import Registry
from invsolve.tasks.base import Task

__all__ = ["TASKS", "Task"]

TASKS = Registry(
    "task",
    {
        "auto": "invsolve.tasks.auto:Auto",
        "blind-deblur": "invsolve.tasks.blind_deblur:BlindDeblur",
        "custom": "invsolve.tasks.custom:Custom",
        "deblur": "invsolve.tasks.deblur:Deblur",
        "demosaic": "invsolve.tasks.demosaic:Demosaic",
        "denoise": "invsolve.tasks.denoise:Denoise",
        "inpaint": "invsolve.tasks.inpaint:Inpaint",
        "jpeg": "invsolve.tasks.jpeg:JPEG",
        "nonlinear-deblur": "invsolve.tasks.nonlinear_deblur:NonlinearDeblur",
        "superres": "invsolve.tasks.superres:Superres",
    },
    "invsolve.tasks.base:Task",
)
"""The tasks by name, as used by `invsolve restore --task`, the leaderboard suites and `invsolve tune`."""
