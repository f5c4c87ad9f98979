"""The templates of `invsolve new`: for each kind of part its module, its test, and the package description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["PYPROJECT", "README", "TEMPLATES", "Template"]


class Template(NamedTuple):
    """The texts of a package; {module}, {dashed} and {title} are replaced by its name in three spellings."""

    description: str
    module: str
    test: str


PYPROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{dashed}"
version = "0.1.0"
description = "{description} for invsolve"
requires-python = ">=3.11"
dependencies = ["invsolve"]

[project.entry-points."invsolve.{kind}s"]
{dashed} = "{module}:{title}"

[tool.setuptools]
py-modules = ["{module}"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""

README = """# {dashed}

    pip install -e .
    invsolve check {dashed}        # checks what invsolve relies on; without installing: invsolve check {module}:{title}
    pytest
"""

OPERATOR = '''"""A forward operator for invsolve: replace `forward` (and what it needs) by your own."""

from __future__ import annotations

from torch import Tensor

from invsolve import LinearOperator


class {title}(LinearOperator):
    """Keeps every other line: y = x[0::2].

    A non-linear operator derives from `invsolve.Operator` instead. The adjoint, pseudo-inverse and normal solves of a
    linear one are derived; give faster ones by overriding `adjoint`, `pinv` and `solve_normal`. Draw what is random
    here, once; keep tensors in `invsolve.core.constants.Constants`, so that they follow the image's precision.

    Args:
        in_shape: (channels, height, width) of one image, in [0, 1].
    """

    def __init__(self, in_shape: tuple[int, int, int]) -> None:
        channels, height, width = in_shape
        self.in_shape, self.out_shape = tuple(in_shape), (channels, (height + 1) // 2, width)

    def forward(self, x: Tensor, theta={{}}) -> Tensor:
        return x[:, :, 0::2]
'''

OPERATOR_TEST = '''"""The operator keeps what solvers rely on, and a solver restores with it."""

import torch

import invsolve as iv
from invsolve import costs, priors, solvers
from invsolve.testing import check_operator
from {module} import {title}


def test_contract():
    check_operator({title}((3, 8, 8))).raise_if_failed()


def test_a_solver_takes_it():
    operator = {title}((1, 4, 4))
    prior = priors.GaussianPrior(torch.full((1, 4, 4), 0.5), 0.05 * torch.eye(16))
    y = operator(torch.full((1, 1, 4, 4), 0.6))
    problem = iv.Problem(prior, costs.GaussianLikelihood(operator, y, 0.05))
    result = iv.solve(problem, solvers.NDTM(n_steps=4, n_inner=1))
    assert result.ok
'''

SOLVER = '''"""A solver for invsolve: replace `step` (and what it needs) by your own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from invsolve import Info, Needs, Problem, Solver, State
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import path
from invsolve.core.settings import AtLeastZero, Count


@dataclass(frozen=True)
class {title}(Solver):
    """Deterministic sampling whose clean estimate is moved down the data misfit at each step:

        p   = x0 - weight / 2 grad |y - A x0|^2,    x0 = E[x0 | x_t]
        x_s = alpha_s p + sigma_s (x_t - alpha_t p) / sigma_t

    For costs other than Gaussian likelihoods the misfit is the energy. Norms and stopping rules must be a sample's own;
    noise comes from `rng`; all that the next step needs is in the state.

    Args:
        n_steps: network calls.
        weight: size of the move; 1 projects where A^T A is a projection.
    """

    n_steps: Count = 50
    weight: AtLeastZero = 0.5

    name = "{dashed}"
    cite = "Authors, year, arXiv id"
    needs = Needs()
    differentiates = False

    def steps(self, problem: Problem) -> int:
        return self.n_steps

    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        now = path(problem.prior.schedule, self.n_steps)[0]
        return State((now.alpha_t**2 + now.sigma_t**2) ** 0.5 * rng.normal(problem.empty(n)))

    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        now = path(problem.prior.schedule, self.n_steps)[state.k]
        x0 = problem.prior.denoise(state.x, now.t)
        with torch.enable_grad():
            free = x0.detach().requires_grad_()
            misfit = problem.misfit(free)
            (slope,) = torch.autograd.grad(misfit.sum(), free)
        p = x0 - 0.5 * self.weight * slope
        eps = (state.x - now.alpha_t * p) / now.sigma_t
        return State(now.alpha_s * p + now.sigma_s * eps, state.k + 1), Info(p, misfit.detach())
'''

SOLVER_TEST = '''"""The solver keeps what `solve` promises, and its restorations beat the prior's mean."""

from invsolve import solve
from invsolve.testing import check_solver
from invsolve.testing.solvers import small_problem
from {module} import {title}


def test_contract():
    check_solver({title}(n_steps=8)).raise_if_failed()


def test_it_fits_the_measurement_better_than_the_prior_does():
    problem = small_problem()
    restored = solve(problem, {title}(n_steps=20), seed=0)
    free = solve(problem, {title}(n_steps=20, weight=0.0), seed=0)
    assert restored.ok
    assert restored.energy.mean() < free.energy.mean()
