"""
What NDTM adds to the network's input
=====================================

NDTM uses a *control*: a small change of the network's input, optimised at every step so that the clean estimate fits
the measurement. This example shows the control.
"""

from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt

import invsolve as iv
from invsolve import costs, operators, priors, solvers

prior = priors.load("digits")
digit = iv.solve(
    iv.Problem(prior.given(label=8)), solvers.DDIM(n_steps=50), seed=3
).samples[:, 0]
A = operators.Inpainting.random((1, 16, 16), keep=0.3, rng=iv.Rng(1))
y = costs.GaussianLikelihood(A, None, sigma=0.05).simulate(digit, iv.Rng(0))
problem = iv.Problem(prior, costs.GaussianLikelihood(A, y, sigma=0.05))

# %%
# Plain gradient steps show the control best. By default, NDTM uses Adam, whose steps have nearly the same size in every
# pixel.

seen = iv.diagnostics.ControlImages(problem)
result = iv.solve(
    problem,
    solvers.NDTM(n_steps=25, n_inner=4, optimizer="gradient", lr=1.0),
    seed=0,
    callbacks=[seen],
)
page = Path(mkdtemp()) / "controls.png"
seen.figure(page)
plt.figure(figsize=(12, 4)).add_axes((0, 0, 1, 1))
plt.imshow(plt.imread(page))
plt.axis("off")

# %%
# The upper row shows the clean estimate at some of the steps; the lower row shows the control, blue where it darkens. At
# first, the control draws the outline of the digit. At the end, it only corrects measured pixels.

iv.diagnostics.show_images(
    {"measured (30 %)": y[0], "restored": result.samples[0, 0], "truth": digit[0]},
    height=2.2,
)
