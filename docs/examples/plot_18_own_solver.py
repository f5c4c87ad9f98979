"""
Your own solver
===============

A solver is a frozen dataclass of settings with two pure functions: ``init`` makes the first state, ``step`` the next one.
``solve`` does the rest: seeds, batches, checkpoints, counting of network calls, and failures.
"""

from dataclasses import dataclass

import skimage.data
import torch

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.testing import check_solver


@dataclass(frozen=True)
class ProximalDescent(iv.Solver):
    """x_s = D(x - step A^T (A x - y), sigma_k): a gradient step on the data misfit, then denoising; sigma_k falls."""

    n_steps: int = 30
    first: float = 0.5
    last: float = 0.05

    name = "proximal-descent"
    cite = 'Venkatakrishnan, Bouman, Wohlberg 2013, "Plug-and-play priors for model based reconstruction", GlobalSIP'
    needs = iv.Needs(likelihood=True, linear=True)
    differentiates = False
    mode_seeking = deterministic = True

    def steps(self, problem):
        return self.n_steps

    def init(self, problem, n, rng):
        return iv.State(
            problem.smooth_estimate.to(problem.empty(n))
            .expand(n, *problem.state_shape)
            .clone()
        )

    def step(self, problem, state, rng):
        A, y, _ = problem.linear_data
        x = state.x + A.adjoint(y - A(state.x))
        sigma = self.first * (self.last / self.first) ** (
            state.k / max(self.n_steps - 1, 1)
        )
        t = problem.prior.schedule.time_of(sigma)
        alpha, _ = problem.prior.schedule(t)
        x = problem.prior.denoise(alpha * x, t)
        return iv.State(x, state.k + 1), iv.Info(x)


# %%
# The conformance check tests what ``solve`` promises: independence of the batch, repeatability, checkpoints, ...

print(check_solver(ProximalDescent()))

# %%
# Comparison with solvers of the library on the same measurement:

pixels = skimage.data.coffee()[60:188, 180:308].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
A = operators.Inpainting.random((3, 128, 128), keep=0.4, rng=iv.Rng(0))
y = costs.GaussianLikelihood(A, None, sigma=0.02).simulate(clean, iv.Rng(1))
problem = iv.Problem(priors.load("natural"), costs.GaussianLikelihood(A, y, sigma=0.02))
images = {"measured": y[0]}
for solver in (
    ProximalDescent(),
    solvers.PnPHQS(n_steps=20, lam=0.01),
    solvers.REDdiff(n_steps=60, t_start=0.3, lam=0.015, lr=0.09),
):
    result = iv.solve(problem, solver, seed=0)
    image = result.samples[0, 0]
    error = -10 * (image.clamp(0, 1) - clean[0]).square().mean().log10()
    images[f"{solver.name}, {error:.1f} dB"] = image
    print(
        f"{solver.name:18} {error:.1f} dB, {result.stats.network_forwards:.0f} calls, {result.stats.seconds:.1f} s"
    )
iv.diagnostics.show_images(images)
