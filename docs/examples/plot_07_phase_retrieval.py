"""
Phase retrieval
===============

Detectors measure the brightness of a diffraction pattern; its phase is lost. The measurement is not linear in the
image, so the solver must support any cost. Here four patterns behind known phase masks are measured.
"""

import skimage.data
import torch

import invsolve as iv
from invsolve import costs, operators, priors, solvers

pixels = skimage.data.chelsea()[60:156, 140:236].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
A = operators.CodedDiffraction((3, 96, 96), masks=4, rng=iv.Rng(0))
y = costs.GaussianLikelihood(A, None, sigma=0.05).simulate(clean, iv.Rng(1))
problem = iv.Problem(priors.load("natural"), costs.GaussianLikelihood(A, y, sigma=0.05))

# %%
# RED-diff starts from noise. It minimises the data misfit together with a regulariser from the prior, at decreasing
# noise levels.

result = iv.solve(
    problem,
    solvers.REDdiff(
        n_steps=100, t_start=0.3, lam=0.1, lr=0.05, weighting="sqrt", start="random"
    ),
    seed=0,
)
restored = result.samples[0, 0]
error = -10 * (restored.clamp(0, 1) - clean[0]).square().mean().log10()
print(result.status, f"{result.stats.network_forwards:.0f} network calls")

pattern = y[0, :3] / y[0, :3].quantile(0.99)
iv.diagnostics.show_images(
    {
        "one of four patterns": pattern,
        f"restored, {error:.1f} dB": restored,
        "clean": clean[0],
    }
)
