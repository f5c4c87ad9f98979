"""Forward operators: models of what a camera, a scanner or a transmission did to the image."""

from invsolve.core.compose import Stack
from invsolve.operators.adapt import as_operator
from invsolve.operators.blind import BlindBlur
from invsolve.operators.blur import Blur, GaussianBlur, MotionBlur
from invsolve.operators.blur_kinds import CircularBlur, SpatialBlur, SymmetricBlur
from invsolve.operators.colour import Colourisation, Demosaicing
from invsolve.operators.frames import BlindDownsampling, Decimation, MultiFrame, PanSharpening, Shift, ShiftedMask
from invsolve.operators.geometry import Crop, Pad
from invsolve.operators.jpeg import JPEG
from invsolve.operators.kernel_wizard import KernelWizard, KernelWizardBlur
from invsolve.operators.kernels import camera_shake_kernel, gaussian_kernel, motion_kernel
from invsolve.operators.mri import MRI
from invsolve.operators.penalties import near, smoothness, sparsity
from invsolve.operators.phase import CodedDiffraction, FourierMagnitude
from invsolve.operators.pointwise import Denoising, Inpainting
from invsolve.operators.registry import OPERATORS
from invsolve.operators.resize import SuperResolution
from invsolve.operators.sensing import HadamardSensing, RandomConvolution
from invsolve.operators.tomography import RadioInterferometry, Tomography
from invsolve.operators.tone import CameraBlur, HighDynamicRange, Quantisation, ToneCurve
from invsolve.operators.varying import RollingShutter, VaryingBlur

__all__ = [
    "JPEG",
    "MRI",
    "OPERATORS",
    "BlindBlur",
    "BlindDownsampling",
    "Blur",
    "CameraBlur",
    "CircularBlur",
    "CodedDiffraction",
    "Colourisation",
    "Crop",
    "Decimation",
    "Demosaicing",
    "Denoising",
    "FourierMagnitude",
    "GaussianBlur",
    "HadamardSensing",
    "HighDynamicRange",
    "Inpainting",
    "KernelWizard",
    "KernelWizardBlur",
    "MotionBlur",
    "MultiFrame",
    "Pad",
    "PanSharpening",
    "Quantisation",
    "RadioInterferometry",
    "RandomConvolution",
    "RollingShutter",
    "Shift",
    "ShiftedMask",
    "SpatialBlur",
    "Stack",
    "SuperResolution",
    "SymmetricBlur",
    "Tomography",
    "ToneCurve",
    "VaryingBlur",
    "as_operator",
    "camera_shake_kernel",
    "gaussian_kernel",
    "motion_kernel",
    "near",
    "smoothness",
    "sparsity",
]
