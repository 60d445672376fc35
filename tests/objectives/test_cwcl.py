"""CWCL against a dense loop over weights, its limits, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import InfoNCE, LearnableTemperature
from nearfar.objectives.cwcl import CWCL
from nearfar.objectives.logsumexp import small_tiles
from nearfar.testing import LargestTensor


def draws(num: int = 6, dim: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(num)
    first, second, side = (torch.randn(num, d, generator=rng, dtype=torch.float64) for d in (dim, dim, 5))
    return first.to(dtype).requires_grad_(), second.to(dtype).requires_grad_(), side.to(dtype)


def slow(first: Tensor, second: Tensor, side: Tensor, temperature: float) -> float:
    """The definition, one pair at a time."""
    q, k, p = (F.normalize(x.detach()) for x in (first, second, side))
    num, loss = len(q), 0.0
    s = [[float(q[i] @ k[j]) / temperature for j in range(num)] for i in range(num)]
    for i in range(num):
        weights = [(1 + float(p[i] @ p[j])) / 2 for j in range(num)]
        total = math.log(sum(math.exp(x) for x in s[i]))
        loss -= sum(w * (x - total) for w, x in zip(weights, s[i], strict=True)) / sum(weights)
        loss -= s[i][i] - math.log(sum(math.exp(s[j][i]) for j in range(num)))
    return loss / (2 * num)


@pytest.mark.parametrize("edge", [None, 1, 4])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_equals_the_definition(temperature: float, edge: int | None) -> None:
    first, second, side = draws()
    with small_tiles(edge):
        found = CWCL(temperature)(first, second, side).item()
    assert found == pytest.approx(slow(first, second, side, temperature), rel=1e-10)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    again = CWCL(temperature)(first[order], second[order], 9 * side[order]).item()
    assert again == pytest.approx(found, rel=1e-10)


def test_limits() -> None:
    first, second, side = draws()
    ones = torch.ones(6, 3, dtype=torch.float64)
    assert CWCL()(ones, ones, side).item() == pytest.approx(math.log(6))
    # Two rows whose frozen features are opposite: their weight is 0, and what is left is InfoNCE.
    opposite = torch.tensor([[2.0, 0], [-1, 0]], dtype=torch.float64)
    expected = InfoNCE(symmetric=True)(first[:2], second[:2])
    torch.testing.assert_close(CWCL()(first[:2], second[:2], opposite), expected)
    # All frozen features equal: uniform targets, whose row loss is least, log N, where logits are equal.
    q = first.detach().requires_grad_()
    rows = 2 * CWCL(1.0)(q, ones, ones) - InfoNCE(1.0)(ones, q)
    assert rows.item() == pytest.approx(math.log(6))
    (grad,) = torch.autograd.grad(rows, q)
    assert grad.abs().max() < 1e-12
    assert (2 * CWCL(1.0)(first, second, ones) - InfoNCE(1.0)(second, first)).item() > math.log(6)


def test_rows_of_the_second_view_have_hard_targets() -> None:
    first, second, side = draws()
    assert CWCL()(first, second, side).item() != pytest.approx(CWCL()(second, first, side).item(), rel=1e-4)


def test_derivatives_and_frozen_side() -> None:
    first, second, side = draws(4)
    assert torch.autograd.gradcheck(lambda a, b: CWCL(0.5)(a, b, side), (first, second))
    with small_tiles(3):
        assert torch.autograd.gradcheck(lambda a, b: CWCL(0.5)(a, b, side), (first, second))
    side.requires_grad_()
    CWCL()(first, second, side).backward()
    assert side.grad is None
    temperature = LearnableTemperature(0.5)
    CWCL(temperature)(first.detach(), second.detach(), side).backward()
    assert temperature.log_scale.grad is not None
    assert temperature.log_scale.grad != 0


def test_no_table_of_all_pairs() -> None:
    first, second, side = draws(4096, 4, torch.float32)
    with small_tiles(256), LargestTensor() as memory:
        CWCL()(first, second, side).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    inputs = draws(8, dtype=torch.bfloat16)
    expected = CWCL()(*(x.float() for x in inputs))
    torch.testing.assert_close(CWCL()(*inputs), expected, rtol=0, atol=0)


def test_bad_arguments_are_named() -> None:
    first, second, side = draws()
    for bad in (side[:5], side[0], side.long(), side * math.nan):
        with pytest.raises(ValueError, match="side: "):
            CWCL()(first, second, bad)
    with pytest.raises(ValueError, match="second: shape"):
        CWCL()(first, second[:5], side)
    with pytest.raises(ValueError, match="temperature: a positive"):
        CWCL(0.0)
