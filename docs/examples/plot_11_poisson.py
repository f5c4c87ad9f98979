"""
Microscopy with few photons
===========================

Counting photons gives Poisson noise: it is weak in dark regions and strong in bright ones. The likelihood models this
exactly, and the blur of the optics is part of the operator.
"""

import skimage.data
import torch
from skimage.restoration import richardson_lucy

import invsolve as iv
from invsolve import costs, operators, priors, solvers

pixels = skimage.data.immunohistochemistry()[100:228, 100:228].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
A = operators.GaussianBlur((3, 128, 128), 1.2, padding="symmetric")
PEAK = 60.0
y = costs.PoissonLikelihood(A, None, peak=PEAK).simulate(clean, iv.Rng(0))
print(f"{PEAK * float(y.mean()):.0f} photons per pixel")

# %%
# The image shows stained tissue under a microscope. RED-diff takes any likelihood with a gradient. The energy of counts
# is in nats and much larger than a squared difference of grey values, so the prior needs a large weight.

problem = iv.Problem(priors.load("natural"), costs.PoissonLikelihood(A, y, peak=PEAK))
result = iv.solve(
    problem, solvers.REDdiff(n_steps=60, t_start=0.2, lam=30.0, lr=0.02), seed=0
)
restored = result.samples[0, 0]

# %%
# Richardson-Lucy, the classical method for this noise, with the number of iterations that is best for this image.


def psnr(image):
    return float(-10 * (image.clamp(0, 1) - clean[0]).square().mean().log10())


kernel = operators.gaussian_kernel(1.2).numpy()
tried = [
    torch.stack(
        [
            torch.from_numpy(richardson_lucy(plane.numpy(), kernel, num_iter=n))
            for plane in y[0]
        ]
    )
    for n in (2, 4, 8, 16)
]
classical = max(tried, key=psnr)
iv.diagnostics.show_images(
    {
        f"measured, {psnr(y[0]):.1f} dB": y[0],
        f"Richardson-Lucy, {psnr(classical):.1f} dB": classical,
        f"restored, {psnr(restored):.1f} dB": restored,
        "clean": clean[0],
    }
)
