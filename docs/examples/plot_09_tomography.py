"""
Tomography from few angles
==========================

Line integrals at 24 angles, as measured by an X-ray scanner with a quarter of the usual dose.
"""

import skimage.data
import torch
from skimage.transform import iradon, resize

import invsolve as iv
from invsolve import costs, operators, priors, solvers

SIDE, ANGLES = 96, 24
phantom = torch.from_numpy(
    resize(skimage.data.shepp_logan_phantom(), (SIDE, SIDE), anti_aliasing=True)
).float()
grey = operators.Colourisation((3, SIDE, SIDE), weights=(1 / 3, 1 / 3, 1 / 3))
A = operators.Tomography((1, SIDE, SIDE), angles=ANGLES) @ grey
clean = phantom.expand(1, 3, SIDE, SIDE)
y = costs.GaussianLikelihood(A, None, sigma=0.002).simulate(clean, iv.Rng(0))

# %%
# The prior was trained on photographs and has never seen a scan. It helps because it knows flat regions and edges.

problem = iv.Problem(
    priors.load("natural"), costs.GaussianLikelihood(A, y, sigma=0.002)
)
result = iv.solve(
    problem, solvers.PnPHQS(n_steps=12, lam=0.2, sigma_start=0.6, turns=True), seed=0
)
restored = result.samples[0, 0].mean(0, keepdim=True)

# %%
# Filtered back-projection, the classical method, for comparison.

sinogram = y[0, 0] * SIDE
theta = torch.linspace(0, 180, ANGLES + 1)[:-1].numpy()
classical = torch.from_numpy(
    iradon(sinogram.numpy(), theta=theta, circle=False, output_size=SIDE)
).float()[None]


def psnr(image):
    return float(-10 * (image.clamp(0, 1) - phantom).square().mean().log10())


iv.diagnostics.show_images(
    {
        "sinogram": sinogram[None] / sinogram.max(),
        f"back-projection, {psnr(classical):.1f} dB": classical,
        f"restored, {psnr(restored):.1f} dB": restored,
        "clean": phantom[None],
    }
)
