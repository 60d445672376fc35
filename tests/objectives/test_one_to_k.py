"""1-to-K against a loop, its limits, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import InfoNCE, LearnableTemperature
from nearfar.objectives.logsumexp import small_tiles
from nearfar.objectives.one_to_k import OneToK, one_to_k_loss
from nearfar.testing import LargestTensor


def draws(
    num: int = 5, more: int = 3, dim: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(num)
    first = torch.randn(num, dim, generator=rng, dtype=torch.float64)
    keys = first + torch.randn(more, num, dim, generator=rng, dtype=torch.float64)
    return first.to(dtype).requires_grad_(), keys.to(dtype).requires_grad_()


def slow(first: Tensor, more: Tensor, temperature: float, k_reduction: str) -> float:
    """The definition, one pair at a time."""
    q, k = F.normalize(first.detach()), F.normalize(more.detach(), dim=-1)
    num_views, num = k.shape[:2]

    def e(i: int, c: int, j: int) -> float:
        return math.exp(float(q[i] @ k[c, j]) / temperature)

    rows = keys = 0.0
    for i in range(num):
        everything = sum(e(i, c, j) for c in range(num_views) for j in range(num))
        of_row = [-math.log(e(i, c, i) / everything) for c in range(num_views)]
        rows += sum(of_row) / (num_views if k_reduction == "mean" else 1) / num
        for c in range(num_views):
            keys -= math.log(e(i, c, i) / sum(e(j, c, i) for j in range(num))) / (num * num_views)
    return (rows + keys) / 2


@pytest.mark.parametrize("edge", [None, 1, 4])
@pytest.mark.parametrize("k_reduction", ["mean", "sum"])
@pytest.mark.parametrize(("more", "temperature"), [(1, 0.1), (2, 0.05), (3, 1.0)])
def test_equals_the_definition(more: int, temperature: float, k_reduction: Any, edge: int | None) -> None:
    first, keys = draws(more=more)
    loss = OneToK(temperature, k_reduction)
    with small_tiles(edge):
        found = loss(first, keys).item()
    assert found == pytest.approx(slow(first, keys, temperature, k_reduction), rel=1e-10)
    order = torch.tensor([3, 1, 0, 2, 4])
    assert loss(first[order], keys[:, order].flip(0)).item() == pytest.approx(found, rel=1e-10)


@pytest.mark.parametrize("k_reduction", ["mean", "sum"])
def test_one_view_is_the_symmetric_loss(k_reduction: Any) -> None:
    first, keys = draws(more=1)
    expected = InfoNCE(0.1, symmetric=True)(first, keys[0])
    torch.testing.assert_close(OneToK(0.1, k_reduction)(first, keys), expected, rtol=1e-12, atol=0)


def test_equal_rows() -> None:
    first, keys = torch.ones(5, 4), torch.ones(3, 5, 4)
    assert one_to_k_loss(first, keys).item() == pytest.approx((math.log(15) + math.log(5)) / 2)
    expected = (3 * math.log(15) + math.log(5)) / 2
    assert one_to_k_loss(first, keys, k_reduction="sum").item() == pytest.approx(expected)


def test_derivatives() -> None:
    inputs = draws(3, 2, 3)
    assert torch.autograd.gradcheck(lambda *x: one_to_k_loss(*x, temperature=0.5), inputs)
    with small_tiles(2):
        assert torch.autograd.gradcheck(lambda *x: one_to_k_loss(*x, k_reduction="sum"), inputs)
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: one_to_k_loss(*inputs, temperature=t), (temperature,))
    learned = LearnableTemperature(0.5)
    OneToK(learned)(*inputs).backward()
    assert learned.log_scale.grad is not None
    assert learned.log_scale.grad != 0


def test_no_table_of_all_pairs() -> None:
    first, keys = draws(4096, 2, 4, torch.float32)
    with small_tiles(256), LargestTensor() as memory:
        one_to_k_loss(first, keys).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    inputs = draws(8, dtype=torch.bfloat16)
    expected = one_to_k_loss(*(x.float() for x in inputs))
    torch.testing.assert_close(one_to_k_loss(*inputs), expected, rtol=0, atol=0)


def test_bad_arguments_are_named() -> None:
    first, keys = draws()
    for bad in (keys[0], keys[:, :4], keys[:0], keys.float(), keys * math.nan):
        with pytest.raises(ValueError, match="more: "):
            one_to_k_loss(first, bad)
    with pytest.raises(ValueError, match="k_reduction: 'mean' or 'sum'"):
        OneToK(k_reduction="median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="temperature: "):
        one_to_k_loss(first, keys, temperature=-1.0)
