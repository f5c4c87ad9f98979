"""The operators by name."""

from __future__ import annotations

from invsolve.core.registry import Registry

__all__ = ["OPERATORS"]

OPERATORS = Registry(
    "operator",
    {
        "blind-blur": "invsolve.operators.blind:BlindBlur",
        "blind-downsampling": "invsolve.operators.frames:BlindDownsampling",
        "blur": "invsolve.operators.blur:Blur",
        "camera-blur": "invsolve.operators.tone:CameraBlur",
        "coded-diffraction": "invsolve.operators.phase:CodedDiffraction",
        "colourisation": "invsolve.operators.colour:Colourisation",
        "crop": "invsolve.operators.geometry:Crop",
        "decimation": "invsolve.operators.frames:Decimation",
        "demosaicing": "invsolve.operators.colour:Demosaicing",
        "denoising": "invsolve.operators.pointwise:Denoising",
        "fourier-magnitude": "invsolve.operators.phase:FourierMagnitude",
        "gaussian-blur": "invsolve.operators.blur:GaussianBlur",
        "hadamard-sensing": "invsolve.operators.sensing:HadamardSensing",
        "high-dynamic-range": "invsolve.operators.tone:HighDynamicRange",
        "inpainting": "invsolve.operators.pointwise:Inpainting",
        "jpeg": "invsolve.operators.jpeg:JPEG",
        "kernel-wizard-blur": "invsolve.operators.kernel_wizard:KernelWizardBlur",
        "motion-blur": "invsolve.operators.blur:MotionBlur",
        "mri": "invsolve.operators.mri:MRI",
        "multi-frame": "invsolve.operators.frames:MultiFrame",
        "pad": "invsolve.operators.geometry:Pad",
        "pan-sharpening": "invsolve.operators.frames:PanSharpening",
        "quantisation": "invsolve.operators.tone:Quantisation",
        "radio-interferometry": "invsolve.operators.tomography:RadioInterferometry",
        "random-convolution": "invsolve.operators.sensing:RandomConvolution",
        "rolling-shutter": "invsolve.operators.varying:RollingShutter",
        "shift": "invsolve.operators.frames:Shift",
        "shifted-mask": "invsolve.operators.frames:ShiftedMask",
        "super-resolution": "invsolve.operators.resize:SuperResolution",
        "tomography": "invsolve.operators.tomography:Tomography",
        "tone-curve": "invsolve.operators.tone:ToneCurve",
        "varying-blur": "invsolve.operators.varying:VaryingBlur",
    },
)
