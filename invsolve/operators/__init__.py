"""Forward operators: what a camera, a scanner or a transmission did to the picture."""

from invsolve.core.compose import Stack
from invsolve.operators.adapt import as_operator
from invsolve.operators.blind import BlindBlur
from invsolve.operators.blur import Blur, GaussianBlur, MotionBlur
from invsolve.operators.blur_kinds import CircularBlur, SpatialBlur, SymmetricBlur
from invsolve.operators.geometry import Crop, Pad
from invsolve.operators.kernels import camera_shake_kernel, gaussian_kernel, motion_kernel
from invsolve.operators.pointwise import Denoising, Inpainting
from invsolve.operators.registry import OPERATORS
from invsolve.operators.resize import SuperResolution

__all__ = [
    "OPERATORS",
    "BlindBlur",
    "Blur",
    "CircularBlur",
    "Crop",
    "Denoising",
    "GaussianBlur",
    "Inpainting",
    "MotionBlur",
    "Pad",
    "SpatialBlur",
    "Stack",
    "SuperResolution",
    "SymmetricBlur",
    "as_operator",
    "camera_shake_kernel",
    "gaussian_kernel",
    "motion_kernel",
]
