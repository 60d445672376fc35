"""Sums over pairs of a product of three against the whole table of products."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nearfar.objectives import row_tiles
from nearfar.objectives.triple_sums import log_sums_over_pairs
from nearfar.testing import LargestTensor, draw

SIZES = (5, 7, 3)


def factors(scale: float = 1.0, sizes: tuple[int, ...] = SIZES, dim: int = 4) -> list[Tensor]:
    return [(scale * draw(size, dim, seed=i)).requires_grad_() for i, size in enumerate(sizes)]


def whole(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    """From all products at once."""
    products = torch.einsum("id,ad,bd->iab", x, y, z)
    return [products.logsumexp(others) for others in ((1, 2), (0, 2), (0, 1))]


# 7 numbers for a pair of rows, 49 for a row of the first with all of the second.
@pytest.mark.parametrize("numbers", [1, 7, 20, 49, 100, 2**22])
@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_equals_the_whole_table(scale: float, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    given = factors(scale)
    assert torch.einsum("id,ad,bd->iab", *given).abs().max() > (2 if scale == 1 else 1000)  # exp overflows
    upstream = [draw(size, seed=9 + i) for i, size in enumerate(SIZES)]
    found, expected = log_sums_over_pairs(*given), whole(*given)
    torch.testing.assert_close(list(found), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(found, given, upstream),
        torch.autograd.grad(expected, given, upstream),
        rtol=1e-9,
        atol=1e-10,
    )


def test_one_of_the_three_alone_has_its_gradient() -> None:
    given = factors()
    for found, expected in zip(log_sums_over_pairs(*given), whole(*given), strict=True):
        grads = (torch.autograd.grad(x.sum(), given, retain_graph=True) for x in (found, expected))
        torch.testing.assert_close(*grads)


def test_numeric_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 20)
    assert torch.autograd.gradcheck(log_sums_over_pairs, factors())


def test_backward_under_autocast_is_exact() -> None:
    given = [x.detach().float().requires_grad_() for x in factors()]
    total = torch.cat(log_sums_over_pairs(*given)).sum()
    expected = torch.autograd.grad(total, given, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(total, given)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_memory_is_that_of_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2048)
    given = factors(sizes=(96, 96, 96))
    with LargestTensor() as memory:
        torch.cat(log_sums_over_pairs(*given)).sum().backward()
    assert 1800 < memory.numbers <= 2048 < 96**2 / 4


def test_second_derivatives_are_refused() -> None:
    given = factors()
    (grad,) = torch.autograd.grad(log_sums_over_pairs(*given)[0].sum(), given[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        grad.sum().backward()
