"""
Submit to deepinv's benchmarks
==============================

deepinv publishes four `benchmarks <https://deepinv.org/auto_benchmarks/index.html>`_. Each calls a model with the
measurement and the physics, ``model(y, physics)``. ``invsolve.bench.deepinv_benchmarks`` holds the same physics, so that
a model can be tried before it is submitted.
"""

import deepinv
import skimage.data
import torch

import invsolve as iv
from invsolve import costs, priors, solvers
from invsolve.bench.deepinv_benchmarks import BENCHMARKS, physics

pixels = skimage.data.coffee()[60:156, 180:276].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
prior = priors.load("natural")


def without_noise(operator, y):
    """Two of the benchmarks have no noise: assume a little noise, for rounding."""
    return costs.GaussianLikelihood(operator, y, sigma=0.002)


models = {
    "cbsd68_gaussian_denoising": iv.as_reconstructor(
        solvers.PnPHQS(n_steps=2, average=2, lam=0.001, sigma_start=0.001), prior
    ),
    "div2k_super_resolution_2x": iv.as_reconstructor(
        solvers.PnPHQS(n_steps=12, lam=0.128, sigma_start=0.927),
        prior,
        cost=without_noise,
    ),
    "div2k_inpainting_easy": iv.as_reconstructor(
        solvers.PnPHQS(n_steps=16, lam=0.01, sigma_start=0.3), prior, cost=without_noise
    ),
    "div2k_gaussian_deblurring": iv.as_reconstructor(
        solvers.PnPHQS(n_steps=12, lam=0.2, sigma_start=0.8), prior
    ),
}

# %%
# One photograph is restored in each benchmark and scored by deepinv, without a border of 16 pixels.

psnr = deepinv.metric.PSNR(center_crop=-16)
images = {}
torch.manual_seed(0)
for name in BENCHMARKS:
    A = physics(name, (3, 96, 96))
    restored = models[name](A(clean), A)
    images[name.split("_", 1)[1]] = restored
    print(f"{name:28} {float(psnr(restored, clean)):.1f} dB")
iv.diagnostics.show_images(images)

# %%
# With their package installed, the whole benchmark is one call, which downloads its images::
#
#     from deepinv_bench import run_benchmark
#
#     name = "div2k_gaussian_deblurring"
#     run_benchmark(models[name], name, model_name="invsolve PnP-HQS")
#
# The suites ``cbsd68`` and ``div2k`` run the same problems in invsolve's own leaderboard, with other solvers, trained
# networks and deepinv's published numbers beside them, and ``submit`` packs the result::
#
#     invsolve bench run div2k --data DIV2K_valid_HR
#     invsolve bench report div2k
#     invsolve bench submit div2k -o div2k.zip
