"""Conjugate gradients, row by row."""

from __future__ import annotations

import torch

from invsolve.core.linalg import conjugate_gradient

G = torch.Generator().manual_seed(0)
BASIS = torch.linalg.qr(torch.randn(40, 40, generator=G, dtype=torch.float64))[0]
VALUES = torch.cat([torch.logspace(0, -3, 20, dtype=torch.float64), torch.zeros(20, dtype=torch.float64)])
SINGULAR = BASIS * VALUES @ BASIS.T


def test_every_row_is_its_own_system_and_a_singular_one_gives_the_smallest_solution():
    b = torch.randn(3, 40, generator=G, dtype=torch.float64) @ SINGULAR
    b[1] = 0.0
    scale = torch.tensor([[1.0], [5.0], [0.01]], dtype=torch.float64)
    out = conjugate_gradient(lambda v: scale * (v @ SINGULAR), b)
    torch.testing.assert_close(out.x, b @ torch.linalg.pinv(SINGULAR, rtol=1e-10) / scale, rtol=1e-6, atol=1e-8)
    assert (out.residual <= 1e-12).all()


def test_an_inexact_singular_system_keeps_its_best_solution():
    """What a float32 table inside an operator does: the range is right to 1e-7, and the null space is not quite one."""
    wrong = SINGULAR + 1e-8 * torch.randn(40, 40, generator=G, dtype=torch.float64)
    b = torch.randn(2, 40, generator=G, dtype=torch.float64) @ SINGULAR
    out = conjugate_gradient(lambda v: v @ wrong, b)
    smallest = b @ torch.linalg.pinv(SINGULAR, rtol=1e-10)
    assert (out.residual < 1e-4).all()
    assert ((out.x - smallest).norm(dim=1) < 0.05 * smallest.norm(dim=1)).all()
    torch.testing.assert_close((b - out.x @ wrong).norm(dim=1) / b.norm(dim=1), out.residual, rtol=1e-2, atol=1e-8)


def test_what_is_not_a_number_stays_to_be_seen():
    b = torch.ones(2, 40, dtype=torch.float64) @ SINGULAR
    out = conjugate_gradient(lambda v: v @ SINGULAR * torch.tensor([[1.0], [torch.nan]], dtype=torch.float64), b)
    assert torch.isfinite(out.x[0]).all()
    assert torch.isnan(out.x[1]).all()
