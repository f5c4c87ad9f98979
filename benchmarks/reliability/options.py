"""Odd command lines: each must work, or end with one sentence."""

from __future__ import annotations

__all__ = ["ODD"]

RESTORE = ["restore", "IMAGE", "--task", "denoise"]

ODD: list[list[str]] = [
    [*RESTORE, "--noise", "nan"], [*RESTORE, "--noise", "inf"], [*RESTORE, "--noise", "-1"], [*RESTORE, "--noise", "x"],
    [*RESTORE, "--noise", "1e308"], [*RESTORE, "--samples", "0"], [*RESTORE, "--samples", "-3"],
    [*RESTORE, "--samples", "1.5"], [*RESTORE, "--memory", "0"], [*RESTORE, "--memory", "-1"],
    [*RESTORE, "--memory", "nan"], [*RESTORE, "--tile", "0"], [*RESTORE, "--tile", "7"], [*RESTORE, "--tile", "-64"],
    [*RESTORE, "--seed", "1e3"], [*RESTORE, "--device", "tpu"], [*RESTORE, "--device", ""],
    [*RESTORE, "--precision", "float7"], [*RESTORE, "--quality", "superb"], [*RESTORE, "--time-limit", "0"],
    [*RESTORE, "--time-limit", "nan"], [*RESTORE, "--time-limit", "-5"], [*RESTORE, "--solver", "os:system"],
    [*RESTORE, "--solver", "no-such"], [*RESTORE, "--prior", "os:getcwd"], [*RESTORE, "--prior", "\x1b[31m"],
    [*RESTORE, "--prior", "x" * 5000], [*RESTORE, "--set", "n_steps=0"], [*RESTORE, "--set", "n_steps=1e9999"],
    [*RESTORE, "--set", "=3"], [*RESTORE, "--set", "a" * 3000], [*RESTORE, "-o", "/nowhere/at/all.png"],
    [*RESTORE, "-o", "x" * 300 + ".png"], [*RESTORE, "-o", "/dev/null"], [*RESTORE, "--checkpoint", "/nowhere/c"],
    [*RESTORE, "--checkpoint", "."], ["restore", "IMAGE", "--task", "no\nsuch"], ["restore", "IMAGE"], ["restore"],
    ["restore", "IMAGE", "--task", "superres", "--factor", "0"], ["bench", "run", "no-such"],
    ["bench", "report", "--store", "/nowhere"], ["bench", "run", "/dev/null/x.toml"], ["bench", "check", "IMAGE"],
    ["bench", "run", "quick", "--only", "planet=mars"], ["priors", "show", "no-such"], ["nonsense"],
    ["restore", "IMAGE", "--task", "inpaint", "--mask", "IMAGE"], ["restore", "\udcff.png", "--task", "denoise"],
    ["restore", "IMAGE", "--task", "deblur", "--blur-sigma", "-2"],
]  # fmt: skip
"""IMAGE is replaced by the path of an existing image."""
