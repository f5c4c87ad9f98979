"""
One sharp image from several small ones
=======================================

Five frames show one scene, each three times smaller. Between the frames, the camera moved by known fractions of a
pixel. Together they contain detail that no single frame resolves: it is measured, not guessed.
"""

import skimage.data
import torch

import invsolve as iv
from invsolve import costs, operators, priors, solvers

pixels = skimage.data.coffee()[210:294, 340:424].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
moves = [(0.0, 0.0), (1.0, 0.5), (0.5, 2.0), (2.0, 1.0), (1.5, 1.5)]
prior = priors.load("natural")


def restored_from(shifts):
    A = operators.MultiFrame((3, 84, 84), 3, shifts)
    y = costs.GaussianLikelihood(A, None, sigma=0.02).simulate(clean, iv.Rng(0))
    problem = iv.Problem(prior, costs.GaussianLikelihood(A, y, sigma=0.02))
    return iv.solve(
        problem,
        solvers.PnPHQS(n_steps=8, lam=0.5, sigma_start=0.15, turns=True),
        seed=0,
    ).samples[0, 0]


def psnr(image):
    return float(-10 * (image.clamp(0, 1) - clean[0]).square().mean().log10())


one, five = restored_from(moves[:1]), restored_from(moves)
frame = operators.SuperResolution((3, 84, 84), 3)(clean)[0]
iv.diagnostics.show_images(
    {
        "one frame": frame,
        f"from one frame, {psnr(one):.1f} dB": one,
        f"from five, {psnr(five):.1f} dB": five,
        "clean": clean[0],
    }
)
