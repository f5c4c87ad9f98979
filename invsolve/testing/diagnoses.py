"""Messages that name the likely cause of a failed check."""

from __future__ import annotations

import torch

__all__ = [
    "BATCH", "BEYOND", "BYTES", "CLIPPED", "DEVICE", "NO_ACCELERATOR", "PICKLE", "PRECISIONS", "RANDOM",
    "SCALE", "SIGNED", "SMALLEST", "of_adjoint", "of_error", "of_gradient", "of_precision", "of_shape",
    "of_slope", "of_values",
]  # fmt: skip

RANDOM = (
    "a random draw is hidden in forward (or something changes from call to call): draw once, in __init__, from an Rng, "
    "and keep the result"
)
BATCH = "samples see each other: a sum, norm or mean runs over the batch, or parameters per sample need `select`"
BEYOND = (
    "solvers' estimates lie a little outside [0, 1], where roots, logarithms and powers of negative numbers are NaN: "
    "clamp them first"
)
SCALE = "images are [0, 1]; values this large look like 0 to 255: scale the output"
BYTES = "it hardly sees an image in [0, 1]: does it expect 0 to 255?"
SIGNED = "black is -1 to this operator, but images are [0, 1]: does it expect or return [-1, 1]?"
DEVICE = "a constant stays on the CPU: keep it in `Constants` and use `constants.get(name, x)`, or .to(x.device)"
SMALLEST = "`pinv` gives a solution, but not the smallest: leave it out to have it derived"
CLIPPED = (
    "shades that differ come out the same, so part of [0, 1] is lost: does the operator expect [-1, 1] or 0 to 255? "
    "Skip this check for one that saturates on purpose"
)
NO_ACCELERATOR = "no accelerator here: moving to another device was not checked"
PICKLE = "keep no lambdas, open files or generators in the operator"
PRECISIONS = "float32 and float64 give different results: a constant is stored in one precision, or values overflow"


def of_error(error: Exception) -> str:
    """Describe an exception in one line, with a hint for a known kind of error."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if "dtype" in text or "expected scalar type" in text or "must have the same dtype" in text:
        return text + ": constants must follow their input, keep them in `Constants` and use `constants.get(name, x)`"
    return text


def of_shape(expected: tuple[int, ...], got: tuple[int, ...], n: int) -> str:
    """Explain why the output for a batch of n has shape `got`."""
    if got == expected:
        return ""
    told = f"{list(expected)} expected, got {list(got)}: "
    if got[:1] != (n,) or len(got) == len(expected) - 1:
        return told + f"the batch dimension is lost or moved, a batch of {n} must stay one of {n}"
    return told + f"out_shape says {list(expected[1:])}, forward makes {list(got[1:])}"


def of_precision(expected: torch.dtype, got: torch.dtype) -> str:
    """Explain why the output has another dtype than the input."""
    return f"{expected} in, {got} out: cast constants with `Constants.get(name, x)` or .to(x.dtype)"


def of_values(span: tuple[float, float]) -> str:
    """Explain why values are not finite."""
    return f"NaN or infinity for images in [{span[0]:g}, {span[1]:g}]: a root, a logarithm or a division by 0?"


def of_gradient(error: Exception) -> str:
    """Explain why there is no gradient."""
    text = str(error)
    if "does not require grad" in text or "numpy()" in text or "appears to not have been used" in text:
        return (
            "no gradient reaches the image: a step leaves torch (numpy, an integer conversion, detach, .data, "
            "no_grad); write it in torch, or give `vjp`, or let gradients pass straight through (surrogate_gradient)"
        )
    return of_error(error)


def of_slope(gradient: float, change: float, jumps: bool) -> str:
    """Explain why finite differences disagree with the gradient."""
    if jumps or (gradient > 0 and change == 0):
        return "the output moves in jumps (rounding, thresholds): set surrogate_gradient = True if intended"
    if gradient == 0 and change > 0:
        return "the gradient is 0 although the output changes: a detach, a rounding or an integer conversion"
    return "`vjp` is not the derivative of forward, or part of forward is detached"


def of_adjoint(ratio: float, spread: float) -> str:
    """Explain why <A x, y> is not <x, A^T y>, from the `ratio` of the two and how much it varies over the batch."""
    if spread < 1e-3 and ratio != 0:
        return f"`adjoint` is the transpose times {1 / ratio:.8g}: a scale is missing"
    return "`adjoint` is not the transpose (a flip, a border, a conjugate?): leave it out to have it derived"
