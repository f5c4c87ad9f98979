"""Every registered scale rule keeps what solvers promise: a sample is its own, a run resumes, settings are checked."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import toy

import invsolve as iv
from invsolve import solvers
from invsolve.solvers import SCALES
from invsolve.solvers.steps.scales import At, ScaleRule, parse_scale
from invsolve.testing import check_solver

NORMS = torch.tensor([0.0, 1e-3, 0.7, 30.0], dtype=torch.float64)


def follow(rule: ScaleRule, norms: torch.Tensor, n: int = 5) -> list[torch.Tensor]:
    """lambda at each step of a run whose gradients grow."""
    memory, found = rule.start(len(norms), norms), []
    for k in range(n):
        lam, memory = rule((k + 1) * norms, At(1 - k / n, k, n), memory)
        found.append(lam)
    assert all(len(value) == len(norms) and key.startswith("scale.") for key, value in memory.items())
    return found


@pytest.mark.parametrize("name", sorted(SCALES))
def test_a_rule_gives_each_row_its_own_finite_scale(name):
    rule = SCALES[name](2.0)
    whole = follow(rule, NORMS)
    for lam in whole:
        assert lam.shape == NORMS.shape
        assert lam.dtype == NORMS.dtype
        assert torch.isfinite(lam).all()
        assert (lam >= 0).all()
    for row in range(len(NORMS)):
        alone = follow(rule, NORMS[row : row + 1])
        assert all(torch.equal(one, lam[row : row + 1]) for one, lam in zip(alone, whole, strict=True))
    assert follow(rule, NORMS.float())[0].dtype == torch.float32
    x0 = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(rule.limit(x0)[2:3], rule.limit(x0[2:3]))


@pytest.mark.parametrize("name", sorted(SCALES))
def test_a_solver_with_the_rule_keeps_its_contract(name):
    check_solver(solvers.Guidance(SCALES[name](0.3), n_steps=6)).raise_if_failed()


@pytest.mark.parametrize("name", sorted(SCALES))
def test_a_rule_is_read_from_text_and_refuses_what_is_no_number(name):
    assert parse_scale(f"{name}:3") == SCALES[name](3.0)
    first = dataclasses.fields(SCALES[name])[0].name
    for wrong in (math.nan, math.inf, "x", -1.0):
        with pytest.raises(iv.InputError, match=f"^{first} must"):
            SCALES[name](wrong)


@pytest.mark.parametrize("name", sorted(SCALES))
def test_rules_that_change_the_estimate_are_for_guidance_alone(name):
    rule = SCALES[name](1.0)
    if type(rule).limit is ScaleRule.limit:
        assert iv.solve(iv.Problem(toy.gaussian(), toy.likelihood(1)), solvers.DPS(n_steps=3, scale=rule)).ok
    else:
        with pytest.raises(iv.InputError, match="rule for lengths"):
            solvers.DPS(scale=rule)
