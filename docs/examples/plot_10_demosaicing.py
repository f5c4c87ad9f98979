"""
Demosaicing
===========

A camera's sensor measures one colour at each pixel. The solver estimates the other two and removes noise in one step.
"""

import cv2
import skimage.data
import torch

import invsolve as iv
from invsolve import costs, operators, priors, solvers

pixels = skimage.data.astronaut()[210:338, 30:158].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
A = operators.Demosaicing((3, 128, 128))
print(A)
y = costs.GaussianLikelihood(A, None, sigma=0.03).simulate(clean, iv.Rng(0))
problem = iv.Problem(priors.load("natural"), costs.GaussianLikelihood(A, y, sigma=0.03))
result = iv.solve(
    problem, solvers.PnPHQS(n_steps=20, lam=0.1, sigma_start=0.4, turns=True), seed=0
)

# %%
# Bilinear interpolation of each colour, as in fast converters, for comparison.

mosaic = y[0].sum(0) if y.shape[1] == 3 else y[0, 0]
eight_bit = (255 * mosaic.clamp(0, 1)).round().byte().numpy()
bilinear = (
    torch.from_numpy(cv2.cvtColor(eight_bit, cv2.COLOR_BayerBG2RGB)).permute(2, 0, 1)
    / 255
)


def psnr(image):
    return float(-10 * (image.clamp(0, 1) - clean[0]).square().mean().log10())


restored = result.samples[0, 0]
iv.diagnostics.show_images(
    {
        "sensor": mosaic[None],
        f"bilinear, {psnr(bilinear):.1f} dB": bilinear,
        f"restored, {psnr(restored):.1f} dB": restored,
        "clean": clean[0],
    }
)
