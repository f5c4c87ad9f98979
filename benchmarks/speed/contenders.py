"""The same algorithm on the same inpainting problem in invsolve, a bare loop, azula and deepinv."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import invsolve as iv
from benchmarks.speed.bare import LOOPS, Data
from invsolve import costs, operators, solvers

__all__ = ["INNER", "SOLVERS", "WHO", "Setting", "contenders", "standin"]

SIGMA, INNER = 0.05, 5
WHO = ("bare", "invsolve", "azula", "deepinv")

Network = Callable[[Tensor, float, float], Tensor]
"""(x_t, alpha_t, sigma_t) -> E[x0 | x_t], in [-1, 1] units."""

SOLVERS: dict[str, Callable[[int], iv.Solver]] = {
    "dps": lambda n: solvers.DPS(form="ancestral", n_steps=n),
    "pigdm": lambda n: solvers.PiGDM(n_steps=n),
    "ddrm": lambda n: solvers.DDRM(n_steps=n),
    "diffpir": lambda n: solvers.DiffPIR(n_steps=n, spacing="own", start="random"),
    "red-diff": lambda n: solvers.REDdiff(n_steps=n),
    "ndtm": lambda n: solvers.NDTM(n_steps=n // INNER, n_inner=INNER, weights="ddim", weight=50.0),
}


def standin(x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """A network of one multiplication: about 8 microseconds."""
    return 0.9 * x_t


class Plain(iv.Prior):
    """A network as a prior, without any wrapper."""

    def __init__(self, network: Network, shape: tuple[int, ...]) -> None:
        self.schedule, self.network, self.shape = iv.DDPMSchedule(), network, shape

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return self.network(x_t, *self.schedule(t))


@dataclass(frozen=True)
class Setting:
    """A network, the shape and number of images, and the steps (for NDTM: inner updates, five per step)."""

    network: Network = standin
    shape: tuple[int, int, int] = (3, 64, 64)
    batch: int = 1
    steps: int = 100
    prior: iv.Prior | None = None

    def problem(self) -> iv.Problem:
        """Random images with half of the pixels missing."""
        generator = torch.Generator().manual_seed(0)
        operator = operators.Inpainting(self.shape, torch.rand(self.shape[1:], generator=generator) > 0.5)
        y = operator(torch.rand(self.batch, *self.shape, generator=generator))
        prior = self.prior or Plain(self.network, self.shape)
        return iv.Problem(prior, costs.GaussianLikelihood(operator, y, SIGMA))


def contenders(name: str, setting: Setting, who: Sequence[str] = WHO) -> dict[str, Callable[[], object]]:
    """Runs of one solver's method, by library."""
    problem = setting.problem()
    data = problem.linear_data
    mask = data.operator(torch.ones(1, *setting.shape))[0]
    own = Data(mask, data.y, 2 * SIGMA)
    schedule, solver = problem.prior.schedule, SOLVERS[name](setting.steps)
    found: dict[str, Callable[[], object]] = {
        "bare": lambda: LOOPS[name](lambda x, t: setting.network(x, *schedule(t)), own, setting.steps),
        "invsolve": lambda: iv.solve(problem, solver),
    }
    if "azula" in who and name in ("dps", "pigdm", "diffpir"):
        found["azula"] = _azula(name, own, setting)
    if "deepinv" in who and name in ("dps", "pigdm", "ddrm", "diffpir"):
        found["deepinv"] = _deepinv(name, problem, setting)
    return found


def _azula(name: str, data: Data, setting: Setting) -> Callable[[], object]:
    from azula.denoise import Denoiser, DiracPosterior
    from azula.guidance.diffpir import DiffPIRDenoiser
    from azula.guidance.dps import DPSSampler
    from azula.guidance.pgdm import PGDMSampler
    from azula.noise import VPSchedule
    from azula.sample import DDIMSampler

    plain = setting.network is standin

    class Own(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = VPSchedule()

        def forward(self, x_t: Tensor, t: Tensor, **kwargs: Any) -> DiracPosterior:
            if plain:
                return DiracPosterior(mean=0.9 * x_t)
            alpha, sigma = self.schedule(t)
            return DiracPosterior(mean=setting.network(x_t, float(alpha), float(sigma)))

    mask, y = data.mask, data.y
    options: dict[str, Any] = {"steps": setting.steps, "silent": True}
    if name == "dps":
        sampler: Any = DPSSampler(Own(), y, lambda x: mask * x, **options)
    elif name == "pigdm":
        sampler = PGDMSampler(Own(), y, lambda x: mask * x, lambda v: mask * v, eta=1.0, **options)
    else:
        guided = DiffPIRDenoiser(Own(), y, lambda x: mask * x, data.sigma**2, lmbda=1.0)
        sampler = DDIMSampler(guided, eta=0.1, **options)
    return lambda: sampler(torch.randn_like(y))


def _deepinv(name: str, problem: iv.Problem, setting: Setting) -> Callable[[], object]:
    import deepinv
    import numpy as np

    dinv: Any = deepinv  # its annotations are only the types of the defaults
    plain = setting.network is standin

    class Own(dinv.models.Denoiser):
        def forward(self, x: Tensor, sigma: Any, *args: Any, **kwargs: Any) -> Tensor:
            if plain:
                return 0.9 * x
            level = 2 * (float(sigma.flatten()[0]) if isinstance(sigma, Tensor) else float(sigma))
            scale = (1 + level**2) ** -0.5  # on a variance-preserving schedule
            x0 = setting.network(scale * (2 * x.float() - 1), scale, scale * level)
            return ((x0 + 1) / 2).to(x.dtype)

    likelihood = problem.cost
    assert isinstance(likelihood, costs.GaussianLikelihood)
    y = likelihood.measurement
    mask = likelihood.operator(torch.ones(1, *setting.shape))[0]
    physics = dinv.physics.Inpainting(setting.shape, mask=mask, noise_model=dinv.physics.GaussianNoise(SIGMA))
    shape, n = tuple(y.shape), setting.steps + 1  # it makes one call fewer than it has times
    if name == "dps":
        model = dinv.sampling.DPS(Own(), num_steps=n)
        return lambda: model(y, physics, x_init=shape)
    if name == "pigdm":
        fidelity = dinv.sampling.noisy_datafidelity.PiGDMDataFidelity()
        solver = dinv.sampling.sde_solver.DDPMSolver(timesteps=torch.linspace(1, 0, n, dtype=torch.float64))
        sde = dinv.sampling.VariancePreservingDiffusion(alpha=1.0)
        model = dinv.sampling.PosteriorDiffusion(fidelity, denoiser=Own(), sde=sde, solver=solver)
        return lambda: model(y, physics, x_init=shape)
    if name == "ddrm":
        model = dinv.sampling.DDRM(Own(), sigmas=np.linspace(1, 0, n))
    else:
        model = dinv.sampling.DiffPIR(Own(), dinv.optim.data_fidelity.L2(), sigma=SIGMA, max_iter=setting.steps)
    return lambda: model(y.clone(), physics)
