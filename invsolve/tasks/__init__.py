"""The restoration tasks: how each degrades an image, and what one has without the library."""

from invsolve.tasks.base import TASKS, BlindDeblur, Deblur, Denoise, Inpaint, Superres, Task

__all__ = ["TASKS", "BlindDeblur", "Deblur", "Denoise", "Inpaint", "Superres", "Task"]
