"""deepinv 0.5: its unmodified DPS, PiGDM, moment matching, DDRM and DiffPIR."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invsolve.bench.peers.seen import physics_of
from invsolve.bench.peers.task import Sampler, Task, Unable
from invsolve.core.svd import SVDOperator
from invsolve.operators import Denoising, Inpainting
from invsolve.operators.blur import CircularBlur

__all__ = ["ddrm", "diffpir", "dps", "guided", "physics_for"]


def _denoiser(task: Task) -> Any:
    from deepinv.models import Denoiser

    low, width = task.problem.prior.value_range[0], task.problem.width

    class Analytic(Denoiser):
        def forward(self, x: Tensor, sigma: Any, *args: Any, **kwargs: Any) -> Tensor:
            level = float(sigma.flatten()[0]) if isinstance(sigma, Tensor) else float(sigma)
            return ((task.denoise(x * width + low, level * width) - low) / width).to(x.dtype)

    return Analytic()


def physics_for(task: Task, *, decomposable: bool = False) -> Any:
    """Return deepinv's own physics if it has the same operator, checked on noise; else a wrapper of the operator."""
    import deepinv

    dinv: Any = deepinv  # its annotations only give the types of the defaults
    operator, noise = task.operator, dinv.physics.GaussianNoise(task.sigma)
    theirs = physics_of(operator)
    if theirs is not None and (not decomposable or isinstance(theirs, dinv.physics.DecomposablePhysics)):
        physics = theirs.clone()
        physics.noise_model = noise
        return physics
    if isinstance(operator, Denoising):
        return dinv.physics.Denoising(noise)
    physics = None
    if isinstance(operator, Inpainting) and len(operator.constants["mask"]) == 1:
        mask = operator.constants["mask"][0].expand(operator.in_shape).float()
        physics = dinv.physics.Inpainting(operator.in_shape, mask=mask, noise_model=noise)
    elif isinstance(operator, CircularBlur) and len(operator.kernel) == 1:
        kernel = operator.kernel.float().flip(-2, -1)
        physics = dinv.physics.BlurFFT(operator.in_shape, filter=kernel, noise_model=noise)
    if physics is not None:
        probe = torch.rand(2, *operator.in_shape, generator=torch.Generator().manual_seed(0))
        worst = (physics.A(probe) - operator(probe)).abs().max().item()
        if worst > 1e-5:
            raise Unable(f"its {type(physics).__name__} differs from our {type(operator).__name__} by {worst:.1e}")
        return physics
    if not decomposable:
        return dinv.physics.LinearPhysics(
            A=lambda x, **_: operator(x), A_adjoint=lambda y, **_: operator.adjoint(y), noise_model=noise
        )
    if not isinstance(operator, SVDOperator):
        raise Unable("it needs an operator with a singular value decomposition")
    spectrum = operator.singular_values.float()[None]
    return dinv.physics.DecomposablePhysics(
        U=operator.U, U_adjoint=operator.Ut, V=operator.V, V_adjoint=operator.Vt, mask=spectrum, noise_model=noise
    )


def dps(**settings: Any) -> Sampler:
    """DPS of deepinv."""

    def sample(task: Task) -> Tensor:
        from deepinv.sampling import DPS

        model = DPS(_denoiser(task), num_steps=task.steps, **settings)
        shape = (task.rows, *task.problem.state_shape)
        return model(task.measured, physics_for(task), x_init=shape)

    return sample


def guided(kind: str, **settings: Any) -> Sampler:
    """PiGDM or moment matching on the VP SDE with the DDPM solver, built like the DPS of deepinv."""

    def sample(task: Task) -> Tensor:
        from deepinv.sampling import PosteriorDiffusion, VariancePreservingDiffusion, noisy_datafidelity, sde_solver

        fidelity = getattr(noisy_datafidelity, kind)(**settings)
        solver = sde_solver.DDPMSolver(timesteps=torch.linspace(1, 0, task.steps, dtype=torch.float64))
        model = PosteriorDiffusion(
            fidelity, denoiser=_denoiser(task), sde=VariancePreservingDiffusion(alpha=1.0), solver=solver
        )
        shape = (task.rows, *task.problem.state_shape)
        return model(task.measured, physics_for(task), x_init=shape)

    return sample


def ddrm(task: Task) -> Tensor:
    """DDRM of deepinv."""
    import numpy as np
    from deepinv.sampling import DDRM

    model = DDRM(_denoiser(task), sigmas=np.linspace(1, 0, task.steps))
    return model(task.measured, physics_for(task, decomposable=True))


def diffpir(task: Task) -> Tensor:
    """DiffPIR of deepinv."""
    from deepinv.optim.data_fidelity import L2
    from deepinv.sampling import DiffPIR

    model = DiffPIR(_denoiser(task), L2(), sigma=task.sigma, max_iter=task.steps)
    return model(task.measured, physics_for(task))
