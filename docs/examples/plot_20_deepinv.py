"""
Together with deepinv
=====================

A deepinv Physics can be used as an operator of invsolve, and a solver of invsolve as a deepinv reconstructor:
``model(y, physics)``.
"""

import deepinv
import skimage.data
import torch

import invsolve as iv
from invsolve import operators, priors, solvers

pixels = skimage.data.coffee()[60:156, 180:276].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
physics = deepinv.physics.Inpainting(
    (3, 96, 96), mask=0.4, noise_model=deepinv.physics.GaussianNoise(0.02)
)
torch.manual_seed(0)
y = physics(clean)

model = iv.as_reconstructor(
    solvers.PnPHQS(n_steps=20, lam=0.01, turns=True), priors.load("natural")
)
restored = model(y, physics)
print(f"{float(deepinv.metric.PSNR()(restored, clean)):.1f} dB by deepinv's metric")
iv.diagnostics.show_images({"measured": y, "restored": restored, "clean": clean})

# %%
# The other way round: the Physics becomes an operator that composes with others.

A = operators.as_operator(physics, in_shape=(3, 96, 96))
print(A)
