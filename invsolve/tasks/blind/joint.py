"""Kernel and image together: a second opinion on a kernel that was estimated from edges.

Expectation-maximisation with the prior's own estimate of the image:

    image   z = D(x, level),  x = argmin |y - k * x|^2 + rho |x - z|^2      (PnP-HQS with the present kernel)
    kernel    k = argmin E |grad(y - k * x)|^2 = argmin |grad(y - k * z)|^2 + <k, P k>,  k >= 0, sum k = 1
              P(f) = n |D(f)|^2 share C(f),  C(f) = 1 / (|k(f)|^2 / sigma^2 + 1 / S(f))

C is the spectrum of what the estimate z does not know about the image, S that of photographs, c |f|^-2.4 with c from
z's own low frequencies. Without it an image that the blur has robbed of its fine detail makes the kernel sharper with
every turn, until there is no blur left: what Levin, Weiss, Durand and Freeman 2009, "Understanding and evaluating blind
deconvolution algorithms" (CVPR), show of joint maximisation, and Dempster, Laird and Rubin 1977 of what to do instead.
The Wiener form overstates it for a prior that knows edges, hence the share. Steps are over-relaxed, as expectation-
maximisation is slow where there is little noise.

Where kernel and image agree, the kernel stays near to the one from edges; else it leaves it. That is what it is good
for. It is no better kernel: it comes out too wide even when it starts from the truth, since the estimate z has false
detail where the blur left little, and images restored with it are too sharp.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invsolve.core.prior import Prior
from invsolve.core.problem import Problem
from invsolve.core.rng import Rng
from invsolve.core.solver import State
from invsolve.priors.padded import fitted
from invsolve.tasks.blind.edges import centred, gradients, tidy, window_of
from invsolve.tasks.blind.fit import fit_kernel, onto_simplex, spectral_grid
from invsolve.tasks.blind.spectrum import frequencies, of_photographs, scale_of
from invsolve.tasks.observed_blur import ObservedBlur

__all__ = ["TURNS", "posterior_spectrum", "refine_kernel"]

SIDE = 320
"""Of larger images the part of this side with the most contrast is used."""

TURNS, WARM_UP = 40, 8
"""Denoisings, and after how many of them the kernel begins to move."""

LEVEL, FIRST_LEVEL, LAM = 0.05, 0.5, 0.25
"""Denoising levels for images in [0, 1], falling during the warm-up, and the weight of the prior."""

SHARES, STEP, KERNEL_STEPS = (2.0, 0.6), 1.7, 15
"""Of the Wiener covariance, first and last (smooth kernels want more of it, thin ones less), of the way to the new
kernel, and iterations of its fit."""

THRESHOLD = 0.02


def refine_kernel(y: Tensor, kernel: Tensor, sigma: float, prior: Prior) -> Tensor:
    """The kernel that image and prior agree on, [s, s]: at least 0, sums to one, in the middle (`centred`).

    40 network calls on an image of at most 320 x 320 pixels.

    Args:
        y: the blurred image [1 or 3, H, W] in [0, 1].
        kernel: a first estimate [s, s], see `estimate_kernel`.
        sigma: standard deviation of the noise in [0, 1] units, above 0.
        prior: of images of three channels, or of one for a grey image; serves the scene's size.
    """
    from invsolve.costs import GaussianLikelihood
    from invsolve.solvers import PnPHQS

    rows, columns = window_of(y.mean(0), SIDE)
    channels = prior.image_channels or 3
    y = y[:, rows, columns].expand(channels, -1, -1).to(prior.device, prior.dtype)
    kernel, radius = kernel.to(y), kernel.shape[0] // 2
    _, *scene = ObservedBlur((channels, *y.shape[1:]), kernel).in_shape
    prior = fitted(prior, (scene[0], scene[1]))
    shown = (slice(0, y.shape[1] + 2 * radius), slice(0, y.shape[2] + 2 * radius))
    level, black_to_white = max(LEVEL, sigma), prior.value_range[1] - prior.value_range[0]
    falling = [level * (FIRST_LEVEL / level) ** (1 - i / (WARM_UP - 1)) for i in range(WARM_UP)]
    levels = torch.tensor([falling + [level] * (TURNS - WARM_UP)], dtype=torch.float64) * black_to_white
    solver, state, rng = PnPHQS(lam=LAM, turns=True), None, Rng(0)
    with torch.no_grad():
        for k in range(TURNS):
            blur = ObservedBlur((channels, *y.shape[1:]), kernel)
            problem = Problem(prior, GaussianLikelihood(blur, y[None], sigma))
            state = State(problem.initial_estimate, 0, memory={"levels": levels}) if state is None else state
            state, _ = solver.step(problem, state, rng)
            if k >= WARM_UP - 1:
                image = problem.to_image(state.x)[0].mean(0)[shown]
                share = SHARES[0] + (SHARES[1] - SHARES[0]) * (k + 1 - WARM_UP) / (TURNS - WARM_UP)
                new = _expected_fit(image, y.mean(0), kernel, sigma / math.sqrt(channels), share)
                kernel = onto_simplex((kernel + STEP * (new - kernel)).flatten()).view_as(kernel)
    found = centred(tidy(kernel.cpu().double(), THRESHOLD))
    return found / found.sum()


def _expected_fit(image: Tensor, y: Tensor, kernel: Tensor, sigma: float, share: float) -> Tensor:
    """The kernel step, for grey images."""
    g, seen = gradients(image), gradients(y)
    grid = spectral_grid(g)
    down, across = frequencies(grid, g)
    steep = 4 * torch.sin(math.pi * down).square() + 4 * torch.sin(math.pi * across).square()
    unknown = posterior_spectrum(image, kernel, sigma, grid)
    return fit_kernel(g, seen, kernel, share * seen[0].numel() * steep * unknown, KERNEL_STEPS)


def posterior_spectrum(image: Tensor, kernel: Tensor, sigma: float, grid: tuple[int, int]) -> Tensor:
    """C(f) = 1 / (|k(f)|^2 / sigma^2 + 1 / S(f)), the variance of each frequency given the measurement.

    Args:
        image: grey [H, W], from whose low frequencies the size of S is read.
        kernel: [s, s].
        sigma: standard deviation of the noise.
        grid: of the result, that of a real Fourier transform of so many rows and columns.
    """
    transfer = torch.fft.rfft2(kernel, grid).abs().square()
    return 1 / (transfer / sigma**2 + 1 / of_photographs(grid, scale_of(image), image))
