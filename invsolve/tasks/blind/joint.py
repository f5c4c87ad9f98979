"""Joint estimation of kernel and image: a second estimate to check a kernel estimated from edges.

The method is expectation-maximisation with the prior's estimate of the image:

    image   z = D(x, level),  x = argmin |y - k * x|^2 + rho |x - z|^2      (PnP-HQS with the current kernel)
    kernel    k = argmin E |grad(y - k * x)|^2 = argmin |grad(y - k * z)|^2 + <k, P k>,  k >= 0, sum k = 1
              P(f) = n |D(f)|^2 share C(f),  C(f) = 1 / (|k(f)|^2 / sigma^2 + 1 / S(f))

C is the spectrum of the error of the estimate z. S is the spectrum of photographs, c |f|^-2.4, with c estimated from
the low frequencies of z. Without C, an image that lost its fine detail to the blur would make the kernel sharper in
every iteration, until no blur is left. Levin, Weiss, Durand and Freeman 2009, "Understanding and evaluating blind
deconvolution algorithms" (CVPR), show this for joint maximisation; Dempster, Laird and Rubin 1977 describe the
alternative. The Wiener form overestimates the error for a prior that knows edges, hence the factor `share`. The steps
are over-relaxed, because expectation-maximisation is slow at low noise.

If kernel and image agree, the result stays near the kernel estimated from edges; otherwise it moves away. The result is
only useful for this check, and is not a better kernel. It is too wide even if started from the true kernel, because z
has false detail where the blur left little; images restored with it are too sharp.
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
"""Side of the part with the most contrast, which is used for larger images."""

TURNS, WARM_UP = 40, 8
"""Number of denoising iterations, and number of iterations before the first kernel step."""

LEVEL, FIRST_LEVEL, LAM = 0.05, 0.5, 0.25
"""Final and first denoising level for images in [0, 1] (decreasing during the warm-up), and the prior weight."""

SHARES, STEP, KERNEL_STEPS = (2.0, 0.6), 1.7, 15
"""First and last share of the Wiener covariance (smooth kernels need more of it, thin ones less), step size towards the
new kernel, and iterations of its fit."""

THRESHOLD = 0.02


def refine_kernel(y: Tensor, kernel: Tensor, sigma: float, prior: Prior) -> Tensor:
    """Estimate a kernel jointly with the image, [s, s]: non-negative, sums to one, and centred (`centred`).

    This needs 40 network calls on an image of at most 320 x 320 pixels.

    Args:
        y: the blurred image [1 or 3, H, W] in [0, 1].
        kernel: a first estimate [s, s], see `estimate_kernel`.
        sigma: standard deviation of the noise in [0, 1] units, above 0.
        prior: a prior of three channels, or of one for a grey image; it must support the size of the scene.
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
    """The kernel step for grey images."""
    g, seen = gradients(image), gradients(y)
    grid = spectral_grid(g)
    down, across = frequencies(grid, g)
    steep = 4 * torch.sin(math.pi * down).square() + 4 * torch.sin(math.pi * across).square()
    unknown = posterior_spectrum(image, kernel, sigma, grid)
    return fit_kernel(g, seen, kernel, share * seen[0].numel() * steep * unknown, KERNEL_STEPS)


def posterior_spectrum(image: Tensor, kernel: Tensor, sigma: float, grid: tuple[int, int]) -> Tensor:
    """C(f) = 1 / (|k(f)|^2 / sigma^2 + 1 / S(f)), the variance of each frequency given the measurement.

    Args:
        image: grey image [H, W]; its low frequencies give the scale of S.
        kernel: [s, s].
        sigma: standard deviation of the noise.
        grid: rows and columns of the grid; the result has the shape of a real Fourier transform on this grid.
    """
    transfer = torch.fft.rfft2(kernel, grid).abs().square()
    return 1 / (transfer / sigma**2 + 1 / of_photographs(grid, scale_of(image), image))
