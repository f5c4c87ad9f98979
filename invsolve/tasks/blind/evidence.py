"""How well a kernel explains an image that is not known: the evidence of its gradients, and what it says of the kernel.

    d = k * x + n,  n ~ N(0, s^2),  s^2 = 4 sigma^2,  p(x) = mean_j N(x; 0, v_j) for each gradient, most of them small

    E step    w = E[1 / v | x],  x = argmin |d - k * x|^2 / s^2 + <x, w x>      (conjugate gradients, from the last x)
    M step    k = argmin |d - k * x|^2 + |k|^2 sum var(x),  k >= 0, sum k = 1
    F(k)      = E |d - k * x|^2 / (2 s^2) - log p(x) + 1/2 log det(K^T K / s^2 + W) + log s, per gradient

The noise of neighbouring gradients is correlated: its power is 2 sigma^2 on average and 4 sigma^2 in the finest detail,
where less would be taken for detail that a kernel with a bright point lets through.

F stands for -log p(d | k). An image that a kernel makes sharper has fewer, larger gradients, which p(x) likes less than
many small ones; what tells a kernel from no blur is the determinant, the volume of images that explain the data. The
kernel of least F is that of maximal evidence, not the best pair of kernel and image, which is no blur at all (Levin,
Weiss, Durand and Freeman 2011, "Efficient marginal likelihood optimization in blind deconvolution", CVPR).

The covariance (K^T K / s^2 + W)^-1 is too large to be known. For F it is that of an image with the same w everywhere,
for each w, exact where w changes slowly. For the E and M steps it is diagonal, var(x) = 1 / (|k|^2 / s^2 + w), as if
the neighbours were known: gradients beside an edge are, and the kernel would become too wide otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.operators.transforms import quick_length
from invsolve.priors.kernels import KernelDenoiser
from invsolve.tasks.blind.edges import centred, gradients, tidy, window_of
from invsolve.tasks.blind.fits import fit_lags, onto_simplex

__all__ = ["GradientModel", "free_energy", "likelier_kernel"]

SIDE = 320
"""Of larger images the part of this side with the most contrast is used."""

VARIANCES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 5e-2)
"""v_j, for images in [0, 1]."""

PRECISIONS = (1e1, 3e7, 40)
"""Smallest, largest and number of the w for which spectra are averaged; those between are interpolated."""

TURNS, SOLVES, KERNEL_STEPS, STEP = 30, 6, 15, 1.5
"""Of `likelier_kernel`: E and M steps, iterations of each, and how far the kernel moves, of the way to the new one."""

NOISE_FALLS = 0.7
"""Share of the turns after which the noise level that is assumed has come down to that of the image."""

LEVELS, CLEANED = (0.1, 0.03), 0.2
"""First and last level of the denoising of the kernel, and how much of it is taken over every turn."""

THRESHOLD, TINY = 0.02, 1e-30


class GradientModel:
    """The posterior of the gradients x of a sharp image, given a kernel.

    Args:
        y: the blurred image [C, H, W] in [0, 1].
        size: side of the kernel, odd.
        sigma: standard deviation of the noise of one channel in [0, 1] units, above 0.

    Attributes:
        x: [2, h, w], gradients along rows and columns of the scene that the image shows, and of its margin.
        weight: w, as x.
    """

    def __init__(self, y: Tensor, size: int, sigma: float) -> None:
        grey = y.detach().cpu().float().mean(0)
        self.seen = gradients(grey[window_of(grey, SIDE)])
        self.size, self.radius = size, size // 2
        self.height, self.width = self.seen.shape[1:]
        self.scene = quick_length(self.height + 2 * self.radius), quick_length(self.width + 2 * self.radius)
        self.noise = 4 * sigma**2 / len(y)
        self.x = self._framed(self.seen)
        self._variance = torch.full_like(self.x, 1e-4)
        low, high, count = PRECISIONS
        self._grid = torch.linspace(math.log(low), math.log(high), count)

    def look_with(self, kernel: Tensor) -> None:
        """Take this kernel [size, size] from now on."""
        self.kernel = kernel.float()
        grid = self.x.new_zeros(self.scene)
        grid[: self.size, : self.size] = self.kernel
        self._response = torch.fft.rfft2(grid.roll((-self.radius, -self.radius), (0, 1)))
        self._power = self._response.abs().square()

    def explain(self, solves: int, reweighted: int = 1, *, noise: float | None = None, diagonal: bool = True) -> None:
        """The E step.

        Args:
            solves: iterations of conjugate gradients.
            reweighted: how often w is found anew before them.
            noise: s^2; that of the image if None.
            diagonal: which of the two covariances, see the module.
        """
        s2, energy = noise or self.noise, float(self.kernel.square().sum())
        right = self._back(self.seen) / s2
        for _ in range(reweighted):
            self.weight = self._reweighted()
            self.x = self._solved(right, energy / s2 + self.weight, s2, solves)
            if diagonal:
                self._variance = 1 / (energy / s2 + self.weight)
            else:
                self._variance = self._look(lambda w, power=self._power / s2: 1 / (power + w), self.weight)

    def kernel_step(self, noise: float | None = None) -> Tensor:
        """The M step: the kernel [size, size] for the present x."""
        s2 = noise or self.noise
        spread = 1 / (float(self.kernel.square().sum()) / s2 + self._shown(self.weight))
        whole = self.x[:, : self.height + 2 * self.radius, : self.width + 2 * self.radius]
        return fit_lags(whole, self.seen, self.kernel, float(spread.sum()), KERNEL_STEPS)

    def free_energy(self) -> float:
        """F of the present kernel after `explain` with `diagonal=False`, in nats a gradient, up to a constant."""
        weight, power = self._shown(self.weight), self._power / self.noise
        misfit = (self.seen - self._blurred(self.x)).square().mean() / self.noise
        spread = self._look(lambda w: power / (power + w), weight).mean()
        volume = self._look(lambda w: (power + w).log(), weight).mean()
        prior = self._shown(torch.logsumexp(self._log_terms(), 0)).mean()
        return float(0.5 * (misfit + spread + volume + math.log(self.noise) - 1) - prior)

    def _log_terms(self) -> Tensor:
        """log N(x; 0, v_j) with the variance of x, [J, 2, h, w]."""
        v = torch.tensor(VARIANCES)[:, None, None, None]
        return -0.5 * (v.log() + (self.x.square() + self._variance) / v)

    def _reweighted(self) -> Tensor:
        return (torch.softmax(self._log_terms(), 0) / torch.tensor(VARIANCES)[:, None, None, None]).sum(0)

    def _solved(self, right: Tensor, diagonal: Tensor, s2: float, solves: int) -> Tensor:
        """argmin |d - k * x|^2 / s^2 + <x, w x> from the present x, preconditioned by the diagonal."""
        x = self.x
        rest = right - self._back(self._blurred(x)) / s2 - self.weight * x
        z = rest / diagonal
        p, product = z, (rest * z).sum()
        for _ in range(solves):
            applied = self._back(self._blurred(p)) / s2 + self.weight * p
            length = product / (p * applied).sum().clamp_min(TINY)
            x, rest = x + length * p, rest - length * applied
            z = rest / diagonal
            new = (rest * z).sum()
            p, product = z + new / product.clamp_min(TINY) * p, new
        return x

    def _look(self, spectrum: Callable[[float], Tensor], weight: Tensor) -> Tensor:
        """The mean over all frequencies of a function of (w, frequency), at each w."""
        columns = self._power.new_full((self._power.shape[1],), 2.0)  # half a spectrum: most columns stand for two
        columns[0] = 1.0
        if self.scene[1] % 2 == 0:
            columns[-1] = 1.0
        share = columns / (self.scene[0] * self.scene[1])
        table = torch.stack([(spectrum(math.exp(w)) * share).sum() for w in self._grid.tolist()])
        place = (weight.log() - self._grid[0]) / (self._grid[1] - self._grid[0])
        place = place.clamp(0, len(self._grid) - 1.001)
        before = place.long()
        return torch.lerp(table[before], table[before + 1], place - before)

    def _blurred(self, x: Tensor) -> Tensor:
        return self._shown(torch.fft.irfft2(self._response * torch.fft.rfft2(x), self.scene))

    def _back(self, seen: Tensor) -> Tensor:
        return torch.fft.irfft2(self._response.conj() * torch.fft.rfft2(self._framed(seen)), self.scene)

    def _shown(self, x: Tensor) -> Tensor:
        return x[..., self.radius : self.radius + self.height, self.radius : self.radius + self.width]

    def _framed(self, seen: Tensor) -> Tensor:
        right, below = self.scene[1] - self.width - self.radius, self.scene[0] - self.height - self.radius
        return F.pad(seen, (self.radius, right, self.radius, below))


def free_energy(y: Tensor, kernel: Tensor, sigma: float) -> float:
    """F(k), smaller for likelier kernels: in nats a gradient, up to a constant of the image and of sigma.

    Args:
        y: the blurred image [C, H, W] in [0, 1].
        kernel: [s, s], s odd; kernels are compared on frames of one size.
        sigma: standard deviation of the noise in [0, 1] units, above 0.
    """
    model = GradientModel(y, len(kernel), sigma)
    model.look_with(kernel)
    model.explain(8, 6, diagonal=False)
    return model.free_energy()


def likelier_kernel(
    y: Tensor, kernel: Tensor, sigma: float, noise_factor: float, kernels: KernelDenoiser | None = None
) -> Tensor:
    """The kernel [s, s] that E and M steps lead to, 30 of each: at least 0, sums to one, in the middle (`centred`).

    Args:
        y: the blurred image [C, H, W] in [0, 1].
        kernel: where to start, [s, s], s odd.
        sigma: standard deviation of the noise in [0, 1] units, above 0.
        noise_factor: the noise is assumed to be so many times stronger at first: 1 stays near the start, 4 goes
            farther.
        kernels: takes out of the kernel, in part after every turn, what does not belong to one; not at all if None.
    """
    model, k = GradientModel(y, len(kernel), sigma), kernel.float()
    model.look_with(k)
    model.explain(10, 2, noise=model.noise * noise_factor**2)
    for turn in range(TURNS):
        done = turn / TURNS
        noise = model.noise * noise_factor ** (2 * (1 - min(1.0, done / NOISE_FALLS)))
        model.explain(SOLVES, noise=noise)
        k = onto_simplex((k + STEP * (model.kernel_step(noise) - k)).flatten()).view_as(k)
        if kernels is not None:
            k = torch.lerp(k, kernels(k, LEVELS[0] * (LEVELS[1] / LEVELS[0]) ** done), CLEANED)
        model.look_with(k)
    return centred(tidy(k.double(), THRESHOLD))