'''

PRIOR = '''"""A prior for invsolve: replace `denoise` (and what it needs) by your own.

A torch network needs no class: `priors.NetworkPrior(module, "eps", schedule, value_range=(-1, 1))` states what it
predicts, the schedule of its training and the range of its images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve import DDPMSchedule, Prior, Schedule


class {title}(Prior):
    """The Gaussian law of images whose power falls with the third power of the frequency, as in photographs:

        E[x0 | x_t] = m + F^-1 alpha P / (alpha^2 P + sigma^2) F (x_t - alpha m),    m = 1/2

    Args:
        contrast: standard deviation of a pixel, in [0, 1] units.
        schedule: alpha and sigma over time; the DDPM table if not given.
    """

    value_range, bounded, shape = (0.0, 1.0), False, None

    def __init__(self, contrast: float = 0.12, schedule: Schedule | None = None) -> None:
        self.contrast, self.schedule = contrast, schedule or DDPMSchedule()

    def __repr__(self) -> str:
        return f"{title}(contrast={{self.contrast}}, schedule={{self.schedule!r}})"

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        alpha, sigma = self.schedule(t)
        power = self._power(x_t)
        gain = alpha * power / (alpha**2 * power + sigma**2)
        spectrum = torch.fft.fft2(x_t - 0.5 * alpha, norm="ortho")
        return 0.5 + torch.fft.ifft2(gain * spectrum, norm="ortho").real

    def _power(self, x: Tensor) -> Tensor:
        rows, columns = (torch.fft.fftfreq(size, dtype=x.dtype, device=x.device) for size in x.shape[-2:])
        power = (rows[:, None] ** 2 + columns**2 + 1e-3) ** -1.5
        return self.contrast**2 * power / power.mean()
'''

PRIOR_TEST = '''"""The prior is what it is declared to be, and a solver restores with it."""

import torch

import invsolve as iv
from invsolve import costs, operators, solvers
from invsolve.testing import check_prior
from {module} import {title}


def test_contract():
    check_prior({title}()).raise_if_failed()


def test_a_solver_takes_it():
    operator = operators.Inpainting.random((1, 16, 16), 0.5, rng=iv.Rng(0))
    truth = torch.linspace(0.3, 0.7, 16).expand(1, 1, 16, 16)
    problem = iv.Problem({title}(), costs.GaussianLikelihood(operator, operator(truth), 0.01))
    result = iv.solve(problem, solvers.PnPHQS(n_steps=8))
    assert result.ok
    assert float((result.mean - truth).abs().mean()) < 0.05
'''

COST = '''"""A likelihood for invsolve: replace the density and its draws by your own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from invsolve import Likelihood, Operator
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import Range, check_settings


@dataclass(frozen=True, eq=False)
class {title}(Likelihood):
    """y = A(x) + width n with n from Student's t of three degrees of freedom, for noise with outliers:

        -log p = sum [ 2 log(1 + r^2 / 3) + log(width) + log(pi sqrt(3) / 2) ],   r = (y - A(x)) / width

    A cost that is not a likelihood derives from `invsolve.TerminalCost` and needs `__call__` alone.

    Args:
        operator: A, with real outputs.
        y: measurements [B, *operator.out_shape], or None for a likelihood that only simulates.
        width: in [0, 1] units, above 0: a number or one for each item [B].
    """

    operator: Operator
    y: Tensor | None
    width: Annotated[float | Tensor, Range(0, above=True)] = 0.05

    per_item = ("width",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)

    def __call__(self, x: Tensor, theta={{}}) -> Tensor:
        residual = self.residual(x, theta).flatten(1)
        width = self._width(residual)
        terms = 2 * torch.log1p((residual / width).square() / 3) + torch.log(width) + math.log(math.pi * 3**0.5 / 2)
        return terms.sum(1)

    def simulate(self, x: Tensor, rng: NoiseSource, theta={{}}) -> Tensor:
        clean = self.operator(x, theta)
        squares = torch.stack([rng.normal(clean).square() for _ in range(3)]).mean(0)
        noise = rng.normal(clean) / squares.sqrt()
        return clean + (self._width(clean.flatten(1)) * noise.flatten(1)).view_as(clean)

    def _width(self, like: Tensor) -> Tensor:
        """One width a row, [N, 1]."""
        return torch.as_tensor(self.width, dtype=like.dtype, device=like.device).reshape(-1, 1)
'''

COST_TEST = '''"""The likelihood is the density it claims to be, and a solver restores with it."""

import torch

import invsolve as iv
from invsolve import operators, priors, solvers
from invsolve.testing import check_cost
from {module} import {title}

A = operators.GaussianBlur((1, 6, 6), 1.0)


def test_contract():
    check_cost({title}(A, None, 0.1)).raise_if_failed()
    y = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    check_cost({title}(A, y, torch.tensor([0.05, 0.1, 0.2]))).raise_if_failed()


def test_a_solver_takes_it():
    prior = priors.GaussianPrior(torch.full((1, 6, 6), 0.5), 0.05 * torch.eye(36))
    y = {title}(A, None, 0.05).simulate(torch.full((2, 1, 6, 6), 0.6), iv.Rng(0))
    result = iv.solve(iv.Problem(prior, {title}(A, y, 0.05)), solvers.DPS(n_steps=20, zeta=0.01), samples=2)
    assert result.ok
'''

TEMPLATES: Mapping[str, Template] = {
    "operator": Template("A forward operator", OPERATOR, OPERATOR_TEST),
    "solver": Template("A solver", SOLVER, SOLVER_TEST),
    "prior": Template("A prior", PRIOR, PRIOR_TEST),
    "cost": Template("A likelihood", COST, COST_TEST),
}
"""Templates by kind of part."""
