"""
Your own operator
=================

A sensor reads every other line and mixes it with the next. You write only the forward model; the adjoint,
pseudo-inverse and solves are derived automatically, and then checked.
"""

import skimage.data
import torch

import invsolve as iv
from invsolve import LinearOperator, costs, priors, solvers
from invsolve.testing import check_operator


class Interlace(LinearOperator):
    """y_i = 0.8 x_2i + 0.2 x_2i+1: every other line, with some of the next."""

    def __init__(self, in_shape):
        channels, height, width = in_shape
        self.in_shape, self.out_shape = in_shape, (channels, height // 2, width)

    def forward(self, x, theta={}):
        return 0.8 * x[:, :, 0::2] + 0.2 * x[:, :, 1::2]


# %%
# The report says which checks pass, and names a likely cause for each failure.

print(check_operator(Interlace((3, 8, 8))))

# %%
# Any solver for linear operators now accepts this one.

pixels = skimage.data.chelsea()[40:168, 120:248].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
A = Interlace((3, 128, 128))
y = costs.GaussianLikelihood(A, None, sigma=0.01).simulate(clean, iv.Rng(0))
problem = iv.Problem(priors.load("natural"), costs.GaussianLikelihood(A, y, sigma=0.01))
result = iv.solve(
    problem, solvers.PnPHQS(n_steps=16, sigma_start=0.5, turns=True), seed=0
)
first = A.pinv(y)[0]


def psnr(image):
    return float(-10 * (image.clamp(0, 1) - clean[0]).square().mean().log10())


restored = result.samples[0, 0]
iv.diagnostics.show_images(
    {
        "measured": y[0],
        f"pseudo-inverse, {psnr(first):.1f} dB": first,
        f"restored, {psnr(restored):.1f} dB": restored,
        "clean": clean[0],
    }
)
